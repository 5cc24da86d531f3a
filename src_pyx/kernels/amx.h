/* Products by tiles (AMX). Part of storage.h, for vectors of 64 bytes.
 *
 *   bfloat16   c += Σ_i â_2i·b̂_2i + Σ_i â_2i+1·b̂_2i+1   of 32 k: two chains from zero in float32, their sum added to c
 *   int8       c += Σ_k â_k·b̂_k   of 64 k, exact; â has a sign, b̂ has none
 *
 * A tile has up to 16 rows of 64 bytes: of C 16 numbers of a row, of A 32 or 64 numbers of one, of B 16 groups of rows, as
 * panels have them. Two rows of tiles by two columns are worked on together: each operand is read for two products.
 *
 * With EMULATED_TILES the instructions are plain C, in the order of sums that Intel's manual gives them.
 */
#ifndef RNNCORE_AMX_H
#define RNNCORE_AMX_H
#if defined(HAVE_TILES)

#if defined(EMULATED_TILES)
#define TILES
static THREAD_LOCAL float registers[8][16][16];

static inline int rows_of(int tile) {
    const rnncore_tile_rows set = rnncore_tiles_set();
    return tile >= 6 ? 16 : tile == 2 || tile == 3 || tile == 5 ? set.lower : set.upper;
}
static void tile_load(int tile, const void *from, long stride) {
    for (int i = 0; i < rows_of(tile); i++) memcpy(registers[tile][i], (const char *)from + i * stride, 64);
}
static void tile_store(int tile, void *to, long stride) {
    for (int i = 0; i < rows_of(tile); i++) memcpy((char *)to + i * stride, registers[tile][i], 64);
}
static inline float half_of(float word, int odd) { /* of a pair of bfloat16 */
    uint32_t bits;
    memcpy(&bits, &word, sizeof bits);
    bits = odd ? bits & 0xffff0000 : bits << 16;
    memcpy(&word, &bits, sizeof bits);
    return word;
}
static void tile_products(int c, int a, int b) {
    for (int m = 0; m < rows_of(c); m++)
        for (int n = 0; n < 16; n++) {
            float even = 0, odd = 0;
            for (int k = 0; k < 16; k++) {
                even += half_of(registers[a][m][k], 0) * half_of(registers[b][k][n], 0);
                odd += half_of(registers[a][m][k], 1) * half_of(registers[b][k][n], 1);
            }
            registers[c][m][n] += even + odd;
        }
}
static void tile_whole_products(int c, int a, int b) {
    for (int m = 0; m < rows_of(c); m++)
        for (int n = 0; n < 16; n++) {
            int8_t x[4];
            uint8_t y[4];
            int32_t sum;
            memcpy(&sum, &registers[c][m][n], sizeof sum);
            for (int k = 0; k < 16; k++) {
                memcpy(x, &registers[a][m][k], sizeof x);
                memcpy(y, &registers[b][k][n], sizeof y);
                for (int i = 0; i < 4; i++) sum += x[i] * y[i];
            }
            memcpy(&registers[c][m][n], &sum, sizeof sum);
        }
}
#else
#define TILES __attribute__((target("amx-tile,amx-bf16,amx-int8")))
#define tile_load(tile, from, stride) _tile_loadd(tile, from, stride)
#define tile_store(tile, to, stride) _tile_stored(tile, to, stride)
#define tile_products(c, a, b) _tile_dpbf16ps(c, a, b)
#define tile_whole_products(c, a, b) _tile_dpbsud(c, a, b)
#endif
#define MEMORY_IS_WRITTEN __asm__ volatile("" : : : "memory") /* gcc's tile loads do not say that they read */

#define MULTIPLY(c, a, b) do if (whole) tile_whole_products(c, a, b); else tile_products(c, a, b); while (0)

/* One or two rows of tiles, the second `upper` rows further, by one or two columns of them. `whole`: of int8. */
TILES static inline __attribute__((always_inline)) void amx_block(const int whole, const int two_rows,
                                                                  const int two_columns, const stored_tile *t,
                                                                  const real *init, long ldi, real *C, long ldc) {
    const long upper = t->height.upper;
    const char *A = t->A, *A2 = A + upper * t->stride, *B = t->P[0];
    const real *init2 = init + upper * ldi;
    real *C2 = C + upper * ldc;
    ldi *= sizeof(real), ldc *= sizeof(real);
    MEMORY_IS_WRITTEN;
    tile_load(0, init, ldi);
    if (two_columns) tile_load(1, init + 16, ldi);
    if (two_rows) tile_load(2, init2, ldi);
    if (two_rows && two_columns) tile_load(3, init2 + 16, ldi);
    for (long g = 0; g < t->groups; g += 16, A += 64, A2 += 64, B += 16 * t->ldp) {
        tile_load(4, A, t->stride);
        tile_load(6, B, t->ldp);
        MULTIPLY(0, 4, 6);
        if (two_columns) {
            tile_load(7, B + 64, t->ldp);
            MULTIPLY(1, 4, 7);
        }
        if (two_rows) {
            tile_load(5, A2, t->stride);
            MULTIPLY(2, 5, 6);
            if (two_columns) MULTIPLY(3, 5, 7);
        }
    }
    tile_store(0, C, ldc);
    if (two_columns) tile_store(1, C + 16, ldc);
    if (two_rows) tile_store(2, C2, ldc);
    if (two_rows && two_columns) tile_store(3, C2 + 16, ldc);
    MEMORY_IS_WRITTEN;
}

/* `rows` rows, at most those of a pair of tiles, and one or two vectors. C has room for whole tiles. */
TILES static inline __attribute__((always_inline)) void amx_tiles(const int whole, int nv, int rows,
                                                                  const stored_tile *t, const real *init, long ldi) {
    const int two_rows = rows > t->height.upper;
    if (two_rows && nv == 2)
        amx_block(whole, 1, 1, t, init, ldi, t->C[0], t->ldc);
    else if (two_rows)
        amx_block(whole, 1, 0, t, init, ldi, t->C[0], t->ldc);
    else if (nv == 2)
        amx_block(whole, 0, 1, t, init, ldi, t->C[0], t->ldc);
    else
        amx_block(whole, 0, 0, t, init, ldi, t->C[0], t->ldc);
}

/* Where a tile is not full, what it has of C is set apart. */
TILES static void amx_tile(int panels, int nv, int rows, const stored_tile *t) {
    (void)panels;
    if (rows == t->height.upper || rows == t->height.upper + t->height.lower) {
        amx_tiles(0, nv, rows, t, t->init[0], t->ldi);
        return;
    }
    real edge[32 * 32];
    stored_tile apart = *t;
    apart.C[0] = edge, apart.ldc = 32;
    for (int i = 0; i < (t->ldi ? rows : 0); i++)
        memcpy(edge + 32 * i, t->init[0] + i * t->ldi, nv * 16 * sizeof(real));
    amx_tiles(0, nv, rows, &apart, t->ldi ? edge : t->init[0], t->ldi ? 32 : 0);
    for (int i = 0; i < rows; i++) memcpy(t->C[0] + i * t->ldc, edge + 32 * i, nv * 16 * sizeof(real));
}

static const stored_product amx_way = {2, 16, 2, 0, 1, bf16_pairs, pairs_of_halves, amx_tile};
STORAGE_WAY(amx, amx_way)
MIXED_WAY(amx, amx_way, FASTEST_PAIRS, FASTEST_PAIRS == FAST_PAIRS)
static void amx_pack(const rc_packed *B, int block) { pack_rounded(&amx_way, FASTEST_PAIRS, B, block); }

#endif
#endif
