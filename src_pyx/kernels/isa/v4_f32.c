#define LEVEL "v4"
#define KERNELS rc_v4_f32
#define VECTOR_BYTES 64
#define TILE_VECTORS 4
#define REAL_BITS 32
#include "../kernels.c.h"
