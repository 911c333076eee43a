/*
 * The scheduling policy: weighted fair queueing over many CPUs. Pure code: it knows time, other
 * CPUs and timers only through struct fair_ops, so a host program simulates any machine with it.
 *
 * Each CPU has a queue of entities that wait, ordered by virtual time: the time an entity has run,
 * divided by its weight. Who has the least runs next, for a slice of 2 to 10 ms. A queue's clock is
 * the least virtual time on it and never goes back; what sleeps or comes from another queue is put
 * at most a bounded credit behind that clock and at most one slice of its own before it, so nobody
 * is starved by a newcomer and nobody saves up time by sleeping. A newcomer that is far enough
 * behind the running one preempts it; any other waits for the least slice at most before it is
 * compared again, so that sleeping a little costs nothing either.
 *
 * Weights count per entity, as with credit2: a domain with two vCPUs gets twice what it would with
 * one. The cap counts per domain (struct sched_group).
 *
 * Between CPUs: a wake-up goes to an idle CPU if there is one, the last one first; a CPU that goes
 * idle takes from those where somebody waits; and a busy CPU whose clock falls behind another's
 * hands an entity over to it, which keeps shares equal where numbers do not divide (three entities
 * on two CPUs). An entity whose state is still in its CPU (on_cpu) does not move. Who is handed
 * over has lost what the clocks are apart: it may take a little of that at once, less than a
 * sleeper's credit, so that wake-ups do not wait for it, and runs at half price until the rest is
 * paid.
 *
 * Cost: nothing scans entities or domains. What sleeps is on no list.
 */
#ifndef SCHED_FAIR_H
#define SCHED_FAIR_H

#include "sched/sched.h"

#include <xen/vcpu.h>

struct fair_ops {
    ns_t (*now)(void);
    void (*kick)(unsigned cpu);           /* make it call fair_schedule() soon */
    void (*arm)(unsigned cpu, ns_t when); /* kick that CPU then */
    void (*runstate)(struct sched_entity *e, int state, ns_t now); /* queue lock held */
};
extern const struct fair_ops *fair_ops;
extern struct fair_queue *fair_queues[MAX_CPUS]; /* NULL: no such CPU */

/* [q] its lock; the fields marked r are also read by others without it, as estimates. */
struct fair_queue {
    struct spinlock lock;      /* RANK_SCHED */
    unsigned cpu;              /* [I] */
    struct sched_entity *curr; /* who runs; NULL = idle */
    struct rb_root waiting;    /* by vtime */
    struct rb_root parked;     /* by unpark: no budget left */
    unsigned waiters;          /* r */
    uint32_t load;             /* r sum of weights that wait or run */
    uint64_t clock;            /* r least vtime here; never goes back */
    ns_t curr_from;            /* r clock counts curr's time up to here */
    uint32_t curr_weight;      /* r 0 = idle */
    uint64_t epoch_clock;      /* r clock when the epoch began, for comparing queues */
    uint64_t epoch;            /* r */
    ns_t advanced;             /* when clock was last looked at */
    ns_t next_handoff;
    ns_t timer;     /* as armed */
    unsigned probe; /* next queue to look at */
    ns_t now;       /* of the last fair_schedule() */
};

void fair_queue_init(struct fair_queue *q, unsigned cpu);

/*
 * What this CPU (the caller) runs from now on; NULL: idle. The former one (q->curr) is put back or
 * left alone as its blockers say; with @yield it goes behind the next one.
 */
struct sched_entity *fair_schedule(struct fair_queue *q, bool yield);

/* @e may have become runnable: put it on a queue if it is on none. */
void fair_wake(struct sched_entity *e);
/* @e may have ceased to be: take it off its queue, or make its CPU look. */
void fair_sleep(struct sched_entity *e);
/* @e has just left its CPU (on_cpu is false now): it may move from now on. */
void fair_settle(struct sched_entity *e);
/* Must @e, idle-resident on CPU @cpu, leave it for good? Racy; those who change that kick. */
bool fair_must_leave(const struct sched_entity *e);

int __must_check fair_set_affinity(struct sched_entity *e, const struct cpu_mask *hard,
                                   const struct cpu_mask *soft);
void fair_set_params(struct sched_entity *e, uint32_t weight, uint32_t cap);

/* ns for which who runs keeps its CPU whoever wakes up. [a] */
extern ns_t fair_ratelimit;

static inline bool fair_may_run(const struct sched_entity *e)
{
    return READ_ONCE(e->blockers) == 0 || READ_ONCE(e->in_hypervisor);
}

#endif
