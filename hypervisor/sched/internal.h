/* Shared by the files of the policy: fair.c (who), affinity.c (where), cap.c (how much). */
#ifndef SCHED_INTERNAL_H
#define SCHED_INTERNAL_H

#include "sched/fair.h"

/* Virtual time: ns * 2^16 / weight, compared as signed differences so that it may wrap. */
#define VTIME_SHIFT 16
static inline uint64_t vtime_of(ns_t ns, uint32_t weight)
{
    ns_t most = 1UL << 44; /* some hours: a lone one is not looked at in between */
    return ((ns < most ? ns : most) << VTIME_SHIFT) / weight;
}
static inline ns_t ns_of(uint64_t vtime, uint32_t weight) /* of a few ms */
{
    return vtime * weight >> VTIME_SHIFT;
}
#define VTIME(ns) vtime_of(ns, SCHED_WEIGHT_DEFAULT)
static inline bool vtime_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

#define SLICE_MIN    MILLISECONDS(2)
#define SLICE_MAX    MILLISECONDS(10)
#define SLICE_ROUND  MILLISECONDS(20)         /* everybody once in this time, if slices allow */
#define PREEMPT_LEAD VTIME(MICROSECONDS(200)) /* so much behind the running one, and it must go */
/* behind the clock, at most: who slept, and who comes from a slower queue; both may preempt */
#define SLEEP_CREDIT      VTIME(MILLISECONDS(4))
#define MOVE_CREDIT       VTIME(MILLISECONDS(2))
#define OWED_MOST         VTIME(MILLISECONDS(500))
#define HANDOFF_LEAD      VTIME(MILLISECONDS(4)) /* clocks so far apart are brought together */
#define HANDOFF_LEAD_TURN VTIME(MILLISECONDS(12))
#define SLICE_LEAST       MICROSECONDS(200) /* of who has less budget left; the rest is debt */
#define HANDOFF_EVERY     MILLISECONDS(2)
#define EPOCH             SECONDS(16)

extern struct cpu_mask fair_idle;    /* [a] CPUs that idle and nobody has claimed yet */
extern struct cpu_mask fair_waiting; /* [a] CPUs on whose queue somebody waits */

static inline bool fair_allowed(const struct sched_entity *e, unsigned cpu)
{
    return bit_test(e->hard.bits, cpu);
}

/* --- fair.c --- */
struct fair_queue *fair_lock(struct sched_entity *e); /* the queue it belongs to */
void fair_dequeue(struct fair_queue *q, struct sched_entity *e);
void fair_enqueue(struct fair_queue *q, struct sched_entity *e, ns_t now);
/* The clock as it would be now, without the lock. */
uint64_t fair_clock(const struct fair_queue *q, ns_t now);
/* How far the clock came in this epoch. */
int64_t fair_lead(const struct fair_queue *q, ns_t now);

/* --- affinity.c --- */
/* A CPU to wake @e on; its queue's lock is held. An idle one is claimed: kick it. */
unsigned fair_place(struct sched_entity *e, ns_t now);
/* An idle CPU for @e, claimed; MAX_CPUS: none. */
unsigned fair_claim_idle(const struct sched_entity *e);
bool fair_idle_for(const struct sched_entity *e);
/*
 * A CPU where @e, waiting on @q (locked), should run instead: an idle one, claimed, or one whose
 * clock is well ahead, of the few compared now and then; MAX_CPUS: none.
 */
unsigned fair_better_cpu(struct fair_queue *q, const struct sched_entity *e, ns_t now);
/*
 * @e, on no queue, from @from (locked) to the queue of @cpu: the caller enqueues it there. What it
 * is ahead or behind goes with it; with @compare also what the slower clock of @from cost it.
 */
void fair_move(struct sched_entity *e, struct fair_queue *from, unsigned cpu, bool compare,
               ns_t now);
/* One that waits on @q (locked) and had better run elsewhere, moved; NULL. */
struct sched_entity *fair_hand_off(struct fair_queue *q, ns_t now);
/* One that waits elsewhere, moved to the idle @q (not locked); NULL. */
struct sched_entity *fair_steal(struct fair_queue *q, ns_t now);

/* --- cap.c: lock-free --- */
void cap_set(struct sched_group *g, uint32_t cap, ns_t now);
void cap_charge(struct sched_group *g, ns_t ran);
/* ns that it may run now; 0: none, *next says when again. NS_NEVER: not capped. */
ns_t cap_left(struct sched_group *g, ns_t now, ns_t *next);

#endif
