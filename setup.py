"""Builds the compiled core; everything else about the package is in pyproject.toml.

The numeric code (src_pyx/kernels) is compiled once per instruction-set level into static libraries that are linked into
one extension, rnncore._core.kernels, which picks a level at run time. RNNCORE_PORTABLE=1 builds the plain-C level
alone, without threads; RNNCORE_DEBUG=1 adds bounds checks; RNNCORE_SANITIZE=1 adds AddressSanitizer and
UndefinedBehaviorSanitizer, which end the process where they find something; RNNCORE_EMULATE=1 adds a level for tests,
"emulated", whose tile instructions (AMX) are plain C. Each kind of build keeps its objects in a
folder of its own, so that none ends up in another. RNNCORE_MODULES=kernels,... builds these extensions alone: with
RNNCORE_PORTABLE=1, the quickest way to try a kernel.
"""

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from sysconfig import get_platform

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

SOURCE = "src_pyx"
PORTABLE = os.environ.get("RNNCORE_PORTABLE") == "1" or sys.platform == "win32"
DEBUG = os.environ.get("RNNCORE_DEBUG") == "1"
SANITIZE = os.environ.get("RNNCORE_SANITIZE") == "1"
EMULATE = os.environ.get("RNNCORE_EMULATE") == "1" and sys.platform != "win32"
KINDS = {"portable": PORTABLE, "debug": DEBUG, "sanitize": SANITIZE, "emulate": EMULATE}
BUILD = os.path.join("build", "-".join(kind for kind, chosen in KINDS.items() if chosen) or "release")
X86_64 = platform.machine().lower() in ("x86_64", "amd64") and not PORTABLE
if sys.platform == "darwin":  # python.org's Python would compile for both of Apple's processors at once
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")

# -ffast-math is never used: in a shared object it switches flush-to-zero on for the whole process.
NUMERIC = ["-O3", "-falign-loops=64", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
if sys.platform == "win32":
    NUMERIC = ["/O2", "/std:c11"]
V3 = ["-mavx2", "-mfma"]
V4 = [*V3, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mprefer-vector-width=512"]
LEVELS: dict[str, list[str]] = {"portable": []}
if not PORTABLE:
    LEVELS["baseline"] = []
if X86_64:
    LEVELS |= {"v3": V3, "v4": V4}
if EMULATE:
    LEVELS["emulated"] = ["-Wno-psabi"]

COMMON = [] if sys.platform == "win32" else ["-O2", "-fvisibility=hidden", "-g" if DEBUG or SANITIZE else "-g0"]
LINK: list[str] = []
if SANITIZE:
    # -fno-wrapv: Python's own flags give signed overflow a meaning, and the sanitizer would not look for it
    COMMON += [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
        "-fno-wrapv",
    ]
    LINK += ["-fsanitize=address,undefined"]
INCLUDE = [f"{SOURCE}/kernels", f"{SOURCE}/threads", "rnncore/include"]
MACROS = [("RNNCORE_PORTABLE", "1")] if PORTABLE else [("RNNCORE_HAVE_VECTORS", "1")]
if X86_64:
    MACROS.append(("RNNCORE_HAVE_V4", "1"))


def library(name: str, sources: list[str], flags: list[str], macros: tuple = ()) -> tuple[str, dict]:
    """Describe one static library; its objects end up inside rnncore._core.kernels."""
    fpic = [] if sys.platform == "win32" else ["-fPIC"]
    return name, {
        "sources": sources,
        "include_dirs": INCLUDE,
        "macros": [*MACROS, *macros],
        "cflags": COMMON + flags + fpic,
        "obj_deps": {"": DEPENDS},
    }


def c_code(folder: str) -> list[str]:
    """List the C files below a folder: changing one rebuilds whatever may include it or be linked with it."""
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith((".h", ".c"))]


DEPENDS = [*c_code(SOURCE), *c_code("rnncore/include"), "setup.py"]
# Linkers resolve names from left to right: what refers to the levels' tables stands before them.
COMMON_CODE = [f"{SOURCE}/kernels/isa.c", f"{SOURCE}/threads/pool.c", f"{SOURCE}/threads/tiles.c"]
libraries = [library("rnncore_common", COMMON_CODE, [], (("RNNCORE_EMULATE", "1"),) if EMULATE else ())]
libraries += [
    library(f"rnncore_{level}", [f"{SOURCE}/kernels/isa/{level}_f{bits}.c" for bits in (32, 64)], NUMERIC + flags)
    for level, flags in LEVELS.items()
]


def extension(name: str) -> Extension:
    """Describe the extension rnncore._core.<name>."""
    return Extension(
        f"rnncore._core.{name}",
        [f"{SOURCE}/rnncore/_core/{name}.pyx"],
        include_dirs=[*INCLUDE, numpy.get_include()],
        define_macros=[*MACROS, ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=[*COMMON, "-Wno-unused-function"] if sys.platform != "win32" else [],
        extra_link_args=LINK,
        depends=DEPENDS,
    )


PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BuildLibraries(build_clib):
    """build_clib that compiles the libraries side by side, as build_ext does the extensions.

    They depend on neither Python nor NumPy, and stay where they are: `pip install -e .`, which would compile them in a
    folder that comes and goes, finds what `pip install .` has left.
    """

    def finalize_options(self) -> None:
        """Choose the folder."""
        super().finalize_options()
        self.build_clib = self.build_temp = os.path.join(BUILD, f"libraries.{get_platform()}")

    def build_libraries(self, libraries: list) -> None:
        """Build each library."""
        with ThreadPoolExecutor(PROCESSORS) as executor:
            list(executor.map(lambda each: build_clib.build_libraries(self, [each]), libraries))


class BuildWithLibraries(build_ext):
    """build_ext that also works alone (--inplace), where setuptools would not build the libraries first."""

    def run(self) -> None:
        """Build the libraries, then the extensions."""
        self.run_command("build_clib")
        super().run()


# fmt: off
MODULES = (
    "kernels", "blas", "rows", "ranges", "schedule", "gemm", "plan", "weights", "dropout", "memory", "transfer",
    "time_loop", "passes", "calls", "run", "activations", "crf", "ctc", "prefix_beam", "reservoir", "sparse",
    "tables", "pooling", "projection", "adaptive", "sampled", "heads", "attention", "held_memory", "dense",
    "associative", "pushdown", "trees", "turing", "session", "updates", "cxx_random", "replica_rows",
    "replica_passes", "replica", "c_space", "c_matrix", "c_layers", "c_session", "api",
)
# fmt: on

CHOSEN = [name for name in os.environ.get("RNNCORE_MODULES", "").split(",") if name] or MODULES
if unknown := set(CHOSEN) - set(MODULES):
    raise SystemExit(f"RNNCORE_MODULES must name some of {', '.join(MODULES)}; got {', '.join(sorted(unknown))}")

if __name__ == "__main__":  # Cython's worker processes read this file, too
    setup(
        options={"build": {"build_base": BUILD}, "build_ext": {"parallel": PROCESSORS}},
        cmdclass={"build_clib": BuildLibraries, "build_ext": BuildWithLibraries},
        libraries=libraries,
        ext_modules=cythonize(
            [extension(name) for name in CHOSEN],
            include_path=[SOURCE, "."],  # rnncore/capi.pxd is what other projects get
            build_dir=os.path.join(BUILD, "cython"),
            nthreads=PROCESSORS,
            compiler_directives={
                "language_level": 3,
                "boundscheck": DEBUG,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": DEBUG,
                "embedsignature": True,
            },
        ),
    )
