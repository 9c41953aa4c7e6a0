/* Addresses in text. The `%p` of PyUnicode_FromFormat and PyBytes_FromFormat, by which every default repr shows where its
 * object is, is the C library's sprintf with exactly the format "%p" (Objects/unicodeobject.c, Objects/bytesobject.c).
 * The interpreter's import of that leads here; any other format is passed on.
 *
 * Why C: a function that takes any number of arguments. */
#ifndef RETRACE_ADDRESS_TEXT_H
#define RETRACE_ADDRESS_TEXT_H

#include <stddef.h>

/* src/address.rs: the number to be shown for an address. */
size_t retrace_shown_address(size_t address);

int retrace_hook_sprintf(char *into, const char *format, ...);

/* What sprintf becomes where the interpreter is built with _FORTIFY_SOURCE: `room` is the size of `into`, or (size_t)-1. */
int retrace_hook_sprintf_chk(char *into, int flag, size_t room, const char *format, ...);

#endif
