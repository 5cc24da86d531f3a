/* rnncore from C: one table of functions, fetched once from Python and then called from any thread.
 *
 *     #include <Python.h>
 *     #include "rnncore.h"                     // compile with -I"$(python -c 'import rnncore; print(rnncore.get_include())')"
 *     const rnncore_api *rc = rnncore_import();  // with the GIL; NULL with an exception set
 *
 * Without Python.h this header declares everything but rnncore_import(): a part of a program that never sees Python can
 * be handed the table.
 *
 * ROWS AND SHAPES. All arrays are C-contiguous, row after row, without gaps but where a leading dimension (ld...) says
 * how many numbers lie from one row to the next. "Numbers" are float (itemsize 4) or double (8), as the layer or network
 * was built; pointers are aligned to the size of what they point to. T steps, B sequences, D inputs, F outputs (or K of
 * a network), P parameters. What is read and what is written must not overlap.
 *
 * OWNERSHIP. Handles are made by ..._open or matrix_pack and end with ..._close or matrix_free. Arrays are the caller's
 * and are not looked at after a call returns, but for one pair: between layers_forward_for_training and layers_backward
 * leave x and y as they are.
 *
 * THREADS. Functions marked [GIL] must be called with the GIL held; all others without needing it, from any thread, and
 * holding it is allowed, too. Only sessions of a network with a CRF take the GIL by themselves, for the CRF alone. A
 * matrix may be read by any number of threads at once. A layers or session handle is for one thread at a time (a second
 * one gets RNNCORE_BUSY); any number of handles on the same layer may be used at once, and they share packed weights.
 * `threads` says how many threads of the core's pool share the work of one call; bits never depend on it.
 *
 * ERRORS. Functions return RNNCORE_OK or a negative status, and then have done nothing, or nothing that counts; sizes,
 * pointers to NULL, lengths and ids are checked. Nothing is raised, but by [GIL] functions that return a pointer: NULL
 * means that a Python exception is set.
 *
 * DENORMAL numbers count as zero inside the calls, as everywhere in rnncore; the calling thread's mode is restored.
 *
 * VERSIONS. The table only grows. A program compiled with an older header works with every later rnncore;
 * rnncore_import() refuses an rnncore that is older than the header.
 */
#ifndef RNNCORE_H
#define RNNCORE_H

#include <stddef.h>
#include <stdint.h>

#define RNNCORE_API_VERSION 1

struct _object; /* a PyObject */

enum {
    RNNCORE_OK = 0,
    RNNCORE_BAD_POINTER = -1,  /* a pointer is NULL, or not aligned to the size of its numbers */
    RNNCORE_BAD_SIZE = -2,     /* a size is out of range, or not the handle's */
    RNNCORE_BAD_LENGTHS = -3,  /* a length is not in 1..T */
    RNNCORE_BAD_IDS = -4,      /* an id is not one of the symbols (or -1 in a bag) */
    RNNCORE_BAD_OPTION = -5,   /* an option that is not listed here, or not possible with this handle */
    RNNCORE_BAD_ORDER = -6,    /* backward without a forward pass for training before it: each serves one */
    RNNCORE_BUSY = -7,         /* another thread is using this handle */
    RNNCORE_NO_MEMORY = -8,    /* no memory */
    RNNCORE_PYTHON_ERROR = -9  /* something failed in Python; [GIL] functions have an exception set */
};

enum { RNNCORE_DENSE, RNNCORE_IDS };                           /* what x is */
enum { RNNCORE_FROM_ZERO, RNNCORE_FROM_BIAS, RNNCORE_FROM_C }; /* where a product starts from */
enum {                                                         /* what ..._size() tells */
    RNNCORE_ITEMSIZE,    /* 4: float, 8: double */
    RNNCORE_INPUT_SIZE,  /* D; or how many symbols there are */
    RNNCORE_OUTPUT_SIZE, /* F; or K of a network */
    RNNCORE_PARAMETERS,  /* P, the length of theta */
    RNNCORE_STATES,      /* arrays in a state: 1 for Elman and GRU, 2 for an LSTM (h and c) */
    RNNCORE_BATCH_SIZE,  /* B of a session; 0 of layers: any */
    RNNCORE_THREADS      /* threads where a call does not say */
};

typedef struct rnncore_matrix rnncore_matrix;   /* a matrix packed for products */
typedef struct rnncore_layers rnncore_layers;   /* one caller of a rnncore.Recurrent */
typedef struct rnncore_session rnncore_session; /* one stream, or several side by side, with its state */

/* A ragged batch. Its packed order: sequences longest first (equal ones as they come), all rows of step 0, then all of
 * step 1 that reach it, and so on: `sum of the lengths` rows. */
typedef struct rnncore_batch {
    int64_t steps, sequences; /* T, B */
    const int64_t *lengths;   /* (B), each in 1..T, in any order; NULL: all T */
    int packed;               /* nonzero: x, y, dy and dx have the rows of the packed order instead of (T, B, ...) */
    int threads;              /* 0: the handle's own number */
    int64_t per_row;          /* ids per row: 0 or 1, or F for bags of ids; not looked at where x is dense */
    const void *x;            /* numbers (T, B, D), or int64_t ids (T, B) or (T, B, per_row) with -1 for none. What lies
                               * past a sequence's end does not count */
    const void *const *state; /* initial states, an array (units, B, width) for each; NULL: zero */
} rnncore_batch;

/* Gradients into and out of layers_backward. */
typedef struct rnncore_gradients {
    const void *dy;             /* gradient of the outputs, of the shape of y */
    const void *const *dfinal;  /* gradients of the final states, arrays (units, B, width); NULL: zero */
    void *grad;                 /* (P): the parameters' gradient is ADDED to it */
    void *dx;                   /* of the shape of x, or NULL: not wanted; not for ids */
    void *const *dstate;        /* gradients of the initial states, or NULL: not wanted; the batch must have had a state */
} rnncore_gradients;

typedef struct rnncore_api {
    int version; /* of the rnncore that filled the table: at least that of the program */
    size_t size; /* of the table there, in bytes */

    /* A status in words; for any number. Static text. */
    const char *(*message)(int status);
    /* The instruction-set level in use: "v4", "v3", "baseline" or "portable". Static text. */
    const char *(*level)(void);
    /* [GIL] rnncore.get_num_threads(); RNNCORE_PYTHON_ERROR with an exception set where it raises. */
    int (*num_threads)(void);

    /* ---- packed products: C (M, N) = start + A (M, K) · B (K, N) */

    /* Pack B = W (K, N), or with `transposed` B = Wᵀ of W (N, K), into *made; W has rows of ldw numbers. bias: (N) or
     * NULL: none. W and bias are copied: nothing of the caller's is kept. */
    int (*matrix_pack)(int itemsize, int64_t K, int64_t N, const void *W, int64_t ldw, int transposed,
                       const void *bias, rnncore_matrix **made);
    /* C = (0 | bias | C) + A·B; A (M, K) with rows of lda, C (M, N) with rows of ldc numbers. One chain of multiply-adds
     * per number: a row's bits depend neither on M nor on threads (with RNNCORE_GEMM=blas they are BLAS's). M may be 0;
     * threads: at least 1. */
    int (*matrix_multiply)(const rnncore_matrix *matrix, int64_t M, const void *A, int64_t lda, int start, void *C,
                           int64_t ldc, int threads);
    void (*matrix_free)(rnncore_matrix *matrix); /* NULL is allowed */

    /* ---- layers over ragged batches */

    /* [GIL] A handle on a rnncore.Recurrent, which it keeps alive. Its parameters are packed as they are now and shared
     * with sessions and other handles. input: RNNCORE_DENSE or RNNCORE_IDS; training: nonzero: room for
     * layers_forward_for_training as well. */
    rnncore_layers *(*layers_open)(struct _object *layer, int input, int training);
    void (*layers_close)(rnncore_layers *layers); /* [GIL] NULL is allowed */
    /* [GIL] Take the parameters as they are now. On failure an exception is set and the old ones stay. */
    int (*layers_refresh)(rnncore_layers *layers);
    /* A size, or a negative status. */
    int64_t (*layers_size)(const rnncore_layers *layers, int what);
    /* The shape (units, B, width) of array `number` of a state. units = layers · directions. */
    int (*layers_state_shape)(const rnncore_layers *layers, int number, int64_t *units, int64_t *width);
    /* Layer.forward(training=False) on the packed parameters. y (T, B, F), zero past the ends, or packed rows (.., F);
     * final: an array (units, B, width) for each state, B in the caller's order. Either may be NULL: not wanted. */
    int (*layers_forward)(rnncore_layers *layers, const rnncore_batch *batch, void *y, void *const *final);
    /* Layer.forward(training=True) on theta (P), of any owner: mostly the array of layer.theta. Parameters are packed
     * anew. What layers_backward needs is kept in the handle. Dropout's masks are a function of seed and step (the
     * layer's dropout_seed and dropout_step; this call does not count the step up). */
    int (*layers_forward_for_training)(rnncore_layers *layers, const rnncore_batch *batch, const void *theta,
                                       uint64_t seed, uint64_t step, void *y, void *const *final);
    /* Back-propagate through the latest forward pass for training of this handle; theta must hold what it held then. */
    int (*layers_backward)(rnncore_layers *layers, const void *theta, const rnncore_gradients *gradients);

    /* ---- streams */

    /* [GIL] A stream of its own that begins with the parameters and the state of a Python session (layer.session(),
     * net.session()), and shares its packed weights; the two do not see one another's steps. input: as above. Of
     * networks for those with one compiled head at every step and one input, without sparse features (skip). */
    rnncore_session *(*session_open)(struct _object *session, int input);
    void (*session_close)(rnncore_session *session); /* [GIL] NULL is allowed */
    /* [GIL] Take the layer's or network's parameters as they are now; the state stays. Failure: as of layers_refresh. */
    int (*session_refresh)(rnncore_session *session);
    int64_t (*session_size)(const rnncore_session *session, int what);
    int (*session_state_shape)(const rnncore_session *session, int number, int64_t *units, int64_t *width);
    /* One step of every sequence, going on from the state: x (B, D), or ids (B) or (B, per_row); out (B, F) or (B, K).
     * Not for layers of a reverse direction (RNNCORE_BAD_OPTION). */
    int (*session_step)(rnncore_session *session, const void *x, int64_t per_row, void *out);
    /* Whole sequences, going on from the state: batch->state must be NULL, its sequences the session's B. out: as y. */
    int (*session_run)(rnncore_session *session, const rnncore_batch *batch, void *out);
    /* Set the state of `count` sequences to zero, or of all (rows NULL): begin anew. */
    int (*session_reset)(rnncore_session *session, const int64_t *rows, int64_t count);
    /* Copy the state out or in: an array (units, B, width) for each. RNNCORE_BAD_OPTION where none is carried. */
    int (*session_get_state)(rnncore_session *session, void *const *state);
    int (*session_set_state)(rnncore_session *session, const void *const *state);
} rnncore_api;

#ifdef Py_PYTHON_H
/* [GIL] The table, or NULL with an exception set. It stays valid as long as the process. */
static inline const rnncore_api *rnncore_import(void) {
    const rnncore_api *api = NULL;
    PyObject *capsule = NULL, *module = PyImport_ImportModule("rnncore._core.api");
    if (module) capsule = PyObject_GetAttrString(module, "_C_API");
    if (capsule) api = (const rnncore_api *)PyCapsule_GetPointer(capsule, "rnncore._core.api._C_API");
    if (api && (api->version < RNNCORE_API_VERSION || api->size < sizeof(rnncore_api))) {
        PyErr_Format(PyExc_ImportError,
                     "this program was compiled for version %d of rnncore's table of C functions, but the rnncore that is "
                     "installed has version %d: install a newer rnncore",
                     RNNCORE_API_VERSION, api->version);
        api = NULL;
    }
    Py_XDECREF(capsule);
    Py_XDECREF(module);
    return api;
}
#endif

#endif
