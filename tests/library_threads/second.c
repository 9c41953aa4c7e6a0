/* A module that uses a library of another one's when it is loaded. */
#include <Python.h>

void first_asked(void);

__attribute__((constructor)) static void loaded(void) { first_asked(); }

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "second", NULL, -1, NULL};

PyMODINIT_FUNC PyInit_second(void) { return PyModule_Create(&module); }
