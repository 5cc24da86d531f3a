"""Builds the compiled core; everything else about the package is in pyproject.toml.

The numeric code (src_pyx/lanes) is compiled once per instruction-set level into static libraries that are linked into
one extension, rnncore._core.lanes, which picks a level at run time. RNNCORE_PORTABLE=1 builds the plain-C level
alone, without threads; RNNCORE_DEBUG=1 adds bounds checks; RNNCORE_SANITIZE=1 adds AddressSanitizer.
"""

import os
import platform
import sys

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = "src_pyx"
PORTABLE = os.environ.get("RNNCORE_PORTABLE") == "1" or sys.platform == "win32"
DEBUG = os.environ.get("RNNCORE_DEBUG") == "1"
SANITIZE = os.environ.get("RNNCORE_SANITIZE") == "1"
X86_64 = platform.machine().lower() in ("x86_64", "amd64") and not PORTABLE

# -ffast-math is never used: in a shared object it switches flush-to-zero on for the whole process.
NUMERIC = ["/O2"] if sys.platform == "win32" else ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
V3 = ["-mavx2", "-mfma"]
V4 = [*V3, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mprefer-vector-width=512"]
LEVELS: dict[str, list[str]] = {"portable": []}
if not PORTABLE:
    LEVELS["baseline"] = []
if X86_64:
    LEVELS |= {"v3": V3, "v4": V4}

COMMON = [] if sys.platform == "win32" else ["-O2", "-fvisibility=hidden"]
LINK: list[str] = []
if SANITIZE:
    COMMON += ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"]
    LINK += ["-fsanitize=address"]
INCLUDE = [f"{SOURCE}/lanes", f"{SOURCE}/threads"]
MACROS = [("RNNCORE_PORTABLE", "1")] if PORTABLE else [("RNNCORE_HAVE_VECTORS", "1")]
if X86_64:
    MACROS.append(("RNNCORE_HAVE_V4", "1"))


def library(name: str, sources: list[str], flags: list[str]) -> tuple[str, dict]:
    """Describe one static library; its objects end up inside rnncore._core.lanes."""
    fpic = [] if sys.platform == "win32" else ["-fPIC"]
    return name, {
        "sources": sources,
        "include_dirs": INCLUDE,
        "macros": MACROS,
        "cflags": COMMON + flags + fpic,
        "obj_deps": {"": HEADERS},
    }


def headers(folder: str) -> list[str]:
    """List the headers below a folder, so that changing one rebuilds what includes it."""
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".h")]


HEADERS = headers(SOURCE)
# Linkers resolve names from left to right: what refers to the levels' tables stands before them.
libraries = [library("rnncore_common", [f"{SOURCE}/lanes/levels.c", f"{SOURCE}/threads/pool.c"], [])]
libraries += [
    library(f"rnncore_{level}", [f"{SOURCE}/lanes/levels/{level}_f{bits}.c" for bits in (32, 64)], NUMERIC + flags)
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
        depends=HEADERS,
    )


class BuildWithLibraries(build_ext):
    """build_ext that also works alone (--inplace), where setuptools would not build the libraries first."""

    def run(self) -> None:
        self.run_command("build_clib")
        super().run()


setup(
    cmdclass={"build_ext": BuildWithLibraries},
    libraries=libraries,
    ext_modules=cythonize(
        [extension(name) for name in ("lanes", "blas", "batch", "jobs", "stack", "head", "updates")],
        include_path=[SOURCE],
        build_dir="build/cython",
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
