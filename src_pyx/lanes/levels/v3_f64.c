#define LEVEL "v3"
#define LANES rc_v3_f64
#define VECTOR_BYTES 32
#define TILE_VECTORS 2
#define REAL_BITS 64
#include "../lanes.c.h"
