#define LEVEL "baseline"
#define KERNELS rc_baseline_f64
#define VECTOR_BYTES 16
#define TILE_VECTORS 2
#define REAL_BITS 64
#include "../kernels.c.h"
