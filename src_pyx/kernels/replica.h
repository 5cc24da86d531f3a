/* The replica's numeric code (interface and formulas: replica_api.h).
 *
 * Shapes: θ (K, N) in packed order, replica_size(K, N) numbers; product: A (M, K), C (M, N). enter: h and mask (count,
 * columns), row length ld, `rows` and `links` (count) row numbers of in and z. collect: out (count, columns), start
 * (count + 1), items as many row numbers of x as start's last says. An update's A and A2 (K, rows), B and B2 (K, columns),
 * scratch sdlm_scratch(rows, K); a table's d and e (places, columns).
 */
#ifndef RNNCORE_REPLICA_H
#define RNNCORE_REPLICA_H
#include "gemm.h"
#include "replica_api.h"
#include "updates.h"

static long replica_panel_column(long N, long panel) { return panel_vector(N, panel) * VL; }

static long replica_size(long K, long N) { return K * vectors_in(N) * VL; }

static void replica_product(const void *theta, long K, long N, long panel_from, long panel_to, long M, const void *A,
                            long lda, int from, void *C, long ldc) {
    for (long p = panel_from; p < panel_to; p++) {
        const long begin = panel_vector(N, p) * VL, nv = panel_vectors(N, p);
        const real *P = (const real *)theta + begin * K;
        const char *next = (const char *)(P + nv * VL * K);
        real *c = (real *)C + begin;
        for (long m = 0, rows, done = 0; m < M; m += rows, done++) { /* the first tiles fetch the next panel */
            rows = tile_rows(M - m);
            tiles[nv - 1][rows - 1](K, (const real *)A + m * lda, lda, P, from == RC_FROM_C ? c + m * ldc : zeros,
                                    from == RC_FROM_C ? ldc : 0, c + m * ldc, ldc,
                                    done < nv ? next + done * K * 64 : (const char *)P, 64);
        }
    }
}

static void replica_enter(long count, long from, long to, const int64_t *rows, const void *in, const int64_t *links,
                          const void *z, const void *mask, double keep, void *h, long ld) {
    const vec zero = vset1(0), factor = vset1((real)keep);
    for (long i = 0; i < count; i++) {
        const real *x = (const real *)in + (rows ? rows[i] : i) * ld;
        const real *link = links ? (const real *)z + links[i] * ld : 0, *m = mask ? (const real *)mask + i * ld : 0;
        real *out = (real *)h + i * ld;
        for (long j = from; j < to; j += VL) {
            vec a = vload(x + j);
            if (link) a += vload(link + j);
            a = vmax(zero, a) * factor;
            vstore(out + j, m ? (vec)(a * vload(m + j)) : a);
        }
    }
}

static void replica_derive(long count, long from, long to, const void *h, void *d, long ld) {
    const vec zero = vset1(0);
    for (long i = 0; i < count; i++)
        for (long j = from; j < to; j += VL) {
            real *x = (real *)d + i * ld + j;
            vstore(x, vselect(vless(zero, vload((const real *)h + i * ld + j)), vload(x), zero));
        }
}

static void replica_collect(long count, long from, long to, const int64_t *start, const int64_t *items, const void *x,
                            long ldx, void *out, long ldo) {
    for (long i = 0; i < count; i++)
        for (long j = from; j < to; j += VL) {
            vec sum = vset1(0);
            for (long n = start[i]; n < start[i + 1]; n++) sum += vload((const real *)x + items[n] * ldx + j);
            vstore((real *)out + i * ldo + j, sum);
        }
}

/* A rule's scalars as vectors. */
typedef struct {
    vec a, b, not_a, not_b, rate, mu, inverse_n, decay;
} rule_vectors;

INLINE rule_vectors vectors_of(const rc_sdlm *r) {
    return (rule_vectors){vset1((real)r->a),    vset1((real)r->b),  vset1((real)(1 - r->a)),   vset1((real)(1 - r->b)),
                          vset1((real)r->rate), vset1((real)r->mu), vset1((real)r->inverse_n), vset1((real)r->decay)};
}

/* One vector of θ after the update of its accumulators. */
INLINE vec sdlm(const rule_vectors *r, const int shared, vec g, vec curvature, vec theta, real *D, real *v) {
    vec d = r->a * vload(D) + r->not_a * (curvature * r->inverse_n + r->decay);
    vec step = (g * r->inverse_n + r->decay * theta) * (r->rate / (d + r->mu));
    vec velocity = r->b * (shared ? d : vload(v)) + r->not_b * step;
    if (!shared) vstore(D, d);
    vstore(v, velocity);
    return theta - velocity;
}

INLINE double sum_of(vec x) {
    double sum = 0;
    for (int j = 0; j < VL; j++) sum += ((const real *)&x)[j];
    return sum;
}

/* Σθ² is kept for each tile, so that it does not depend on how the rows are dealt to threads. */
INLINE long row_tiles(long rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

static long replica_squares(long rows, long columns) { return row_tiles(rows) * panel_count(columns); }

static long replica_row_step(void) { return TILE_ROWS; }

static long sdlm_scratch(long rows, long K) { return 2 * K * (rows + TILE_ROWS + TILE_WIDTH) + 64; }

/* Where element (row, column) of a matrix lies in the packed order of its transpose. */
INLINE long turned_place(long rows, long columns, long row) {
    long vectors = vectors_in(rows), panels = panel_count(rows), wide = vectors % panels, each = vectors / panels;
    long vector = row / VL, panel = vector < wide * (each + 1) ? vector / (each + 1) : (vector - wide) / each;
    return panel_vector(rows, panel) * VL * columns + row - panel_vector(rows, panel) * VL;
}

INLINE long turned_width(long rows, long row) {
    long vectors = vectors_in(rows), panels = panel_count(rows), wide = vectors % panels, each = vectors / panels;
    return (row / VL < wide * (each + 1) ? each + 1 : each) * VL;
}

/* θᵀ and (θ∘θ)ᵀ of rows [m, m + count) of a panel, which begins at `begin` and whose row m is at `theta`. */
static void turn(const rc_matrix *w, long m, long count, long begin, long columns, long width, const real *theta) {
    long place = turned_place(w->rows, w->columns, m), step = turned_width(w->rows, m);
    if (count == TILE_ROWS && turned_place(w->rows, w->columns, m + count - 1) == place + count - 1) {
        real *UPDATE_RESTRICT turned = (real *)w->turned + place + begin * step;
        real *UPDATE_RESTRICT squared = (real *)w->squared + place + begin * step;
        for (long j = 0; j < columns; j++) /* the rows of a tile become neighbours */
            UNROLL for (int i = 0; i < TILE_ROWS; i++) {
                real x = theta[i * width + j];
                turned[j * step + i] = x;
                squared[j * step + i] = x * x;
            }
        return;
    }
    for (long i = 0; i < count; i++) { /* across the end of a panel of the transpose, or fewer rows */
        place = turned_place(w->rows, w->columns, m + i) + begin * (step = turned_width(w->rows, m + i));
        for (long j = 0; j < columns; j++) {
            real x = theta[i * width + j];
            ((real *)w->turned)[place + j * step] = x;
            ((real *)w->squared)[place + j * step] = x * x;
        }
    }
}

/* Updates `count` numbers of one tile, a multiple of VL; returns the sum of their squares. */
INLINE vec sdlm_numbers(const rule_vectors *r, const int shared, long count, const real *g, const real *c, real *theta,
                          real *D, real *v) {
    vec sum = vset1(0);
    for (long j = 0; j < count; j += VL) {
        vec x = sdlm(r, shared, vload(g + j), vload(c + j), vload(theta + j), D + j, v + j);
        vstore(theta + j, x);
        sum += x * x;
    }
    return sum;
}

/* Numbers beyond the last column stay zero, since products read them; returns the sum of squares anew. */
static vec clear_pads(long rows, long columns, long width, real *theta) {
    vec sum = vset1(0);
    for (long i = 0; i < rows; i++, theta += width) {
        for (long j = columns; j < width; j++) theta[j] = 0;
        for (long j = 0; j < width; j += VL) sum += vload(theta + j) * vload(theta + j);
    }
    return sum;
}

/* P = K rows of A, TILE_ROWS columns at a time. */
static void pack_columns(long M, long K, const real *A, long lda, real *P) {
    for (long k0 = 0; k0 < K; k0 += 16) { /* a few rows at a time: reads stay in cache, writes are whole lines */
        long k1 = lmin(k0 + 16, K), m = 0;
        real *q = P;
        for (; m + TILE_ROWS <= M; m += TILE_ROWS, q += K * TILE_ROWS)
            for (long k = k0; k < k1; k++) memcpy(q + k * TILE_ROWS, A + k * lda + m, TILE_ROWS * sizeof(real));
        for (long k = k0; k < k1; k++)
            for (long i = 0; m + i < M; i++) q[k * TILE_ROWS + i] = A[k * lda + m + i];
    }
}

static void sdlm_update(const rc_sdlm *rule, const rc_matrix *w, long row_from, long row_to, long K, const void *A,
                        const void *A2, long lda, const void *B, const void *B2, long ldb, void *scratch) {
    const rule_vectors r = vectors_of(rule);
    const long N = w->columns, M = row_to - row_from, packed = K * (M + TILE_ROWS);
    real *PA = scratch, *PA2 = PA + packed, *PB = PA2 + packed, *PB2 = PB + K * TILE_WIDTH;
    pack_columns(M, K, (const real *)A + row_from, lda, PA);
    if (A2)
        pack_columns(M, K, (const real *)A2 + row_from, lda, PA2);
    else
        for (long i = 0; i < packed; i++) PA2[i] = PA[i] * PA[i];
    for (long p = 0; p < panel_count(N); p++) {
        const long begin = panel_vector(N, p) * VL, nv = panel_vectors(N, p), width = nv * VL;
        const long columns = lmin(width, N - begin);
        double *squares = w->squares + p * row_tiles(w->rows);
        for (long k = 0; k < K; k++)
            for (long j = 0; j < width; j += VL) {
                vstore(PB + k * width + j, vload((const real *)B + k * ldb + begin + j));
                vstore(PB2 + k * width + j, vload((const real *)B2 + k * ldb + begin + j));
            }
        for (long m = row_from; m < row_to; m += TILE_ROWS) {
            real g[TILE_ROWS * TILE_WIDTH], c[TILE_ROWS * TILE_WIDTH];
            const long rows = lmin(TILE_ROWS, row_to - m), place = begin * w->rows + m * width;
            real *theta = (real *)w->theta + place, *D = (real *)w->D + place, *v = (real *)w->v + place;
            tile_function f = packed_tiles[nv - 1][rows - 1];
            f(K, PA + (m - row_from) * K, 0, PB, zeros, 0, g, width, (const char *)theta, 64);
            f(K, PA2 + (m - row_from) * K, 0, PB2, zeros, 0, c, width, (const char *)v, 64);
            vec sum = D == v ? sdlm_numbers(&r, 1, rows * width, g, c, theta, D, v)
                             : sdlm_numbers(&r, 0, rows * width, g, c, theta, D, v);
            if (columns < width) sum = clear_pads(rows, columns, width, theta);
            squares[m / TILE_ROWS] = sum_of(sum);
            turn(w, m, rows, begin, columns, width, theta);
        }
    }
}

/* One row: its words' gradients, if the batch has any, and the update. */
INLINE vec sdlm_row(const rule_vectors *r, const int shared, const rc_table *t, long row) {
    real *theta = (real *)t->theta + row * t->ld, *D = (real *)t->D + row * t->ld, *v = (real *)t->v + row * t->ld;
    const long from = t->start[row], to = t->start[row + 1];
    vec sum = vset1(0);
    for (long j = 0; j < t->ld; j += VL) {
        vec g = vset1(0), c = vset1(0);
        for (long n = from; n < to; n++) {
            g += vload((const real *)t->d + t->items[n] * t->ld + j);
            c += vload((const real *)t->e + t->items[n] * t->ld + j);
        }
        vec x = sdlm(r, shared, g, c, vload(theta + j), D + j, v + j);
        vstore(theta + j, x);
        sum += x * x;
    }
    return t->columns < t->ld ? clear_pads(1, t->columns, t->ld, theta) : sum;
}

static void sdlm_update_table(const rc_sdlm *rule, const rc_table *t, long from, long to) {
    const rule_vectors r = vectors_of(rule);
    for (long row = from; row < to; row++)
        t->squares[row] = sum_of(t->D == t->v ? sdlm_row(&r, 1, t, row) : sdlm_row(&r, 0, t, row));
}

static void replica_load(const rc_matrix *w, const void *plain) {
    for (long p = 0; p < panel_count(w->columns); p++) {
        const long begin = panel_vector(w->columns, p) * VL, width = panel_vectors(w->columns, p) * VL;
        const long columns = lmin(width, w->columns - begin);
        for (long m = 0; m < w->rows; m += TILE_ROWS) {
            const long rows = lmin(TILE_ROWS, w->rows - m);
            real *theta = (real *)w->theta + begin * w->rows + m * width;
            for (long i = 0; i < rows; i++)
                memcpy(theta + i * width, (const real *)plain + (m + i) * w->columns + begin, columns * sizeof(real));
            w->squares[p * row_tiles(w->rows) + m / TILE_ROWS] = sum_of(clear_pads(rows, columns, width, theta));
            turn(w, m, rows, begin, columns, width, theta);
        }
    }
}

static void replica_store(long rows, long columns, const void *packed, void *plain) {
    for (long p = 0; p < panel_count(columns); p++) {
        const long begin = panel_vector(columns, p) * VL, width = panel_vectors(columns, p) * VL;
        for (long m = 0; m < rows; m++)
            memcpy((real *)plain + m * columns + begin, (const real *)packed + begin * rows + m * width,
                   lmin(width, columns - begin) * sizeof(real));
    }
}

static const rc_replica replica_table = {
    .size = replica_size,
    .squares = replica_squares,
    .row_step = replica_row_step,
    .panels = panel_count,
    .panel_column = replica_panel_column,
    .product = replica_product,
    .enter = replica_enter,
    .derive = replica_derive,
    .collect = replica_collect,
    .update_scratch = sdlm_scratch,
    .update = sdlm_update,
    .update_table = sdlm_update_table,
    .load = replica_load,
    .store = replica_store,
};
#endif
