/* Networks on trees, pointwise. Rows are nodes of one level; an edge joins a row to one of its children, which is a row of
 * an earlier level. Edges of one position: one for each row from the first on.
 *
 *   plain, tensor         h = f(a)
 *
 *   tree-LSTM             f = σ(p + f_x)    c += f⊙c_child                                    for each edge
 *   (Tai, Socher and      i = σ(a_i)   o = σ(a_o)   u = tanh(a_u)   c += i⊙u   h = o⊙tanh(c)
 *   Manning 2015)
 *   backward              dc += dh⊙o⊙(1 - tanh²c)    da_i = dc⊙u⊙i(1-i)    da_u = dc⊙i⊙(1-u²)
 *                         da_o = dh⊙tanh(c)⊙o(1-o)
 *                         df = dc⊙c_child⊙f(1-f)     da_f += df    dc_child = dc⊙f            for each edge
 *
 *   pairs (Socher et      z_ij = x_i·y_j             dx_i += Σ_j dz_ij·y_j   dy_j += Σ_i dz_ij·x_i
 *   al. 2013)
 *
 * Shapes: h, c, dh, dc (rows, H), row length ld; a row of a has blocks of ld: f_x, i, o, u, and for n children whose
 * products come with the others n more, p. f (edges, H), which becomes df; cells, dcells (all rows, H). x, y, dx, dy
 * (rows, H), row length ld; z, dz (rows, H²), row length ldz. `own`: where df goes, too, in rows of a; or NULL.
 */
#ifndef RNNCORE_TREES_H
#define RNNCORE_TREES_H
#include "activation.h"
#include "kernels.h"

static void tree_activate(int activation, long rows, long ld, void *y) { activate(activation, 0, rows, ld, y, ld); }

static void tree_slope(int activation, long rows, long ld, const void *y, void *d) {
    times_slope(activation, 0, rows, ld, y, d, ld);
}

static void tree_forget(long edges, long ld, const void *p_, long ldp, const void *fx_, long lda, const int64_t *child,
                        const void *cells_, void *f_, void *c_) {
    const real *p = p_, *fx = fx_, *cells = cells_;
    real *f = f_, *c = c_;
    EACH_VECTOR(edges, ld, vec gate = vsigmoid(vload(p + i * ldp + j) + vload(fx + i * lda + j));
                vstore(f + i * ld + j, gate);
                vstore(c + i * ld + j, vload(c + i * ld + j) + gate * vload(cells + child[i] * ld + j));)
}

static void tree_forget_back(long edges, long ld, const void *dc_, const int64_t *child, const void *cells_, void *f_,
                             void *fx_, void *own_, long lda, void *dcells_) {
    const real *dc = dc_, *cells = cells_;
    real *f = f_, *fx = fx_, *own = own_, *dcells = dcells_;
    const vec one = vset1(1);
    EACH_VECTOR(edges, ld, vec gate = vload(f + i * ld + j), d = vload(dc + i * ld + j);
                vec df = d * vload(cells + child[i] * ld + j) * gate * (one - gate);
                vstore(f + i * ld + j, df);
                vstore(fx + i * lda + j, vload(fx + i * lda + j) + df);
                if (own) vstore(own + i * lda + j, df);
                vstore(dcells + child[i] * ld + j, d * gate);)
}

static void tree_gates(long rows, long ld, void *a_, long lda, void *c_, void *h_) {
    real *c = c_, *h = h_;
    EACH_VECTOR(rows, ld, real *a = (real *)a_ + i * lda + j;
                vec in = vsigmoid(vload(a + ld)), out = vsigmoid(vload(a + 2 * ld)), u = vtanh(vload(a + 3 * ld));
                vec cell = vload(c + i * ld + j) + in * u;
                vstore(a + ld, in);
                vstore(a + 2 * ld, out);
                vstore(a + 3 * ld, u);
                vstore(c + i * ld + j, cell);
                vstore(h + i * ld + j, out * vtanh(cell));)
}

/* Leaves zeros in f_x and behind u: edges add there. */
static void tree_gates_back(long rows, long ld, void *a_, long lda, const void *c_, const void *dh_, void *dc_) {
    const real *c = c_, *dh = dh_;
    real *dc = dc_;
    const vec zero = vset1(0), one = vset1(1);
    EACH_VECTOR(rows, ld, real *a = (real *)a_ + i * lda + j;
                vec in = vload(a + ld), out = vload(a + 2 * ld), u = vload(a + 3 * ld);
                vec t = vtanh(vload(c + i * ld + j)), d = vload(dh + i * ld + j);
                vec dcell = vload(dc + i * ld + j) + d * out * (one - t * t);
                vstore(dc + i * ld + j, dcell);
                vstore(a, zero);
                vstore(a + ld, dcell * u * in * (one - in));
                vstore(a + 2 * ld, d * t * out * (one - out));
                vstore(a + 3 * ld, dcell * in * (one - u * u));
                for (long block = 4 * ld; block < lda; block += ld) vstore(a + block, zero);)
}

static void tree_pairs(long rows, long H, const void *x_, const void *y_, long ld, void *z_, long ldz) {
    for (long r = 0; r < rows; r++) {
        const real *x = (const real *)x_ + r * ld, *y = (const real *)y_ + r * ld;
        real *z = (real *)z_ + r * ldz;
        for (long i = 0; i < H; i++)
            for (long j = 0; j < H; j++) z[i * H + j] = x[i] * y[j];
    }
}

static void tree_pairs_back(long rows, long H, const void *x_, const void *y_, long ld, const void *dz_, long ldz,
                            void *dx_, void *dy_) {
    for (long r = 0; r < rows; r++) {
        const real *x = (const real *)x_ + r * ld, *y = (const real *)y_ + r * ld, *dz = (const real *)dz_ + r * ldz;
        real *dx = (real *)dx_ + r * ld, *dy = (real *)dy_ + r * ld;
        for (long i = 0; i < H; i++, dz += H) {
            dx[i] += (real)dot(H, dz, y);
            for (long j = 0; j < H; j++) dy[j] += dz[j] * x[i];
        }
    }
}

static const rc_tree_table tree_table = {
    .activate = tree_activate,
    .slope = tree_slope,
    .forget = tree_forget,
    .forget_back = tree_forget_back,
    .gates = tree_gates,
    .gates_back = tree_gates_back,
    .pairs = tree_pairs,
    .pairs_back = tree_pairs_back,
};
#endif
