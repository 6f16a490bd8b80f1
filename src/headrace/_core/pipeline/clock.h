/* The clock of the scheduler: seconds that go on while the machine sleeps. */
#ifndef HEADRACE_CLOCK_H
#define HEADRACE_CLOCK_H

#include <time.h>

/* CLOCK_BOOTTIME where there is one (clock_gettime(2)), the wall clock elsewhere: a server ends its sessions while the
   machine sleeps, and a clock that stands still meanwhile would not tell. */
static inline double boot_seconds(void)
{
    struct timespec now;
#ifdef CLOCK_BOOTTIME
    clock_gettime(CLOCK_BOOTTIME, &now);
#else
    clock_gettime(CLOCK_REALTIME, &now);
#endif
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
