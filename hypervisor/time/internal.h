/* Shared by the files of time/: platform clocks. */
#ifndef TIME_INTERNAL_H
#define TIME_INTERNAL_H

#include "time/time.h"

/* A free-running counter: how fast it counts and how wide it is. */
struct platform_clock {
    const char *name;
    bool (*init)(void); /* false: this machine has none */
    uint64_t (*read)(void);
    uint64_t hz;
    uint64_t mask; /* of the bits that count */
};

/* The one in use; NULL before time_init(). */
extern const struct platform_clock *platform_clock;
void platform_clock_select(const char *wanted);

/* 2^64-safe a * b / c. */
uint64_t time_mul_div(uint64_t a, uint64_t b, uint64_t c);
/* mul and shift of the ABI for a TSC of @hz. Pure. */
void tsc_scale_set(struct tsc_scale *s, uint64_t hz);
uint64_t tsc_scale_delta(const struct tsc_scale *s, uint64_t ticks); /* ns */

void tsc_init(void);
void wallclock_init(void);

#endif
