/*
 * Time: nanoseconds since boot from the TSC, checked against a platform clock; per-CPU timers.
 * Lock: RANK_TIMER per CPU.
 */
#ifndef TIME_TIME_H
#define TIME_TIME_H

#include "lib/compiler.h"
#include "lib/rbtree.h"
#include "lib/types.h"

typedef uint64_t ns_t; /* nanoseconds since boot ("system time" of the ABI) */

#define MICROSECONDS(n) ((ns_t)(n)*1000)
#define MILLISECONDS(n) ((ns_t)(n)*1000000)
#define SECONDS(n)      ((ns_t)(n)*1000000000)
#define NS_NEVER        (~0UL)

/* TSC to ns as the ABI scales it: ns = base_ns + ((tsc - base_tsc) << shift) * mul >> 32
 * (struct vcpu_time_info, xen/xen.h). */
struct tsc_scale {
    uint64_t base_tsc;
    ns_t base_ns;
    uint32_t mul;
    int8_t shift;
};

void time_init(void);     /* platform clock, TSC frequency, boot wall clock (CMOS) */
void time_init_cpu(void); /* per-CPU timer structures */
ns_t time_now(void);
ns_t time_from_tsc(uint64_t tsc);
uint64_t time_to_tsc(ns_t when);
const struct tsc_scale *time_scale(void);
bool time_tsc_stable(void); /* TSCs are constant and agree across CPUs */
uint64_t time_tsc_khz(void);
const char *time_source_name(void);
void time_busy_wait(ns_t delay); /* polls; boot and reset paths only */

/* A clock and the TSC at one moment; @tsc is right to half of @gap. */
struct time_sample {
    uint64_t clock, tsc, gap;
};
/* Of several attempts, the one least disturbed in between. */
struct time_sample time_sample(uint64_t (*read)(void));

/* Wall clock: UTC at ns since boot 0. Changed by dom0 (XENPF_settime). */
void wallclock_get(uint64_t *seconds, uint32_t *nanoseconds);
void wallclock_set(uint64_t seconds, uint32_t nanoseconds, ns_t at);

/* Timers. Callbacks run in interrupt context on the timer's CPU, may take locks. */
struct timer {
    struct rb_node node;
    ns_t expires;
    void (*fn)(void *);
    void *data;
    unsigned cpu;
    bool active;
};
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu);
/* Moves it if active. In the past: fires at once; NS_NEVER: not at all. */
void timer_set(struct timer *t, ns_t expires);
/* Afterwards the callback does not run: waits for one on another CPU, so the caller holds no lock
 * that the callback takes. A timer of zeros may be stopped too. */
void timer_stop(struct timer *t);
void timer_migrate(struct timer *t, unsigned cpu);
void timer_interrupt(void); /* VECTOR_TIMER */

#endif
