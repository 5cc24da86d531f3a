"""Where C and Cython programs find rnncore.h."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """Return the folder of ``rnncore.h``, for a C compiler's ``-I`` or an Extension's ``include_dirs``.

    Returns
    -------
    str

    Notes
    -----
    A Cython program writes ``from rnncore.capi cimport rnncore_import``, and its extension needs this folder, too.

    Examples
    --------
    >>> import os, rnncore as rc
    >>> os.path.isfile(os.path.join(rc.get_include(), "rnncore.h"))
    True
    """
    return str(Path(__file__).parent / "include")
