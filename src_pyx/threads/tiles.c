#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* syscall */
#endif
#include "tiles.h"

#include <stdint.h>
#include <string.h>

typedef struct {
    _Alignas(64) char bytes[RNNCORE_OPERAND_BYTES + 32 * 4096];
} operands;
static THREAD_LOCAL operands room;
char *rnncore_operands(void) { return room.bytes; }

static THREAD_LOCAL rnncore_tile_rows set;
rnncore_tile_rows rnncore_tiles_set(void) { return set; }

#if defined(RNNCORE_HAVE_V4) && defined(RNNCORE_KNOWS_TILES)
#define HAVE_TILES
#endif

#if defined(HAVE_TILES)
#include <cpuid.h>
#include <errno.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* arch_prctl: ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA */

static int answer = -1;

int rnncore_tiles_there(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 22 & 1 & d >> 24 & d >> 25) == 0) return 0; /* BF16, TILE, INT8 */
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c >> 27 & 1) == 0) return 0;                                /* OSXSAVE */
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}

int rnncore_permit_tiles(void) {
    if (answer < 0) answer = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) ? errno : 0;
    return answer;
}
int rnncore_tiles_refused(void) { return answer; }

__attribute__((target("amx-tile"))) static void load_configuration(rnncore_tile_rows wanted) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } tiles;
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    const int rows[8] = {wanted.upper, wanted.upper, wanted.lower, wanted.lower, wanted.upper, wanted.lower, 16, 16};
    for (int i = 0; i < 8; i++) {
        tiles.rows[i] = (uint8_t)rows[i];
        tiles.row_bytes[i] = 64;
    }
    __asm__ volatile("" : : "m"(tiles) : "memory"); /* gcc 12 thinks that 8 of its bytes are read */
    _tile_loadconfig(&tiles);
}
__attribute__((target("amx-tile"))) static void release(void) {
    if (answer == 0) _tile_release();
}

static void load(rnncore_tile_rows rows) {
    if (answer == 0) load_configuration(rows);
}
#else
int rnncore_tiles_there(void) { return 0; }
int rnncore_permit_tiles(void) { return -1; }
int rnncore_tiles_refused(void) { return -1; }
static void load(rnncore_tile_rows rows) { (void)rows; }
static void release(void) {}
#endif

void rnncore_set_tiles(rnncore_tile_rows rows) {
    if (set.upper == rows.upper && set.lower == rows.lower) return;
    load(rows);
    set = rows;
}
void rnncore_release_tiles(void) {
    if (!set.upper) return;
    release();
    set = (rnncore_tile_rows){0, 0};
}
