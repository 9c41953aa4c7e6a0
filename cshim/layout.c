/* Checks at compile time that the layout constants of abi/src/layout_3_*.rs are those of the headers.
 * In C because only C sees the headers; there is no code here. */
#include <Python.h>
#include <stddef.h>
#include "pycore_frame.h"
#include "pycore_code.h"
#include "version.h"

#define SAME(constant, type, field) \
    _Static_assert(offsetof(type, field) == (constant), #type "." #field " is elsewhere: see abi/src/layout_3_*.rs")

SAME(LAYOUT_TSTATE_CFRAME, PyThreadState, cframe);
SAME(LAYOUT_TSTATE_ID, PyThreadState, id);
SAME(LAYOUT_CFRAME_CURRENT_FRAME, _PyCFrame, current_frame);
SAME(LAYOUT_FRAME_CODE, _PyInterpreterFrame, f_code);
#ifdef LAYOUT_FRAME_PREVIOUS
SAME(LAYOUT_FRAME_PREVIOUS, _PyInterpreterFrame, previous);
#endif
SAME(LAYOUT_FRAME_PREV_INSTR, _PyInterpreterFrame, prev_instr);
SAME(LAYOUT_FRAME_OWNER, _PyInterpreterFrame, owner);
#ifdef LAYOUT_LONG_TAG
SAME(LAYOUT_LONG_TAG, PyLongObject, long_value.lv_tag);
SAME(LAYOUT_LONG_DIGITS, PyLongObject, long_value.ob_digit);
#else
SAME(LAYOUT_LONG_DIGITS, PyLongObject, ob_digit);
#endif
SAME(LAYOUT_CODE_CODE_ADAPTIVE, PyCodeObject, co_code_adaptive);
