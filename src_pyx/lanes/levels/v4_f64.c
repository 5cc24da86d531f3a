#define LEVEL "v4"
#define LANES rc_v4_f64
#define VECTOR_BYTES 64
#define TILE_VECTORS 4
#define REAL_BITS 64
#include "../lanes.c.h"
