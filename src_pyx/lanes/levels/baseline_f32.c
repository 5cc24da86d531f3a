#define LEVEL "baseline"
#define LANES rc_baseline_f32
#define VECTOR_BYTES 16
#define TILE_VECTORS 2
#define REAL_BITS 32
#include "../lanes.c.h"
