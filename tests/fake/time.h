/* Time that stands still until a test moves it; timers fire then. */
#ifndef FAKE_TIME_H
#define FAKE_TIME_H

#include "time/time.h"

extern ns_t fake_now;
extern struct tsc_scale fake_scale; /* what time_scale() says */
extern bool fake_tsc_stable;
extern uint64_t fake_wall_seconds; /* wallclock_get() */
extern uint32_t fake_wall_nanoseconds;

void fake_time_reset(void);      /* now: 1000 s, no timers */
void fake_time_advance(ns_t by); /* fires what is due, in order */
unsigned fake_timers_active(void);

#endif
