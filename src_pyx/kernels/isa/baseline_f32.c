#define LEVEL "baseline"
#define KERNELS rc_baseline_f32
#define VECTOR_BYTES 16
#define TILE_VECTORS 2
#define REAL_BITS 32
#include "../kernels.c.h"
