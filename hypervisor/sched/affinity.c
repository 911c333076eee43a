/*
 * Where entities run: placing those that wake, handing over from a CPU that falls behind, taking
 * by one that idles (theory in fair.h).
 *
 * Two masks tell CPUs about each other: fair_idle and fair_waiting. Both sides write first and read
 * then, by fully ordered operations: who goes idle sets its bit and then looks for somebody who
 * waits; who enqueues sets the waiting bit and then looks for an idle CPU. So one of them notices.
 * An idle bit is cleared by whoever claims the CPU, who then always kicks it.
 */
#include "sched/internal.h"

#define LOOK_AT        8 /* entities looked at in one queue: bounds the work */
#define PLACE_PROBES   2 /* queues looked at by each wake-up when all are busy */
#define COMPARE_PROBES 8 /* the same now and then, to keep clocks together */

struct cpu_mask fair_idle, fair_waiting;

/* Word @i of the CPUs that idle and where @e may run; @soft: and likes to. */
static uint64_t idle_word(const struct sched_entity *e, unsigned i, bool soft)
{
    uint64_t w = READ_ONCE(fair_idle.bits[i]) & e->hard.bits[i];
    return soft ? w & e->soft.bits[i] : w;
}

static bool anybody_idles(void)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(fair_idle.bits); i++)
        any |= READ_ONCE(fair_idle.bits[i]);
    return any;
}

bool fair_idle_for(const struct sched_entity *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fair_idle.bits); i++)
        if (idle_word(e, i, false))
            return true;
    return false;
}

unsigned fair_claim_idle(const struct sched_entity *e)
{
    if (!anybody_idles())
        return MAX_CPUS;
    for (int soft = 1; soft >= 0; soft--) {
        unsigned cpu = e->cpu; /* its caches may still be warm there */
        if (idle_word(e, cpu / 64, soft) >> (cpu % 64) & 1 && atomic_bit_clear(fair_idle.bits, cpu))
            return cpu;
        for (unsigned i = 0; i < ARRAY_SIZE(fair_idle.bits); i++) {
            for (uint64_t w = idle_word(e, i, soft); w; w &= w - 1) {
                cpu = i * 64 + __builtin_ctzl(w);
                if (atomic_bit_clear(fair_idle.bits, cpu))
                    return cpu;
            }
        }
    }
    return MAX_CPUS;
}

/* The next CPU after *at, in a circle, that is online and in @mask; MAX_CPUS: none. */
static unsigned next_cpu(unsigned *at, const struct cpu_mask *mask)
{
    const unsigned words = ARRAY_SIZE(mask->bits);
    unsigned start = (*at + 1) % MAX_CPUS;
    uint64_t below = (1UL << start % 64) - 1;
    for (unsigned i = 0; i <= words; i++) {
        unsigned word = (start / 64 + i) % words;
        uint64_t w = mask->bits[word] & READ_ONCE(cpus_online.bits[word]);
        if (i == 0)
            w &= ~below;
        else if (i == words) /* the first word again, what lies before the start */
            w &= below;
        for (; w; w &= w - 1) {
            unsigned cpu = word * 64 + __builtin_ctzl(w);
            if (fair_queues[cpu])
                return *at = cpu;
        }
    }
    return MAX_CPUS;
}

static bool usable(const struct sched_entity *e, unsigned cpu)
{
    return fair_allowed(e, cpu) && bit_test(cpus_online.bits, cpu) && fair_queues[cpu];
}

unsigned fair_place(struct sched_entity *e, ns_t now)
{
    if (__atomic_load_n(&e->on_cpu, __ATOMIC_ACQUIRE)) {
        if (bit_test(fair_idle.bits, e->cpu))
            atomic_bit_clear(fair_idle.bits, e->cpu);
        return e->cpu;
    }
    unsigned cpu = fair_claim_idle(e);
    if (cpu < MAX_CPUS)
        return cpu;

    /* All busy: the better of the last one and two others. */
    struct fair_queue *last = fair_queues[e->cpu];
    unsigned best = usable(e, e->cpu) ? e->cpu : MAX_CPUS;
    bool best_soft = best < MAX_CPUS && bit_test(e->soft.bits, best);
    for (unsigned i = 0; i < PLACE_PROBES; i++) {
        cpu = next_cpu(&last->probe, &e->hard);
        if (cpu == MAX_CPUS)
            break;
        bool soft = bit_test(e->soft.bits, cpu);
        uint32_t load = READ_ONCE(fair_queues[cpu]->load) + e->weight / 2;
        if (best == MAX_CPUS || soft > best_soft ||
            (soft == best_soft && load < READ_ONCE(fair_queues[best]->load))) {
            best = cpu;
            best_soft = soft;
        }
    }
    return best == MAX_CPUS ? e->cpu : best;
}

void fair_move(struct sched_entity *e, struct fair_queue *from, unsigned cpu, bool compare,
               ns_t now)
{
    if (cpu == from->cpu)
        return;
    const struct fair_queue *to = fair_queues[cpu];
    int64_t behind = 0;
    if (compare && READ_ONCE(to->curr_weight))
        behind = fair_lead(to, now) - fair_lead(from, now);
    e->vtime += fair_clock(to, now) - from->clock;
    if (behind > 0) { /* at once, nobody else there would run meanwhile */
        uint64_t at_once = min((uint64_t)behind, MOVE_CREDIT);
        e->vtime -= at_once;
        e->owed = min(e->owed + (uint64_t)behind - at_once, OWED_MOST);
    }
    WRITE_ONCE(e->cpu, cpu);
}

/*
 * By how much @other's clock must be ahead. Never enough when it has as much to do: then the clocks
 * drift apart no further. More when moving @e would only turn the difference round.
 */
static int64_t lead_wanted(const struct fair_queue *q, const struct fair_queue *other,
                           const struct sched_entity *e)
{
    uint32_t load = READ_ONCE(other->load);
    if (load >= q->load)
        return INT64_MAX;
    return load + e->weight <= q->load ? HANDOFF_LEAD : HANDOFF_LEAD_TURN;
}

unsigned fair_better_cpu(struct fair_queue *q, const struct sched_entity *e, ns_t now)
{
    unsigned idle = fair_claim_idle(e);
    if (idle < MAX_CPUS || now < q->next_handoff)
        return idle;
    unsigned first = MAX_CPUS;
    for (unsigned i = 0; i < COMPARE_PROBES; i++) {
        unsigned cpu = next_cpu(&q->probe, &e->hard);
        if (cpu == first || cpu == MAX_CPUS) /* there are no more, or none */
            break;
        if (i == 0)
            first = cpu;
        const struct fair_queue *other = fair_queues[cpu];
        if (other != q && fair_lead(other, now) - fair_lead(q, now) > lead_wanted(q, other, e))
            return cpu;
    }
    q->next_handoff = now + HANDOFF_EVERY;
    return MAX_CPUS;
}

struct sched_entity *fair_hand_off(struct fair_queue *q, ns_t now)
{
    struct rb_node *n = rb_first(&q->waiting);
    for (unsigned i = 0; n && i < LOOK_AT; i++, n = rb_next(n)) {
        struct sched_entity *e = container_of(n, struct sched_entity, node);
        if (now < q->next_handoff && !anybody_idles())
            break; /* nothing to find, whomever we look for */
        if (__atomic_load_n(&e->on_cpu, __ATOMIC_ACQUIRE))
            continue;
        unsigned cpu = fair_better_cpu(q, e, now);
        if (cpu == MAX_CPUS || cpu == q->cpu)
            continue;
        fair_dequeue(q, e);
        fair_move(e, q, cpu, true, now);
        return e;
    }
    return NULL;
}

static struct sched_entity *take_from(struct fair_queue *from, unsigned cpu, ns_t now)
{
    struct sched_entity *found = NULL;
    spin_lock(&from->lock);
    struct rb_node *n = rb_first(&from->waiting);
    for (unsigned i = 0; n && i < LOOK_AT && !found; i++, n = rb_next(n)) {
        struct sched_entity *e = container_of(n, struct sched_entity, node);
        if (fair_allowed(e, cpu) && !__atomic_load_n(&e->on_cpu, __ATOMIC_ACQUIRE))
            found = e;
    }
    if (found) {
        fair_dequeue(from, found);
        fair_move(found, from, cpu, false, now);
    }
    spin_unlock(&from->lock);
    return found;
}

struct sched_entity *fair_steal(struct fair_queue *q, ns_t now)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fair_waiting.bits); i++) {
        unsigned word = (q->cpu / 64 + i) % ARRAY_SIZE(fair_waiting.bits);
        for (uint64_t w = READ_ONCE(fair_waiting.bits[word]); w; w &= w - 1) {
            struct fair_queue *from = fair_queues[word * 64 + __builtin_ctzl(w)];
            if (from == q)
                continue;
            struct sched_entity *e = take_from(from, q->cpu, now);
            if (e)
                return e;
        }
    }
    return NULL;
}
