/* A small program on rnncore.h: streams on several threads of its own at once, none of which knows Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <stdlib.h>

#include "rnncore.h"

typedef struct {
    const rnncore_api *rc;
    rnncore_session *session;
    const char *x;
    char *y;
    long steps, x_bytes, y_bytes; /* bytes of a step */
    int status;
} stream;

static void *run(void *argument) {
    stream *s = argument;
    for (long t = 0; t < s->steps && s->status == RNNCORE_OK; t++)
        s->status = s->rc->session_step(s->session, s->x + t * s->x_bytes, 1, s->y + t * s->y_bytes);
    return NULL;
}

/* streams(session, ids, x, y, threads): every thread runs the same stream x (T, ...) into its own part of y
 * (threads, T, ...); returns the first status that is not RNNCORE_OK. */
static PyObject *streams(PyObject *self, PyObject *args) {
    PyObject *session;
    Py_buffer x, y;
    int ids, threads, steps, opened = 0, started = 0, status = RNNCORE_OK;
    if (!PyArg_ParseTuple(args, "Oiy*w*ii", &session, &ids, &x, &y, &steps, &threads)) return NULL;
    const rnncore_api *rc = rnncore_import();
    stream *s = calloc((size_t)threads, sizeof(stream));
    pthread_t *thread = calloc((size_t)threads, sizeof(pthread_t));
    for (; rc && opened < threads; opened++) {
        stream made = {rc, rc->session_open(session, ids ? RNNCORE_IDS : RNNCORE_DENSE), x.buf,
                       (char *)y.buf + y.len / threads * opened, steps, x.len / steps, y.len / threads / steps, 0};
        s[opened] = made;
        if (!made.session) break;
    }
    if (opened == threads) {
        Py_BEGIN_ALLOW_THREADS
        for (; started < threads && !pthread_create(&thread[started], NULL, run, &s[started]); started++) {}
        for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
        Py_END_ALLOW_THREADS
        for (int i = 0; i < threads; i++) status = status ? status : s[i].status;
    }
    for (int i = 0; i < opened; i++) rc->session_close(s[i].session);
    free(thread);
    free(s);
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    if (PyErr_Occurred()) return NULL;
    return PyLong_FromLong(started < threads ? 1 : status);
}

/* A program that was compiled for a later table is told so. */
static PyObject *import_newer(PyObject *self, PyObject *ignored) {
    rnncore_api newer = *rnncore_import();
    newer.version = RNNCORE_API_VERSION - 1;
    PyObject *module = PyImport_ImportModule("rnncore._core.api"), *kept = PyObject_GetAttrString(module, "_C_API");
    PyObject *capsule = PyCapsule_New(&newer, "rnncore._core.api._C_API", NULL);
    PyObject_SetAttrString(module, "_C_API", capsule);
    const rnncore_api *found = rnncore_import();
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject_SetAttrString(module, "_C_API", kept);
    Py_DECREF(capsule);
    Py_DECREF(kept);
    Py_DECREF(module);
    PyErr_Restore(type, value, traceback);
    if (found) Py_RETURN_NONE;
    return NULL;
}

static PyMethodDef methods[] = {{"streams", streams, METH_VARARGS, NULL},
                                {"import_newer", import_newer, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "c_program", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_c_program(void) { return PyModule_Create(&definition); }
