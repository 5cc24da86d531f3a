#define LEVEL "v3"
#define KERNELS rc_v3_f64
#define VECTOR_BYTES 32
#define TILE_VECTORS 2
#define REAL_BITS 64
#include "../kernels.c.h"
