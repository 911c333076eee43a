/*
 * What the devices of this folder share. They are pure: each function is told the time (nanoseconds
 * since boot), what a device keeps of time is computed from that; when it next wants to be asked,
 * and the level of its line, it says when it is asked.
 */
#ifndef HVM_DEV_DEVICE_H
#define HVM_DEV_DEVICE_H

#include "lib/compiler.h"
#include "lib/types.h"

#define DEV_NEVER  (~0UL)
#define DEV_SECOND 1000000000UL
/*
 * No device gives more than one interrupt in this many nanoseconds: a guest that asks for a period
 * of one tick gets its counter so, but not the interrupts, which would be all that the CPU does.
 */
#define DEV_PERIOD_LEAST 100000UL

/* What became of an interrupt that was asked for: */
enum line_result {
    LINE_LOST,   /* masked, or nobody listens */
    LINE_MERGED, /* an earlier one is not taken yet */
    LINE_TAKEN
};

/* Ticks at @hz (below 2^32) that have passed after @ns. */
static inline uint64_t clock_ticks(uint64_t ns, uint32_t hz)
{
    return ns / DEV_SECOND * hz + ns % DEV_SECOND * hz / DEV_SECOND;
}

/* The first nanosecond at which @ticks have passed. */
static inline uint64_t clock_ns(uint64_t ticks, uint32_t hz)
{
    if (ticks / hz >= DEV_NEVER / DEV_SECOND)
        return DEV_NEVER;
    return ticks / hz * DEV_SECOND + (ticks % hz * DEV_SECOND + hz - 1) / hz;
}

/* @a + @b, DEV_NEVER if that is beyond it. */
static inline uint64_t clock_add(uint64_t a, uint64_t b)
{
    return a > DEV_NEVER - b ? DEV_NEVER : a + b;
}

#endif
