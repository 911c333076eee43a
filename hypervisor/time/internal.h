/* Between the files of time/. */
#ifndef TIME_INTERNAL_H
#define TIME_INTERNAL_H

#include "time/time.h"

/* Platform clock (source.c). */
void source_init(void);
uint64_t source_calibrate_tsc(void); /* Hz */
/* Nanoseconds that the platform clock counted since the last call; false: it wraps too fast to be
 * asked now and then. The first call only starts it. */
bool source_elapsed(ns_t *elapsed);

void tsc_set_frequency(uint64_t hz, uint64_t base_tsc);
void tsc_check_cpu(void);   /* on a secondary CPU: does its TSC agree with CPU 0's? */
void tsc_watch_start(void); /* CPU 0: against the platform clock, once a second */
void timer_init_cpu(void);
void wallclock_init(void); /* from the CMOS clock */

/* hi:lo / d where the quotient fits (hi < d): the compiler would call a library for it. */
static inline uint64_t divide_128(uint64_t hi, uint64_t lo, uint64_t d)
{
    uint64_t quotient, remainder;
    __asm__("divq %4" : "=a"(quotient), "=d"(remainder) : "a"(lo), "d"(hi), "r"(d) : "cc");
    return quotient;
}

#endif
