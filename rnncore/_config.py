"""What this build is and what it uses here: the text to put into a bug report."""

from __future__ import annotations

import platform
import sys

import numpy as np

import rnncore
from rnncore import _threads
from rnncore._core import kernels


def _blas() -> str:
    """Name the BLAS that SciPy brings, for RNNCORE_GEMM=blas."""
    import scipy

    try:
        found = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{found['name']} {found['version']}, through SciPy {scipy.__version__}"
    except (KeyError, TypeError):
        return f"unknown, through SciPy {scipy.__version__}"


def config() -> dict[str, str]:
    """Return versions, compiler, instruction-set level, product and threads as a dict of strings."""
    core = kernels.config()
    available = ["+".join((isa, *kernels.extensions(isa))) for isa in core["isa_available"]]
    return {
        "rnncore": rnncore.__version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processors": str(len(_threads.os.sched_getaffinity(0)) if hasattr(_threads.os, "sched_getaffinity") else "?"),
        "compiler": core["compiler"],
        "instruction set": f"{'+'.join((core['isa'], *core['extensions']))} (available: {', '.join(available)}; "
        "RNNCORE_ISA chooses)",
        "tiles": f"{core['tiles']} (AMX, of products of bfloat16)",
        "products": f"{core['gemm']} (native, blas or auto; RNNCORE_GEMM chooses)",
        "BLAS": _blas(),
        "threads": f"{_threads.get_num_threads()} ({core['threads']}; RNNCORE_NUM_THREADS or set_num_threads chooses)",
    }


def show_config() -> None:
    """Print what this build is and what it uses here.

    Examples
    --------
    >>> import rnncore as rc
    >>> rc.show_config()  # doctest: +ELLIPSIS
    rnncore ...
    """
    for name, value in config().items():
        print(f"{name:17}{value}")
