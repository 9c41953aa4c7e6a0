/* stub */
#include <Python.h>
#include "version.h"
#include "pycore_frame.h"
#include "pycore_code.h"
static uint64_t mix(uint64_t h, uint64_t v) { h ^= v + 0x9e3779b97f4a7c15UL + (h << 6) + (h >> 2); return h * 0xff51afd7ed558ccdUL; }
uint64_t retrace_fingerprint_place(PyThreadState *ts) { uint64_t h = 7; for (_PyInterpreterFrame *f = ts->cframe->current_frame; f; f = f->previous) { if (!f->f_code || !PyCode_Check(f->f_code)) continue; h = mix(h, f->f_code->co_firstlineno); h = mix(h, (char *)f->prev_instr - (char *)_PyCode_CODE(f->f_code)); } return h; }
uint64_t retrace_fingerprint_shallow(PyThreadState *ts) { uint64_t h = 7; for (_PyInterpreterFrame *f = ts->cframe->current_frame; f; f = f->previous) { if (!f->f_code || !PyCode_Check(f->f_code)) continue; for (int i = 0; i < f->f_code->co_nlocalsplus; i++) { PyObject *o = f->localsplus[i]; if (o && PyLong_CheckExact(o)) h = mix(h, (uint64_t)_PyLong_NumBits(o) ^ *(uint32_t *)((char *)o + 24)); } } return h; }
uint64_t retrace_fingerprint_deep(PyThreadState *ts) { return 0; }
