/* Zoneout (Krueger et al. 2017) around any cell: some units of a state keep their previous value.
 *
 *   forward    s̃_t = what the cell makes of s_{t-1}, ...       s_t = s_{t-1} + k⊙(s̃_t - s_{t-1})
 *   backward   ds = ds_t + what comes back from step t+1       ds̃ = k⊙ds, given to the cell
 *              dcarry = what the cell hands back + (1-k)⊙ds    (for step t-1)
 *
 * k is 0 or 1 (`unit->zone`, where dropout would be 0 or more), or without training the share that is new. The cell
 * writes s̃ to `state` and reads s from `before`. What comes back from step t+1 is its dcarry, and the products of its
 * da with the matrices that met s (under recurrent dropout's mask), whichever and however many those are.
 *
 * Shapes, with `width` numbers in a state: state, before, zone (rows, width); zone_dh (rows, output); zone_given (sequences,
 * width of state 1); zone_kept (sequences, width).
 */
#include "steps.h"

enum { ZONED_STATES = 2 };

static inline int is_zoned(const rc_unit *u, int s) { return u->zone_rate[s] > 0; }

static inline vec zone_keep(const rc_unit *u, int s, long at) {
    if (!u->zone[s]) return vset1((real)(1 - u->zone_rate[s]));
    return vselect(vless(vset1(0), vload((const real *)u->zone[s] + at)), vset1(1), vset1(0));
}

static void zoned_forward(const rc_unit *u, const rc_block *b) {
    const real *m = mask_row(u, b);
    u->cell->forward(u, b);
    for (int s = 0; s < ZONED_STATES; s++) {
        if (!is_zoned(u, s)) continue;
        const long ld = u->lds[s], step = b->stride * ld, first = b->row * ld;
        const real *fresh = own_row(u, b, s), *prev = before_row(u, s, b->linked);
        real *mixed = (real *)u->before[s] + first, *carried = carried_row(u, b->row);
        EACH_VECTOR(b->count, ld, long at = i * step + j; vec old = b->has_link ? vload(prev + at) : vset1(0);
                    vec new = old + zone_keep(u, s, first + at) * (vload(fresh + at) - old);
                    vstore(mixed + at, new);
                    if (m && s == u->cell->dropped) vstore(carried + at, vload(m + at) * new);)
    }
}

/* The products m⊙(da_later·Wᵀ) that come back to state s; returns how many there are. */
static int zone_products(const rc_unit *u, const rc_block *b, int s, const real *back[RC_MAX_MATRICES]) {
    const long ld = u->lds[s], step = b->stride * ld;
    const real *m = s == u->cell->dropped ? mask_row(u, b) : 0;
    int count = 0;
    for (int k = 0; k < RC_MAX_MATRICES; k++) {
        if (!u->W[k].blocks || !u->cell->matrices[k].linked || u->cell->matrices[k].source != s) continue;
        real *product = work_row(u, b, k);
        multiply_back(u, b, k);
        if (m) /* apart from the sum: no multiply-add, so that the bits are those of a product and a sum */
            EACH_VECTOR(b->count, ld, long at = i * step + j; vstore(product + at, vload(m + at) * vload(product + at));)
        back[count++] = product;
    }
    return count;
}

static void zoned_backward(const rc_unit *u, const rc_block *b) {
    rc_block alone = *b; /* the cell sees a last step: what comes after is in the gradients it is given */
    alone.has_link = 0;
    alone.ends = 1;
    alone.zoned = 1;
    for (int s = 0; s < u->cell->states && s < ZONED_STATES; s++) {
        const long ld = u->lds[s], step = b->stride * ld, first = b->row * ld;
        const int zoned = is_zoned(u, s);
        real *given = s ? (real *)u->zone_given + b->sequence * ld : (real *)u->zone_dh + first;
        real *kept = (real *)u->zone_kept[s] + b->sequence * ld;
        const real *back[RC_MAX_MATRICES];
        const int products = b->has_link ? zone_products(u, b, s, back) : 0;
        const real *later = b->has_link ? later_row(u, b, s) : s ? end_row(u, b, s) : 0, *dh = s ? 0 : dh_row(u, b);
        EACH_VECTOR(b->count, ld, long at = i * step + j; vec d = later ? vload(later + at) : vset1(0);
                    for (int k = 0; k < products; k++) d += vload(back[k] + at);
                    if (dh) d += vload(dh + at);
                    vec new = zoned ? (vec)(zone_keep(u, s, first + at) * d) : d;
                    vstore(given + at, new);
                    vstore(kept + at, d - new);)
    }
    u->cell->backward(u, &alone);
    for (int s = 0; s < u->cell->states && s < ZONED_STATES; s++) {
        const long ld = u->lds[s], step = b->stride * ld;
        const real *kept = (const real *)u->zone_kept[s] + b->sequence * ld;
        real *carry = carry_row(u, b, s);
        const int adds = u->cell->state[s].carries;
        EACH_VECTOR(b->count, ld, long at = i * step + j; vec d = vload(kept + at);
                    vstore(carry + at, adds ? (vec)(d + vload(carry + at)) : d);)
    }
}
