"""Forward and backward: functions of plan, weights, schedule, saved and scratch memory, in and out.

A Workspace is one caller's scratch memory and the run in it; any number of them may run at once, on one set of
parameters. Nothing that an earlier run left in it decides anything in a later one. This module knows arrays, not users:
whoever calls has checked everything (rnncore._checks).
"""
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint64_t
from libc.string cimport memset

import numpy as np

cimport numpy as cnp

from rnncore._core.calls cimport (
    backward_pass,
    begin_run,
    forward_pass,
    initial_gradient,
    leaves_gradient_in_place,
    outputs_are_states,
    set_outputs,
    state_place,
    takes_gradient_in_place,
    work_of_initial_gradient,
)
from rnncore._core.kernels cimport begin_call, end_call, raise_stopped, rnncore_call
from rnncore._core.memory cimport Bump, Memory, Saved, place_backward, place_forward
from rnncore._core.plan cimport DENSE, EMBEDDED, Layer, Plan, Run, Unit, same_rows
from rnncore._core.rows cimport distinct, zero_rows
from rnncore._core.schedule cimport Schedule, View
from rnncore._core.transfer cimport load_dense, store_state
from rnncore._core.weights cimport Weights

cnp.import_array()

cdef enum:
    LINE = 64


cdef inline char *data(array) noexcept:
    return <char *> cnp.PyArray_DATA(array)


cdef class Workspace:
    """Where one caller at a time runs.

    Parameters
    ----------
    plan : Plan
    weights : Weights, optional
        Packed weights that stay as they are, and may be shared; without, every pass packs its own.
    """

    def __cinit__(self, Plan plan, Weights weights=None):
        self.plan = plan
        self.weights = Weights(plan) if weights is None else weights
        self.scratch = Memory()
        self.layer = <Layer *> PyMem_Calloc(plan.structure.layer_count, sizeof(Layer))
        if self.layer == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.layer)

    # ------------------------------------------------------------ setting up a run

    cdef void begin(self, const char *theta, Schedule schedule, bint packed, bint training, bint has_state, bint fed,
                    long per_row, int threads) noexcept:
        """Bind the layers to the options of one run."""
        self.schedule = schedule
        self.seen = &self.run
        begin_run(&self.run, self.layer, &self.plan.structure, self.weights.units, &schedule.view, theta, packed,
                  training, has_state, fed, per_row, threads)
        self.run.shows_gates = self.shows_gates

    cdef place(self, Saved saved):
        """Lay out the arrays of a forward pass: in saved memory, or without training in scratch."""
        cdef Memory memory = self.scratch if saved is None else saved
        cdef Bump keep
        keep.base = memory.base
        keep.used = 0
        place_forward(&self.run, &keep)
        if keep.used > memory.capacity or saved is not None and saved.allocate is not None:
            memory.reserve(keep.used)
            keep.base = memory.base
            keep.used = 0
            place_forward(&self.run, &keep)

    cdef set_states(self, list state):
        """Where the caller's initial states are."""
        cdef Run *r = &self.run
        cdef Unit *u
        cdef int n, d, i
        for n in range(r.layer_count if state is not None else 0):
            for d in range(r.layer[n].units):
                u = &r.layer[n].unit[d]
                for i in range(u.kernel.states):
                    u.initial[i] = data(state[u.state_array + i]) + state_place(r, u, i)

    cdef outputs_array(self, bint front):
        """A new array for the outputs, zero where none will be written; with room for initial states in front of it."""
        cdef const View *v = &self.run.view
        cdef Layer *layer = &self.layer[self.run.layer_count - 1]
        cdef long width = layer.unit[0].cell.output * layer.outputs, size = self.run.team.kernels.itemsize
        cdef cnp.npy_intp[3] shape = [v.steps, v.sequences, width]
        cdef int number = cnp.NPY_FLOAT if size == 4 else cnp.NPY_DOUBLE
        cdef char *place
        if v.packed:
            shape[0], shape[1] = v.rows, width
        if not front:
            if same_rows(v):
                return cnp.PyArray_EMPTY(2 if v.packed else 3, shape, number, 0)
            return cnp.PyArray_ZEROS(3, shape, number, 0)
        memory = np.empty((v.sequences + v.rows) * width + LINE // size, dtype=f"f{size}")
        place = <char *> ((<size_t> data(memory) + LINE - 1) // LINE * LINE) + v.sequences * width * size
        y = cnp.PyArray_SimpleNewFromData(2 if v.packed else 3, shape, number, place)
        cnp.set_array_base(y, memory)
        return y

    cdef state_arrays(self):
        """New arrays for a state."""
        cdef str dtype = "f4" if self.run.team.kernels.itemsize == 4 else "f8"
        return [np.empty((units, self.run.view.sequences, width), dtype) for units, width in self.plan.state_shapes]

    cdef void store_states(self, list states) noexcept:
        cdef Run *r = &self.run
        cdef Unit *u
        cdef int n, d, i
        for n in range(r.layer_count):
            for d in range(r.layer[n].units):
                u = &r.layer[n].unit[d]
                for i in range(u.kernel.states):
                    store_state(r, n, d, i, data(states[u.state_array + i]) + state_place(r, u, i))

    # ------------------------------------------------------------ forward

    def forward(self, theta, Schedule schedule, x, list state, Saved saved, int threads, uint64_t seed,
                uint64_t drop_step, feedback=None, bint want_y=False, out=None, bint share_y=True):
        """Run all layers; returns the outputs if they are wanted.

        x : (T, B, D) of the layers' precision, or int64 ids (T, B) or (T, B, F); C-contiguous and checked. Dense rows
            (rows, D) are taken as packed already; outputs, their gradient and dx are then (rows, ...), too. A full or
            packed dense batch is read where it lies, by backward again.
        state : list of arrays (units, B, width), or None for zeros.
        saved : what backward will need goes here; None: no training, nothing is kept.
        feedback : (T, B, F), what the last layer is fed back in place of its outputs, or None.
        out : array for the outputs, C-contiguous and of their shape.
        share_y : backward may read the outputs where they lie; else the caller may write to them.
        """
        cdef rnncore_call call
        cdef Run *r = &self.run
        cdef bint dense = self.plan.structure.kind == DENSE, held = self.weights.theta is not None
        cdef char *source = data(x)
        cdef char *fed = NULL if feedback is None else data(feedback)
        cdef long fed_width = 0 if feedback is None else feedback.shape[2]
        if held:
            theta = self.weights.theta
        self.begin(data(theta), schedule, dense and x.ndim == 2, saved is not None, state is not None,
                   feedback is not None, x.shape[2] if not dense and x.ndim == 3 else 1, threads)
        r.seed = seed
        r.drop_step = drop_step
        self.held = (theta, x, state, feedback)
        self.set_states(state)
        r.y_is_state = want_y and share_y and outputs_are_states(r, out is not None)
        y = None
        if want_y:
            y = out
            if y is None:
                y = self.outputs_array(r.y_is_state)
            elif not same_rows(&r.view):
                y.fill(0)
            set_outputs(r, data(y), y.shape[y.ndim - 1])
        if saved is not None:
            saved.pending = False
            saved.schedule = schedule
            saved.x = x if dense and same_rows(&r.view) else None
            saved.y = y if r.y_is_state else None
            saved.packed, saved.has_state, saved.fed = r.view.packed, r.has_state, r.fed
            saved.per_row, saved.threads = r.per_row, threads
            saved.seed, saved.drop_step = seed, drop_step
        self.place(saved)
        with nogil:
            begin_call(&call, True)
            forward_pass(r, source, fed, fed_width, NULL if held else self.weights.units)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        if saved is not None:
            saved.pending = True
        return y

    def final_states(self):
        """Return the last states of the run at hand as a list of arrays (units, B, width)."""
        states = self.state_arrays()
        self.store_states(states)
        return states

    def release(self):
        """Let go of the arrays that the run at hand was given."""
        self.held = None

    # ------------------------------------------------------------ backward

    cdef begin_backward(self, Saved saved, bint consume, bint want_dx, bint dx_in_place):
        """Lay out the arrays of a backward pass."""
        cdef Bump scratch
        saved.pending = False
        self.begun = False
        scratch.base = self.scratch.base
        scratch.used = 0
        place_backward(&self.run, &scratch, consume, want_dx, dx_in_place)
        if scratch.used > self.scratch.capacity:
            self.scratch.reserve(scratch.used)
            scratch.base = self.scratch.base
            scratch.used = 0
            place_backward(&self.run, &scratch, consume, want_dx, dx_in_place)

    cdef restore(self, theta, Saved saved):
        """Bind the layers to the forward pass that left `saved`, wherever that lies now."""
        cdef Run *r = &self.run
        cdef Bump keep
        cdef Layer *top = &self.layer[self.plan.structure.layer_count - 1]
        self.begin(data(theta), saved.schedule, saved.packed, True, saved.has_state, saved.fed, saved.per_row,
                   saved.threads)
        r.seed = saved.seed
        r.drop_step = saved.drop_step
        self.held = (theta, saved)
        r.y_is_state = saved.y is not None
        if r.y_is_state:
            top.unit[0].cell.state[0] = data(saved.y)
        keep.base = saved.base
        keep.used = 0
        place_forward(r, &keep)
        if saved.x is not None:
            load_dense(r, data(saved.x))

    cpdef backward(self, theta, grad, Saved saved, dy, list dstate, bint accumulate, bint want_dx=False,
                   bint consume=True, touched=None, out=None):
        """Back-propagate dy, or what a head left in the top units' dh (dy is None).

        dy : as the outputs, of the layers' precision and C-contiguous.
        dstate : gradient of the final states: a list of arrays (units, B, width), None for zeros.
        touched : told which rows of symbols get a gradient; None: grad is zero, or all of it is added to.
        consume : what forward left is not needed any more, and may be written to.
        out : array for dx, C-contiguous.
        Returns (dx or None, list of the initial states' gradients or None where there were none).
        """
        cdef rnncore_call call
        cdef Run *r = &self.run
        cdef Unit *u
        cdef Layer *top = &self.layer[self.plan.structure.layer_count - 1]
        cdef char *source = NULL if dy is None else data(dy)
        cdef char *target = NULL
        cdef long width, dy_width = 0 if dy is None else dy.shape[dy.ndim - 1]
        cdef int n, d, i
        cdef bint dx_in_place = False, dy_in_place = False
        want_dx = want_dx and self.plan.structure.kind == DENSE
        if dy is not None:
            self.restore(theta, saved)
            dx_in_place = want_dx and leaves_gradient_in_place(r)
            dy_in_place = takes_gradient_in_place(r, dstate is not None, dy_width)
            self.begin_backward(saved, consume, want_dx, dx_in_place)
            if dy_in_place:
                top.unit[0].cell.dh = source
            self.held = (theta, saved, grad, dy, dstate)
        dx = None
        width = r.layer[0].input[0].width
        if want_dx:
            dx = out
            if dx is None:
                shape = [r.view.rows, width] if r.view.packed else [r.view.steps, r.view.sequences, width]
                dx = (np.empty if same_rows(&r.view) else np.zeros)(shape, dtype=theta.dtype)
            elif not same_rows(&r.view):
                dx.fill(0)
            target = data(dx)
            if dx_in_place:
                r.dx = target
        for n in range(r.layer_count):
            for d in range(r.layer[n].units):
                u = &r.layer[n].unit[d]
                for i in range(u.kernel.states):
                    u.dfinal[i] = NULL
                    if dstate is not None:
                        u.dfinal[i] = data(dstate[u.state_array + i]) + state_place(r, u, i)
        r.grad = data(grad)
        if touched is not None:
            self.clear_symbols(touched, accumulate or self.begun)
        with nogil:
            begin_call(&call, True)
            backward_pass(r, self.weights.units, NULL if dy_in_place else source, dy_width,
                          NULL if dx_in_place else target, accumulate, want_dx)
            end_call(&call)
        if call.stopped:
            raise_stopped()
        return dx, self.state_gradients() if r.has_state else None

    cdef state_gradients(self):
        """Gradients of the initial states."""
        cdef rnncore_call call
        cdef Run *r = &self.run
        cdef Unit *u
        cdef int n, d, i
        cdef char *work
        cdef char *target
        gradients = self.state_arrays()
        for n in range(r.layer_count):
            for d in range(r.layer[n].units):
                u = &r.layer[n].unit[d]
                for i in range(u.kernel.states):
                    memory = np.empty(work_of_initial_gradient(r, u, i), dtype=np.uint8)
                    work = data(memory)
                    target = data(gradients[u.state_array + i]) + state_place(r, u, i)
                    with nogil:
                        begin_call(&call, True)
                        initial_gradient(r, n, d, i, work, target)
                        end_call(&call)
                    if call.stopped:
                        raise_stopped()
        return gradients

    # ------------------------------------------------------------ symbols

    def clear_symbols(self, touched, bint accumulate):
        """Zero the rows of symbols' gradients that are not written anew, and note those that are: this batch's.

        touched : what knows which rows differ from zero (rnncore.nn.touched).
        """
        cdef Run *r = &self.run
        cdef Unit *first = &r.layer[0].unit[0]
        cdef long width = r.embedding if r.kind == EMBEDDED else first.kernel.input_gates * first.gate
        cdef long d, size = r.team.kernels.itemsize, table
        new = None if r.kind == DENSE else distinct(r.ids, r.view.rows * r.per_row, r.features)
        for d in range(1 if r.kind == EMBEDDED else r.layer[0].units):
            table = r.table if r.kind == EMBEDDED else r.layer[0].unit[d].W_xh
            if r.kind == DENSE:
                touched.mark(table)
            elif accumulate:
                touched.add(table, new)
            else:
                rows = touched.replace(table, new)
                if rows is None:
                    memset(r.grad + table * size, 0, r.features * width * size)
                else:
                    zero_rows(r.grad + table * size, rows, width * size)

    def sizes(self):
        """Return bytes held: packed weights, and scratch for the largest batch so far."""
        return self.weights.size(), self.scratch.size()
