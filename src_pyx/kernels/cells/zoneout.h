/* Zoneout (Krueger et al. 2017) around any cell: some units of a state keep their previous value.
 *
 *   forward    s̃_t = what the cell makes of s_{t-1}, ...       s_t = s_{t-1} + k⊙(s̃_t - s_{t-1})
 *   backward   ds = ds_t + what comes back from step t+1       ds̃ = k⊙ds, given to the cell
 *              dcarry = what the cell hands back + (1-k)⊙ds    (for step t-1)
 *
 * k is 0 or 1 (`unit->zone`, where dropout would be 0 or more), or without training the share that is new. The cell
 * writes s̃ to `state` and reads s from `before`; for state 0 what comes back is what W_T[0] and dcarry bring.
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
                    if (m && s == 0) vstore(carried + at, vload(m + at) * new);)
    }
}

/* back = m⊙(da_later·Wᵀ) + dcarry, over what the next step hands back; or the final state's own gradient */
static inline vec zone_later(const rc_unit *u, const rc_block *b, int s, const real *back, const real *m, long at) {
    vec sum = vset1(0);
    if (b->has_link) {
        sum = vload(later_row(u, b, s) + at);
        if (s == 0) sum += m ? (vec)(vload(m + at) * vload(back + at)) : vload(back + at);
    } else if (s > 0 && b->ends && u->dend[s]) {
        sum = vload((const real *)u->dend[s] + b->sequence * u->lds[s] + at);
    }
    return sum;
}

static void zoned_backward(const rc_unit *u, const rc_block *b) {
    rc_unit inner = *u;
    rc_block alone = *b; /* the cell sees a last step: what comes after is in the gradients it is given */
    const real *m = mask_row(u, b), *back = multiply_back(u, b, 0);
    alone.has_link = 0;
    alone.ends = 1;
    for (int s = 0; s < u->cell->states && s < ZONED_STATES; s++) {
        const long ld = u->lds[s], step = b->stride * ld, first = b->row * ld;
        const int zoned = is_zoned(u, s);
        real *given = s ? (real *)u->zone_given + b->sequence * ld : (real *)u->zone_dh + first;
        real *kept = (real *)u->zone_kept[s] + b->sequence * ld;
        const real *dh = dh_row(u, b);
        EACH_VECTOR(b->count, ld, long at = i * step + j; vec d = zone_later(u, b, s, back, m, at);
                    if (s == 0) d += vload(dh + at);
                    vec new = zoned ? (vec)(zone_keep(u, s, first + at) * d) : d;
                    vstore(given + at, new);
                    vstore(kept + at, d - new);)
    }
    inner.dh = u->zone_dh;
    inner.dend[1] = u->zone_given;
    u->cell->backward(&inner, &alone);
    for (int s = 0; s < u->cell->states && s < ZONED_STATES; s++) {
        const long ld = u->lds[s], step = b->stride * ld;
        const real *kept = (const real *)u->zone_kept[s] + b->sequence * ld;
        real *carry = carry_row(u, b, s);
        const int adds = u->cell->carries >> s & 1;
        EACH_VECTOR(b->count, ld, long at = i * step + j; vec d = vload(kept + at);
                    vstore(carry + at, adds ? (vec)(d + vload(carry + at)) : d);)
    }
}
