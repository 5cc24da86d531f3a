"""Streams: one step at a time, or whole sequences, on weights that are packed once.

A step crosses into C once. The run of a step is bound when the first one comes, and then only its input moves.
"""
from libc.string cimport memcmp

import numpy as np

cimport numpy as cnp

from rnncore._core.heads cimport Head
from rnncore._core.kernels cimport begin_call, end_call, raise_stopped, rnncore_call
from rnncore._core.passes cimport run_forward
from rnncore._core.plan cimport Run
from rnncore._core.run cimport Workspace
from rnncore._core.schedule cimport Schedule
from rnncore._core.transfer cimport load_dense, load_ids, load_states, store_outputs

cnp.import_array()


def same_bytes(a, b):
    """Return whether two contiguous arrays hold the same bytes."""
    cdef size_t size = a.nbytes
    cdef const void *one = cnp.PyArray_DATA(a)
    cdef const void *other = cnp.PyArray_DATA(b)
    cdef bint same
    if b.nbytes != a.nbytes:
        return False
    with nogil:
        same = memcmp(one, other, size) == 0
    return same


cdef inline bint fits(array, int type_number, Py_ssize_t rows, Py_ssize_t columns) noexcept:
    """Whether this is an array (rows, columns) that can be read or written where it lies."""
    cdef cnp.ndarray a
    if type(array) is not np.ndarray:
        return False
    a = <cnp.ndarray> array
    return cnp.PyArray_NDIM(a) == 2 and cnp.PyArray_TYPE(a) == type_number and cnp.PyArray_DIM(a, 0) == rows and \
        cnp.PyArray_DIM(a, 1) == columns and cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_CARRAY_RO) and \
        cnp.PyArray_ISNOTSWAPPED(a)


cdef class Stepper:
    """What `rnncore.nn.session.Session` does without Python.

    Parameters
    ----------
    dense, symbols : Workspace or None
        For either kind of input, with weights that are held.
    heads : dict of str to Head
        Of a network, with weights that are held; an only one under the empty name.
    state : list of arrays (units, B, width), or None
        Where the state is kept; None where none is carried.
    inputs, width : int
        Columns of dense input and of the result.
    plain : bool
        A step takes one array, and compiled heads alone look at it: it does without Python.
    """

    def __cinit__(self, Workspace dense, Workspace symbols, dict heads, list state, long batch_size, long inputs,
                  long width, int itemsize, int threads, bint plain, *args, **kwargs):
        self.dense = dense
        self.symbols = symbols
        self.arrays = state
        self.carries = state is not None
        self.fresh = True
        self.batch_size = batch_size
        self.inputs = inputs
        self.width = width
        self.itemsize = itemsize
        self.type_number = cnp.NPY_FLOAT if itemsize == 4 else cnp.NPY_DOUBLE
        self.threads_ = threads
        self.plain = plain
        self.one_step = Schedule(1, batch_size)
        self.take_heads(heads)

    cdef take_heads(self, dict heads):
        self.heads = heads
        self.several = len(heads) > 1 or (len(heads) == 1 and "" not in heads)
        self.only = heads.get("")

    cdef place_of(self, Head head):
        """A new array for what a head predicts of a step."""
        cdef cnp.npy_intp[2] shape = [self.batch_size, head.outputs()]
        return cnp.PyArray_EMPTY(2, shape, self.type_number, 0)

    cdef int enter(self) except -1:
        if self.busy:
            raise RuntimeError("this session is in use by another Python thread: give each stream a session of its own")
        self.busy = True
        return 0

    cdef bind(self, Workspace space, long per_row):
        """Set up the run of one step."""
        self.bound = None
        space.begin(<const char *> cnp.PyArray_DATA(space.weights.theta), self.one_step, False, False, True, False,
                    per_row, self.threads_)
        space.set_states(self.arrays)
        space.place(None)
        space.held = (space.weights.theta, self.arrays)
        self.bound = space

    def step(self, x_t, out=None):
        """Run one step of every sequence, going on from the state.

        Parameters
        ----------
        x_t : array (B, D), or ids (B,), or bags of ids (B, F)
            Of a network what ``predict`` takes, without the axis of time: a dict or tuple of ``inputs``, a tuple with
            sparse features. A SequenceVector may be left out (of a dict; None in a tuple) once it was given: it stays
            until ``reset``.
        out : array (B, F), or a dict of arrays, optional
            Where the result goes: C-contiguous and of the session's dtype.

        Returns
        -------
        array (B, F), or (B, K) of a network; a dict of them for several heads
            Of a head with pooling, what it gives for the steps until now.

        Raises
        ------
        ValueError
            For arrays that do not fit, and where a step needs the future.
        RuntimeError
            If another Python thread is using this session.
        """
        cdef rnncore_call call
        cdef Workspace space = self.dense
        cdef Run *r
        cdef bint dense = space is not None and fits(x_t, self.type_number, self.batch_size, self.inputs)
        cdef char *source
        cdef char *target
        cdef long width = self.width
        cdef cnp.npy_intp[2] shape = [self.batch_size, self.width]
        if not self.plain or out is not None and type(out) is dict:
            return self._step_of_parts(x_t, out)
        if not dense or not self.carries:
            dense, x_t = self._step_input(x_t)  # raises where it cannot be used
            space = self.dense if dense else self.symbols
        if self.several:
            if out is not None:
                self._refuse_out(out)
            out = {name: self.place_of(head) for name, head in self.heads.items()}
        elif out is None:
            out = cnp.PyArray_EMPTY(2, shape, self.type_number, 0)
        elif not (fits(out, self.type_number, self.batch_size, self.width) and
                  cnp.PyArray_ISWRITEABLE(<cnp.ndarray> out)):
            self._refuse_out(out)
        self.enter()
        try:
            r = &space.run
            if self.bound is not space or not dense and r.per_row != cnp.PyArray_SIZE(x_t) // self.batch_size:
                self.bind(space, 1 if dense else cnp.PyArray_SIZE(x_t) // self.batch_size)
            source = <char *> cnp.PyArray_DATA(x_t)
            r.has_state = not self.fresh
            with nogil:
                begin_call(&call, True)
                if dense:
                    load_dense(r, source)
                else:
                    load_ids(r, source)
                load_states(r)
                run_forward(r)
                end_call(&call)
            if call.stopped:
                raise_stopped()
            space.store_states(self.arrays)
            self.fresh = False
            if self.several:
                for name, head in self.heads.items():
                    (<Head> head).predict(space, space.weights.theta, None, None, out[name])
            elif self.only is not None:
                self.only.predict(space, space.weights.theta, None, None, out)
            else:
                target = <char *> cnp.PyArray_DATA(out)
                with nogil:
                    store_outputs(r, target, width)
        finally:
            self.busy = False
        return out

    def _run(self, bint dense, x, Schedule schedule, results=None, out=None):
        """Run whole sequences, going on from the state; everything is checked.

        results : called with the workspace for what is returned; None: the layers' outputs, in `out` if there is one.
        """
        cdef Workspace space = self.dense if dense else self.symbols
        cdef bint given = self.carries and not self.fresh
        self.enter()
        try:
            self.bound = None
            y = space.forward(space.weights.theta, schedule, x, self.arrays if given else None, None, self.threads_, 0,
                              0, None, results is None, out)
            if self.carries:
                space.store_states(self.arrays)
                self.fresh = False
            if results is not None:
                y = results(space)
        finally:
            self.busy = False
        return y

    def _get_state(self):
        """Return copies of the state's arrays."""
        return [array.copy() for array in self.arrays]

    def _set_state(self, list arrays):
        """Take a state, checked."""
        self.enter()
        try:
            for own, given in zip(self.arrays, arrays, strict=True):
                own[...] = given
            self.fresh = False
        finally:
            self.busy = False

    def _reset(self, rows):
        """Set the state of some sequences to zero, or of all (None)."""
        self.enter()
        try:
            for own in self.arrays or ():
                own[:, slice(None) if rows is None else rows] = 0
            if rows is None:
                self.fresh = True
        finally:
            self.busy = False

    def _move_to(self, Workspace dense, Workspace symbols, dict heads):
        """Go on with other weights."""
        self.enter()
        self.dense = dense
        self.symbols = symbols
        self.take_heads(heads)
        self.bound = None
        self.busy = False
