#include "fake/time.h"

#include <stddef.h>
#include <string.h>

#define MAX_TIMERS 512

ns_t fake_now = SECONDS(1000);
struct tsc_scale fake_scale = {.mul = 1u << 31, .shift = 1};
bool fake_tsc_stable = true;
uint64_t fake_wall_seconds;
uint32_t fake_wall_nanoseconds;
static struct timer *timers[MAX_TIMERS];

void fake_time_reset(void)
{
    fake_now = SECONDS(1000);
    memset(timers, 0, sizeof(timers));
}

unsigned fake_timers_active(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MAX_TIMERS; i++)
        n += timers[i] != NULL;
    return n;
}

static struct timer **slot_of(const struct timer *t)
{
    for (unsigned i = 0; i < MAX_TIMERS; i++)
        if (timers[i] == t)
            return &timers[i];
    return NULL;
}

void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu)
{
    memset(t, 0, sizeof(*t));
    t->fn = fn;
    t->data = data;
    t->cpu = cpu;
}

void timer_set(struct timer *t, ns_t expires)
{
    if (!t->active)
        *slot_of(NULL) = t;
    t->active = true;
    t->expires = expires;
}

void timer_stop(struct timer *t)
{
    if (t->active)
        *slot_of(t) = NULL;
    t->active = false;
}

void timer_migrate(struct timer *t, unsigned cpu)
{
    t->cpu = cpu;
}

void fake_time_advance(ns_t by)
{
    ns_t end = fake_now + by;
    for (;;) {
        struct timer *first = NULL;
        for (unsigned i = 0; i < MAX_TIMERS; i++)
            if (timers[i] && (!first || timers[i]->expires < first->expires))
                first = timers[i];
        if (!first || first->expires > end)
            break;
        if (first->expires > fake_now)
            fake_now = first->expires;
        timer_stop(first);
        first->fn(first->data);
    }
    fake_now = end;
}

ns_t time_now(void)
{
    return fake_now;
}

const struct tsc_scale *time_scale(void)
{
    return &fake_scale;
}

bool time_tsc_stable(void)
{
    return fake_tsc_stable;
}

void time_busy_wait(ns_t delay)
{
    fake_now += delay;
}

void wallclock_get(uint64_t *seconds, uint32_t *nanoseconds)
{
    *seconds = fake_wall_seconds;
    *nanoseconds = fake_wall_nanoseconds;
}
