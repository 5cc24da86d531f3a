#include "isa.h"
#include "tiles.h"

#include <string.h>

#if defined(RNNCORE_HAVE_V4)
extern const rc_kernels rc_v4_f32, rc_v4_f64, rc_v3_f32, rc_v3_f64;
#endif
#if defined(RNNCORE_HAVE_VECTORS)
extern const rc_kernels rc_baseline_f32, rc_baseline_f64;
#endif
extern const rc_kernels rc_portable_f32, rc_portable_f64;
#if defined(RNNCORE_EMULATE)
extern const rc_kernels rc_emulated_f32, rc_emulated_f64;
#endif

static const rc_kernels *const tables[][2] = {
#if defined(RNNCORE_HAVE_V4)
    {&rc_v4_f32, &rc_v4_f64},
    {&rc_v3_f32, &rc_v3_f64},
#endif
#if defined(RNNCORE_HAVE_VECTORS)
    {&rc_baseline_f32, &rc_baseline_f64},
#endif
    {&rc_portable_f32, &rc_portable_f64},
#if defined(RNNCORE_EMULATE)
    {&rc_emulated_f32, &rc_emulated_f64},
#endif
};

static int processor_runs(const char *level) {
#if defined(RNNCORE_HAVE_V4)
    __builtin_cpu_init();
    int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level[0] == 'v' && level[1] == '3') return v3;
    if (level[0] == 'v' && level[1] == '4')
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
    (void)level;
#endif
    return 1;
}

const char *rnncore_extension(const char *level, int number, int *runs, int *gains) {
    if (!strcmp(level, "emulated") && number == 0) {
        *gains = *runs = 1;
        return "amx";
    }
#if defined(RNNCORE_HAVE_V4)
    if (strcmp(level, "v4")) return 0;
    __builtin_cpu_init();
    if (number == 0) {
        *gains = *runs = !!__builtin_cpu_supports("avx512vnni");
        return "vnni";
    }
    if (number == 1) { /* Intel's does half as much in the time as float32 */
        *runs = !!__builtin_cpu_supports("avx512bf16");
        *gains = *runs && !__builtin_cpu_is("intel");
        return "bf16";
    }
    if (number == 2) { /* 16 times as much; the system may refuse it when it is asked */
        *gains = *runs = rnncore_tiles_there() && __builtin_cpu_supports("avx512bf16");
        return "amx";
    }
#endif
    (void)level, (void)number, (void)runs, (void)gains;
    return 0;
}

const char *rnncore_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "another";
#endif
}

const rc_kernels *rnncore_isa(int number, int itemsize, int *runs) {
    if (number < 0 || number >= (int)(sizeof tables / sizeof *tables)) return 0;
    const rc_kernels *kernels = tables[number][itemsize == 8];
    *runs = processor_runs(kernels->level);
    return kernels;
}
