/* Vectors as long as v4's in whatever instructions there are, and AMX's tiles in plain C: for tests on any machine. */
#define LEVEL "emulated"
#define KERNELS rc_emulated_f32
#define VECTOR_BYTES 64
#define TILE_VECTORS 4
#define REAL_BITS 32
#define EMULATED_TILES
#include "../kernels.c.h"
