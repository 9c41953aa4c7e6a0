#ifndef RETRACE_THREAD_POINTER_H
#define RETRACE_THREAD_POINTER_H

/* By how much the number that code makes of the thread pointer is another one in the running thread of a replay: 0 in
   every new thread of the system's. */
void retrace_shift_thread(unsigned long by);

/* Where that is, from the thread pointer: the same in all threads. */
long retrace_thread_shift_place(void);

#endif
