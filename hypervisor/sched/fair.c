/*
 * Who runs on a CPU, and for how long (theory in fair.h; where: affinity.c; caps: cap.c).
 *
 * An entity is in one of these states, told by fields that its queue's lock protects:
 *   asleep   not queued, on no q->curr; nothing refers to it
 *   waiting  queued, in q->waiting
 *   parked   queued, in q->parked until its group has budget again
 *   running  q->curr
 * "Asleep but runnable" lasts only while somebody moves it between queues or its CPU still saves
 * its state; that somebody then calls fair_wake() or fair_settle(), which enqueue whoever is in it.
 */
#include "sched/internal.h"
#include "console/console.h"

const struct fair_ops *fair_ops;
struct fair_queue *fair_queues[MAX_CPUS];
/*
 * Long enough for a sender to fill a ring before its reader begins to empty it, else each packet is
 * two switches; short enough that nobody who wakes up notices. The least that the interface takes
 * (XEN_SYSCTL_SCHED_RATELIMIT_MIN).
 */
ns_t fair_ratelimit = MICROSECONDS(100);

/* --- order --- */

static struct sched_entity *entity(const struct rb_node *n)
{
    return n ? container_of(n, struct sched_entity, node) : NULL;
}

static bool less_vtime(const struct rb_node *a, const struct rb_node *b)
{
    return vtime_before(entity(a)->vtime, entity(b)->vtime);
}

static bool less_unpark(const struct rb_node *a, const struct rb_node *b)
{
    return entity(a)->unpark < entity(b)->unpark;
}

/* --- clocks --- */

/* Curr has run since curr_from: count it. */
static void charge(struct fair_queue *q, ns_t now)
{
    struct sched_entity *e = q->curr;
    if (!e)
        return;
    ns_t ran = now > q->curr_from ? now - q->curr_from : 0;
    q->curr_from = now;
    uint64_t step = vtime_of(ran, e->weight), paid = min(e->owed, step / 2);
    e->owed -= paid;
    e->vtime += step - paid;
    cap_charge(e->group, ran);
}

/* The clock becomes the least vtime here; a new epoch begins in time. Curr has been charged. */
static void clock_advance(struct fair_queue *q, ns_t now)
{
    const struct sched_entity *first = entity(rb_first(&q->waiting)), *least = q->curr;
    if (first && (!least || vtime_before(first->vtime, least->vtime)))
        least = first;
    uint64_t before = q->clock;
    if (least && vtime_before(before, least->vtime))
        WRITE_ONCE(q->clock, least->vtime);
    if (q->epoch != now / EPOCH) {
        /* the step may have begun long before the epoch, when one ran alone: only its share counts
         */
        ns_t since = now % EPOCH, step = now - q->advanced;
        uint64_t moved = q->clock - before;
        if (step > since)
            moved = moved / max(step >> 10, 1UL) * (since >> 10);
        WRITE_ONCE(q->epoch_clock, q->clock - moved);
        WRITE_ONCE(q->epoch, now / EPOCH);
    }
    q->advanced = now;
}

uint64_t fair_clock(const struct fair_queue *q, ns_t now)
{
    uint64_t clock = READ_ONCE(q->clock);
    uint32_t weight = READ_ONCE(q->curr_weight);
    ns_t from = READ_ONCE(q->curr_from);
    /* With somebody waiting it is looked at often enough as it is. */
    if (weight && !READ_ONCE(q->waiters) && now > from)
        clock += vtime_of(now - from, weight);
    return clock;
}

int64_t fair_lead(const struct fair_queue *q, ns_t now)
{
    ns_t since = now / EPOCH * EPOCH;
    if (READ_ONCE(q->epoch) == now / EPOCH)
        return (int64_t)(fair_clock(q, now) - READ_ONCE(q->epoch_clock));
    /* Nothing happened there in this epoch: one alone has run all the time, or none. */
    uint32_t weight = READ_ONCE(q->curr_weight);
    return (int64_t)vtime_of(now - since, weight ? weight : SCHED_WEIGHT_DEFAULT);
}

/* A queue that idled did not fall behind meanwhile: as if one of default weight had run. */
static void clock_resume(struct fair_queue *q, ns_t now)
{
    WRITE_ONCE(q->epoch, now / EPOCH);
    WRITE_ONCE(q->epoch_clock, q->clock - VTIME(now % EPOCH));
    q->advanced = now;
}

/* --- the trees --- */

static void set_waiters(struct fair_queue *q, unsigned n)
{
    bool was = q->waiters != 0;
    WRITE_ONCE(q->waiters, n);
    if (n && !was)
        atomic_bit_set(fair_waiting.bits, q->cpu);
    else if (!n && was)
        atomic_bit_clear(fair_waiting.bits, q->cpu);
}

static void add_load(struct fair_queue *q, const struct sched_entity *e, int sign)
{
    WRITE_ONCE(q->load, q->load + (sign > 0 ? e->weight : -e->weight));
}

static void insert_waiting(struct fair_queue *q, struct sched_entity *e)
{
    rb_insert(&q->waiting, &e->node, less_vtime);
    e->parked = false;
    WRITE_ONCE(e->queued, true);
    add_load(q, e, 1);
    set_waiters(q, q->waiters + 1);
}

static void insert_parked(struct fair_queue *q, struct sched_entity *e, ns_t until)
{
    e->unpark = until;
    rb_insert(&q->parked, &e->node, less_unpark);
    e->parked = true;
    WRITE_ONCE(e->queued, true);
}

void fair_dequeue(struct fair_queue *q, struct sched_entity *e)
{
    if (e->parked) {
        rb_erase(&q->parked, &e->node);
        e->parked = false;
    } else {
        rb_erase(&q->waiting, &e->node);
        add_load(q, e, -1);
        set_waiters(q, q->waiters - 1);
    }
    WRITE_ONCE(e->queued, false);
}

/* Waiting, or parked when it may not run now. */
static void insert(struct fair_queue *q, struct sched_entity *e, ns_t now)
{
    ns_t next;
    if (cap_left(e->group, now, &next))
        insert_waiting(q, e);
    else
        insert_parked(q, e, next);
}

static void unpark(struct fair_queue *q, ns_t now)
{
    struct sched_entity *e;
    while ((e = entity(rb_first(&q->parked))) && e->unpark <= now) {
        fair_dequeue(q, e);
        if (vtime_before(e->vtime, q->clock - SLEEP_CREDIT))
            e->vtime = q->clock - SLEEP_CREDIT;
        insert(q, e, now);
    }
}

struct fair_queue *fair_lock(struct sched_entity *e)
{
    for (;;) {
        struct fair_queue *q = fair_queues[READ_ONCE(e->cpu)];
        spin_lock(&q->lock);
        if (likely(e->cpu == q->cpu))
            return q;
        spin_unlock(&q->lock);
    }
}

static int resting_state(const struct sched_entity *e)
{
    return READ_ONCE(e->blockers) & SCHED_ASLEEP ? RUNSTATE_blocked : RUNSTATE_offline;
}

/* --- coming and going --- */

static bool preempts(const struct sched_entity *e, const struct sched_entity *curr)
{
    return vtime_before(e->vtime + PREEMPT_LEAD, curr->vtime);
}

/* Until then nobody preempts @e, which runs. */
static ns_t held_until(const struct sched_entity *e)
{
    return e->slice_begin + READ_ONCE(fair_ratelimit);
}

/* One that comes too early does no harm: fair_schedule() arms it anew. So it is never stopped. */
static void arm_by(struct fair_queue *q, ns_t when)
{
    if (when >= q->timer)
        return;
    q->timer = when;
    fair_ops->arm(q->cpu, when);
}

/*
 * @e came and may not preempt yet: the slice of who runs ends when it may. By the end of a long one
 * it might be further behind than it may keep (SLEEP_CREDIT), and who works mostly and sleeps a
 * little would get less than its share.
 */
static void shorten_slice(struct fair_queue *q, const struct sched_entity *e, ns_t now)
{
    struct sched_entity *curr = q->curr;
    uint64_t lead = e->vtime + PREEMPT_LEAD - curr->vtime; /* curr may have; not negative */
    ns_t end = max(now + ns_of(lead, curr->weight) + 1, held_until(curr));
    if (curr->slice_end > end)
        curr->slice_end = end;
    arm_by(q, curr->slice_end);
}

/* Onto @q (locked), which the caller chose; its CPU is told if that changes anything there. */
void fair_enqueue(struct fair_queue *q, struct sched_entity *e, ns_t now)
{
    if (!q->curr && !q->waiters)
        clock_resume(q, now);
    charge(q, now);
    clock_advance(q, now);
    uint64_t least = q->clock - SLEEP_CREDIT - MOVE_CREDIT;
    uint64_t most = q->clock + vtime_of(2 * SLICE_MAX, e->weight);
    if (vtime_before(e->vtime, least))
        e->vtime = least;
    else if (vtime_before(most, e->vtime))
        e->vtime = most;

    insert(q, e, now);
    fair_ops->runstate(e, RUNSTATE_runnable, now);
    if (q->curr && !e->parked && !preempts(e, q->curr))
        shorten_slice(q, e, now);
    else if (q->curr && !e->parked && now < held_until(q->curr))
        arm_by(q, held_until(q->curr));
    else
        fair_ops->kick(q->cpu);
    /* A CPU may have gone idle since we looked; it must not miss this one. */
    if (q->curr && !e->parked && !READ_ONCE(e->on_cpu) && fair_idle_for(e)) {
        unsigned cpu = fair_claim_idle(e);
        if (cpu < MAX_CPUS)
            fair_ops->kick(cpu);
    }
}

/*
 * @e belongs to @q, locked, and is asleep; drops the lock. It may have run already on return.
 * False: somebody else was quicker, or it may not run any more.
 */
static bool put_somewhere(struct fair_queue *q, struct sched_entity *e, unsigned cpu, bool compare,
                          ns_t now)
{
    bool elsewhere = cpu != q->cpu;
    if (elsewhere) {
        fair_move(e, q, cpu, compare, now);
        spin_unlock(&q->lock);
        q = fair_lock(e);
    }
    bool enqueues = !e->queued && q->curr != e && fair_may_run(e);
    if (enqueues)
        fair_enqueue(q, e, now);
    spin_unlock(&q->lock);
    if (elsewhere && !enqueues)
        fair_ops->kick(cpu); /* it may have been claimed for this */
    return enqueues;
}

void fair_wake(struct sched_entity *e)
{
    ns_t now = fair_ops->now();
    struct fair_queue *q = fair_lock(e);
    if (e->queued || q->curr == e || !fair_may_run(e)) {
        spin_unlock(&q->lock);
        return;
    }
    charge(q, now);
    clock_advance(q, now);
    e->owed = 0;
    if (vtime_before(e->vtime, q->clock - SLEEP_CREDIT))
        e->vtime = q->clock - SLEEP_CREDIT;
    put_somewhere(q, e, fair_place(e, now), false, now);
}

void fair_sleep(struct sched_entity *e)
{
    struct fair_queue *q = fair_lock(e);
    if (e->queued && !fair_may_run(e)) {
        fair_dequeue(q, e);
        fair_ops->runstate(e, resting_state(e), fair_ops->now());
    }
    if (q->curr == e || (READ_ONCE(e->on_cpu) && fair_must_leave(e)))
        fair_ops->kick(q->cpu);
    spin_unlock(&q->lock);
}

bool fair_must_leave(const struct sched_entity *e)
{
    return READ_ONCE(e->blockers) & ~SCHED_ASLEEP || !fair_allowed(e, e->cpu);
}

/* Mostly not: it was preempted, nobody idles who could take it, and queues were just compared. */
static bool worth_settling(const struct sched_entity *e)
{
    const struct fair_queue *q = fair_queues[READ_ONCE(e->cpu)];
    if (!READ_ONCE(e->queued))
        return fair_may_run(e);
    return !fair_allowed(e, q->cpu) || READ_ONCE(q->now) >= READ_ONCE(q->next_handoff) ||
           fair_idle_for(e);
}

void fair_settle(struct sched_entity *e)
{
    if (!worth_settling(e))
        return;
    ns_t now = fair_ops->now();
    struct fair_queue *q = fair_lock(e);
    if (READ_ONCE(e->on_cpu) || q->curr == e || !fair_may_run(e)) {
        spin_unlock(&q->lock);
        return;
    }
    if (e->queued) {
        unsigned cpu = e->parked ? q->cpu : fair_better_cpu(q, e, now);
        if (!fair_allowed(e, q->cpu))
            cpu = cpu < MAX_CPUS && cpu != q->cpu ? cpu : fair_place(e, now);
        if (cpu == q->cpu)
            fair_ops->kick(cpu); /* it may have been claimed */
        if (cpu == MAX_CPUS || cpu == q->cpu) {
            spin_unlock(&q->lock);
            return;
        }
        fair_dequeue(q, e);
        put_somewhere(q, e, cpu, true, now);
    } else {
        put_somewhere(q, e, fair_place(e, now), false, now);
    }
}

/* --- choosing --- */

/* Where @e, which ran here until now, goes. True: it may go on. */
static bool retire(struct fair_queue *q, struct sched_entity *e, ns_t now)
{
    ns_t next;
    q->curr = NULL;
    WRITE_ONCE(q->curr_weight, 0);
    add_load(q, e, -1);
    if (!fair_may_run(e)) {
        fair_ops->runstate(e, resting_state(e), now);
        return false;
    }
    if (!fair_allowed(e, q->cpu)) { /* moves when its state is saved: fair_settle() */
        fair_ops->runstate(e, RUNSTATE_runnable, now);
        return false;
    }
    if (!cap_left(e->group, now, &next)) {
        insert_parked(q, e, next);
        fair_ops->runstate(e, RUNSTATE_runnable, now);
        return false;
    }
    return true;
}

/* The first that waits and may run here. */
static struct sched_entity *first_waiting(struct fair_queue *q)
{
    struct rb_node *n = rb_first(&q->waiting);
    while (n && unlikely(!fair_allowed(entity(n), q->cpu)))
        n = rb_next(n);
    return entity(n);
}

/* Does @prev, which may go on, keep the CPU against @first? */
static bool keeps(const struct sched_entity *prev, const struct sched_entity *first, bool yield,
                  ns_t now)
{
    if (!first)
        return true;
    if (yield)
        return false;
    if (now < prev->slice_end)
        return now < held_until(prev) || !preempts(first, prev);
    return !vtime_before(first->vtime, prev->vtime);
}

static void begin_slice(struct fair_queue *q, struct sched_entity *e, ns_t now)
{
    ns_t slice = SLICE_ROUND / (q->waiters + 1), next;
    slice = slice < SLICE_MIN ? SLICE_MIN : slice > SLICE_MAX ? SLICE_MAX : slice;
    slice = max(slice, READ_ONCE(fair_ratelimit));
    ns_t left = cap_left(e->group, now, &next);
    if (left < slice)
        slice = left > SLICE_LEAST ? left : SLICE_LEAST;
    e->slice_begin = now;
    e->slice_end = now + slice;
}

static void start(struct fair_queue *q, struct sched_entity *e, ns_t now)
{
    q->curr = e;
    WRITE_ONCE(q->curr_from, now);
    WRITE_ONCE(q->curr_weight, e->weight);
    add_load(q, e, 1);
    WRITE_ONCE(e->on_cpu, true);
}

static void arm(struct fair_queue *q, ns_t now)
{
    const struct sched_entity *e = q->curr, *parked = entity(rb_first(&q->parked));
    ns_t when = NS_NEVER;
    if (e && (q->waiters || (e->group && READ_ONCE(e->group->cap))))
        when = e->slice_end;
    const struct sched_entity *first = entity(rb_first(&q->waiting));
    if (e && first && now < held_until(e) && preempts(first, e))
        when = min(when, held_until(e));
    if (parked && parked->unpark < when)
        when = parked->unpark;
    arm_by(q, when);
}

/* With the lock. *moved: somebody to enqueue elsewhere once it is dropped. */
static struct sched_entity *choose(struct fair_queue *q, bool yield, ns_t now,
                                   struct sched_entity **moved, unsigned *target)
{
    struct sched_entity *prev = q->curr, *next;
    if (q->timer <= now)
        q->timer = NS_NEVER; /* it has fired */
    q->now = now;
    charge(q, now);
    clock_advance(q, now);
    unpark(q, now);

    bool stays = prev && retire(q, prev, now);
    next = first_waiting(q);
    if (stays && keeps(prev, next, yield, now)) {
        next = prev;
    } else if (stays) {
        if (yield && vtime_before(prev->vtime, next->vtime))
            prev->vtime = next->vtime + 1;
        insert_waiting(q, prev);
        fair_ops->runstate(prev, RUNSTATE_runnable, now);
    }
    if (!next) {
        arm(q, now);
        return NULL;
    }
    if (next != prev || !stays) {
        fair_dequeue(q, next);
        fair_ops->runstate(next, RUNSTATE_running, now);
    }
    start(q, next, now);
    if (next != prev || now >= next->slice_end)
        begin_slice(q, next, now);
    if (q->waiters)
        *moved = fair_hand_off(q, now);
    if (*moved)
        *target = (*moved)->cpu;
    arm(q, now);
    return next;
}

struct sched_entity *fair_schedule(struct fair_queue *q, bool yield)
{
    for (;;) {
        struct sched_entity *moved = NULL;
        unsigned target = q->cpu;
        ns_t now = fair_ops->now();
        spin_lock(&q->lock);
        struct sched_entity *next = choose(q, yield, now, &moved, &target);
        if (next)
            atomic_bit_clear(fair_idle.bits, q->cpu);
        else
            atomic_bit_set(fair_idle.bits, q->cpu);
        spin_unlock(&q->lock);

        if (!next)
            moved = fair_steal(q, now); /* for ourselves, then */
        if (moved) {
            struct fair_queue *to = fair_lock(moved);
            if (!put_somewhere(to, moved, to->cpu, false, now) && target != q->cpu)
                fair_ops->kick(target); /* claimed as idle, perhaps */
        }
        if (next || !moved)
            return next;
        yield = false;
    }
}

void fair_queue_init(struct fair_queue *q, unsigned cpu)
{
    *q = (struct fair_queue){.cpu = cpu, .timer = NS_NEVER, .probe = cpu};
    spin_init(&q->lock, RANK_SCHED);
    fair_queues[cpu] = q;
}

/* --- parameters --- */

int fair_set_affinity(struct sched_entity *e, const struct cpu_mask *hard,
                      const struct cpu_mask *soft)
{
    bool any = false;
    for (unsigned i = 0; i < ARRAY_SIZE(hard->bits); i++)
        any |= (hard->bits[i] & READ_ONCE(cpus_online.bits[i])) != 0;
    if (!any)
        return -XEN_EINVAL;

    struct fair_queue *q = fair_lock(e);
    e->hard = *hard;
    e->soft = *soft;
    if (fair_allowed(e, q->cpu)) {
        spin_unlock(&q->lock);
        return 0;
    }
    if (READ_ONCE(e->on_cpu)) { /* its CPU lets go of it, and then it moves */
        fair_ops->kick(q->cpu);
        spin_unlock(&q->lock);
        return 0;
    }
    spin_unlock(&q->lock);
    fair_settle(e);
    return 0;
}

void fair_set_params(struct sched_entity *e, uint32_t weight, uint32_t cap)
{
    ns_t now = fair_ops->now();
    struct fair_queue *q = fair_lock(e);
    charge(q, now);
    cap_set(e->group, cap, now);
    e->cap = cap;
    bool waiting = e->queued, loaded = waiting && !e->parked;
    if (waiting)
        fair_dequeue(q, e);
    if (q->curr == e)
        add_load(q, e, -1);
    e->weight = weight < 1 ? 1 : weight > 65535 ? 65535 : weight;
    if (q->curr == e) {
        add_load(q, e, 1);
        WRITE_ONCE(q->curr_weight, e->weight);
    }
    if (waiting)
        insert(q, e, now);
    if (q->curr == e || loaded || waiting)
        fair_ops->kick(q->cpu);
    spin_unlock(&q->lock);
}
