#define LEVEL "portable"
#define KERNELS rc_portable_f64
#define VECTOR_BYTES 0
#define TILE_VECTORS 2
#define REAL_BITS 64
#include "../kernels.c.h"
