/* A variable that code written by src/thread_pointer.rs reads: at a fixed place from the thread pointer, which only C can ask
   for. */
#include "thread_pointer.h"

#if defined(__linux__) && defined(__x86_64__)
static __thread unsigned long shift __attribute__((tls_model("initial-exec")));

void retrace_shift_thread(unsigned long by)
{
    shift = by;
}

long retrace_thread_shift_place(void)
{
    char *pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer));
    return (char *)&shift - pointer;
}
#endif
