/* The tables that were compiled in, best first, and which of them this processor can run. */
#ifndef RNNCORE_LEVELS_H
#define RNNCORE_LEVELS_H
#include "lanes.h"

/* NULL past the last level; `runs` tells whether this processor can use it */
const rc_lanes *rnncore_level(int number, int itemsize, int *runs);
#endif
