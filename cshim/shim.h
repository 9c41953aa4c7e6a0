/* The shim's functions: see shim.c. The Rust declarations are in abi/src/lib.rs. */
#ifndef RETRACE_SHIM_H
#define RETRACE_SHIM_H
#include <Python.h>
#include <stdint.h>

/* A callable entered by a frame: `FrameCallable` in abi/src/lib.rs, field by field. */
struct retrace_frame_callable {
    PyObject *callable;
    PyObject *code;
    PyObject **locals;
    int positional;
    int keyword_only;
    int varargs;
    int varkeywords;
    int is_generator;
    PyObject *sent;
};

#endif
