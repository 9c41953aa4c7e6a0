/* See address_text.h. */
/* The functions below are those of the C library themselves. */
#undef _FORTIFY_SOURCE
#include "address_text.h"
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What the hooks replaced, which they do not need: the same function without a limit. */
void *retrace_next_sprintf;

static int is_address(const char *format) { return format[0] == '%' && format[1] == 'p' && format[2] == '\0'; }

/* As vsprintf into `room` bytes. Ends the process where that is too little, as the C library does. */
static int print(char *into, size_t room, const char *format, va_list arguments)
{
    int length;
    if (is_address(format)) {
        size_t shown = retrace_shown_address((size_t)va_arg(arguments, void *));
        length = shown == 0 ? snprintf(into, room, "0x?") : snprintf(into, room, "%p", (void *)shown);
    }
    else
        length = vsnprintf(into, room, format, arguments);
    if (length >= 0 && (size_t)length >= room)
        abort();
    return length;
}

/* No C library takes more room than an int counts. */
#define ANY_ROOM ((size_t)INT_MAX)

int retrace_hook_sprintf(char *into, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = print(into, ANY_ROOM, format, arguments);
    va_end(arguments);
    return length;
}

int retrace_hook_sprintf_chk(char *into, int flag, size_t room, const char *format, ...)
{
    (void)flag;
    va_list arguments;
    va_start(arguments, format);
    int length = print(into, room > ANY_ROOM ? ANY_ROOM : room, format, arguments);
    va_end(arguments);
    return length;
}
