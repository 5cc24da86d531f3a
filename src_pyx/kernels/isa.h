/* The tables that were compiled in, best first, and which of them this processor can run. */
#ifndef RNNCORE_ISA_H
#define RNNCORE_ISA_H
#include "kernels.h"

/* NULL past the last level; `runs` tells whether this processor can use it */
const rc_kernels *rnncore_isa(int number, int itemsize, int *runs);

/* Instructions that not every processor of a level has, by name, NULL past the last; `runs`: this processor has them,
 * `gains`: and is the faster for them. */
const char *rnncore_extension(const char *level, int number, int *runs, int *gains);

/* the compiler of the kernels, with its version: at levels with fused multiply-add it has a say in the last bits */
const char *rnncore_compiler(void);
#endif
