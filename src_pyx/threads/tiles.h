/* The tile registers of Intel's processors (AMX), and the memory that operands of products are made in.
 *
 * A process asks the system for the tiles once, when first something wants to use them; a container may refuse, and
 * so may a thread whose stack for signals is too small for what is then saved there. Each thread loads a configuration of
 * its own, kept until its call or task ends: what is released costs nothing when threads change places. A child of a fork
 * has the permission, and the forking thread's configuration. */
#ifndef RNNCORE_TILES_H
#define RNNCORE_TILES_H

#if defined(_MSC_VER)
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL __thread
#endif

/* Where the compiler knows the instructions, and the system may give the registers. */
#if defined(__linux__) && defined(__x86_64__) && defined(__has_include)
#if __has_include(<amxtileintrin.h>)
#define RNNCORE_KNOWS_TILES
#endif
#endif

/* One buffer for each thread, 64-byte aligned, in which a product's operands are made; tall tiles read beyond them. */
#define RNNCORE_OPERAND_BYTES (1 << 18)
char *rnncore_operands(void);

/* Whether there are tiles: 0: not in this processor, or not for this system, 1: they may be asked for. */
int rnncore_tiles_there(void);
/* Ask for them: 0, or what the system says against it, an errno. Asked once; the answer stays. */
int rnncore_permit_tiles(void);
/* What is known: -1: nobody has asked yet, else as rnncore_permit_tiles. */
int rnncore_tiles_refused(void);

/* How rows are dealt to tiles of at most 16, in pairs: an upper one, and a lower one that may be a row less. */
typedef struct {
    int upper, lower;
} rnncore_tile_rows;
static inline rnncore_tile_rows rnncore_deal_rows(long rows) {
    const long tiles = (rows + 15) / 16, upper = (rows + tiles - 1) / tiles;
    const int exact = tiles % 2 == 0 && tiles / 2 * (2 * upper - 1) == rows; /* 50 rows are 13 + 12 + 13 + 12 */
    return (rnncore_tile_rows){(int)upper, (int)(exact ? upper - 1 : upper)};
}
/* Tiles 0, 1 and 4 have `upper` rows from now on, 2, 3 and 5 `lower` ones, 6 and 7 have 16, all of them 64 bytes wide; on
 * this thread. */
void rnncore_set_tiles(rnncore_tile_rows rows);
rnncore_tile_rows rnncore_tiles_set(void); /* zeros: not set */
void rnncore_release_tiles(void);
#endif
