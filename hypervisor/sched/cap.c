/*
 * Caps: what the vCPUs of a domain may use together, in percent of one CPU.
 *
 * A group has a budget for each period. Whoever runs draws on it afterwards, by what it ran; a
 * group that has drawn too much starts the next periods in debt. So over time the cap is exact
 * although several CPUs draw at once. All by atomic operations: vCPUs of one domain on different
 * CPUs share no lock.
 */
#include "sched/internal.h"

#define PERIOD MILLISECONDS(20)

static int64_t quota(const struct sched_group *g)
{
    return (int64_t)(READ_ONCE(g->cap) * (PERIOD / 100));
}

void cap_set(struct sched_group *g, uint32_t cap, ns_t now)
{
    if (!g || READ_ONCE(g->cap) == cap)
        return;
    WRITE_ONCE(g->cap, cap);
    __atomic_store_n(&g->period_start, now, __ATOMIC_SEQ_CST);
    __atomic_store_n(&g->budget, quota(g), __ATOMIC_SEQ_CST);
}

void cap_charge(struct sched_group *g, ns_t ran)
{
    if (g && READ_ONCE(g->cap))
        __atomic_fetch_sub(&g->budget, (int64_t)ran, __ATOMIC_SEQ_CST);
}

/* The periods that have ended since add their quota; what was not used is lost. */
static void refill(struct sched_group *g, ns_t now)
{
    ns_t start = READ_ONCE(g->period_start);
    if (now < start + PERIOD)
        return;
    ns_t periods = (now - start) / PERIOD;
    if (!__atomic_compare_exchange_n(&g->period_start, &start, start + periods * PERIOD, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return; /* another CPU does it */
    int64_t most = quota(g), old = READ_ONCE(g->budget), new;
    if (periods > 1000000) /* a debt of hours is not real: a clock jumped */
        periods = 1000000;
    do {
        new = old + (int64_t)periods *most;
        if (new > most)
            new = most;
    } while (!__atomic_compare_exchange_n(&g->budget, &old, new, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
}

ns_t cap_left(struct sched_group *g, ns_t now, ns_t *next)
{
    int64_t per_period = g ? quota(g) : 0;
    if (!per_period)
        return NS_NEVER;
    refill(g, now);
    int64_t budget = READ_ONCE(g->budget);
    if (budget > 0)
        return (ns_t)budget;
    /* as many periods as the debt takes, and something left */
    ns_t periods = (ns_t)(-budget / per_period + 1);
    *next = READ_ONCE(g->period_start) + periods * PERIOD;
    return 0;
}
