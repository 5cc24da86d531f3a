"""All states and gates of a forward pass, read from where the run at hand left them.

Nothing is kept for this: a run without training leaves its arrays in scratch memory until the next one.
"""
from libc.string cimport strcmp

import numpy as np

cimport numpy as cnp

from rnncore._core.kernels cimport begin_call, end_call, raise_stopped, rnncore_call
from rnncore._core.plan cimport Run, Unit, state_width
from rnncore._core.run cimport Workspace
from rnncore._core.transfer cimport exchange

cnp.import_array()


cdef rows_of(Run *r, char *rows, long ld, long width):
    """A copy of packed rows as an array (T, B, width), zero after a sequence's end."""
    cdef rnncore_call call
    cdef char *target
    found = np.zeros((r.view.steps, r.view.sequences, width), "f4" if r.team.kernels.itemsize == 4 else "f8")
    target = <char *> cnp.PyArray_DATA(found)
    with nogil:
        begin_call(&call, True)
        exchange(r, width, rows, ld, target, width, True)
        end_call(&call)
    if call.stopped:
        raise_stopped()
    return found


def read(Workspace space):
    """Return name -> array (T, B, width) of the latest forward pass, which neither read packed rows nor gave outputs.

    States are as the next step sees them. What a cell without gates computes is its state: that stands there once.
    """
    cdef Run *r = &space.run
    cdef Unit *u
    cdef int n, d, i
    found = {}
    for n in range(r.layer_count):
        for d in range(r.layer[n].units):
            u = &r.layer[n].unit[d]
            prefix = f"layers.{n}.{'bwd' if u.reverse else 'fwd'}."
            for i in range(u.kernel.states):
                found[prefix + u.kernel.state[i].name.decode()] = rows_of(
                    r, <char *> u.cell.before[i], u.cell.lds[i], state_width(u, i))
            for i in range(0 if u.kernel.in_place else u.kernel.width):
                if u.kernel.blocks[i] != NULL:
                    found[f"{prefix}gates.{u.kernel.blocks[i].decode()}"] = gate(r, u, i)
    return found


cdef gate(Run *r, Unit *u, int block):
    """What a cell computes by the name of a block: what stands there, unless it leaves that where a matrix meets it."""
    cdef const char *name = u.kernel.blocks[block]
    cdef int i
    for i in range(u.kernel.inner):
        if strcmp(u.kernel.inner_name[i], name) == 0:
            return rows_of(r, <char *> u.cell.inner[i], u.cell.ldi, u.cell.hidden)
    for i in range(u.kernel.states):
        if strcmp(u.kernel.state[i].name, name) == 0:
            return rows_of(r, <char *> u.cell.state[i], u.cell.lds[i], state_width(u, i))
    return rows_of(r, u.a_rows + block * u.cell.ld * r.team.kernels.itemsize, u.cell.lda, u.cell.hidden)
