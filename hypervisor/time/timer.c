/*
 * Timers: each CPU has a tree of its own, by time, and its local APIC is set for the first of them.
 * A timer belongs to one CPU's tree at a time (timer->cpu) and fires there, in interrupt context,
 * without any lock.
 *
 * Another CPU may set a timer; when it becomes the first, it sends that CPU its timer interrupt,
 * which looks at the tree as any other does.
 *
 * Lock: RANK_TIMER, per CPU, for the tree and for the fields of the timers of that CPU. `running`
 * names the timer whose callback is running, so that timer_stop() can wait for it.
 */
#include "console/console.h"
#include "cpu/cpu.h"
#include "irq/irq.h"
#include "lib/spinlock.h"
#include "mm/mm.h"
#include "time/internal.h"

struct timer_cpu {
    struct spinlock lock;
    struct rb_root tree;
    struct timer *running; /* [o, a] */
    ns_t programmed;       /* [P] what the local APIC is set to; NS_NEVER: nothing */
};

static struct timer *entry(struct rb_node *n)
{
    return n ? container_of(n, struct timer, node) : NULL;
}

static bool earlier(const struct rb_node *a, const struct rb_node *b)
{
    return container_of(a, struct timer, node)->expires <
           container_of(b, struct timer, node)->expires;
}

static struct timer_cpu *timers_of(unsigned cpu)
{
    return cpus[cpu]->timers;
}

void timer_init_cpu(void)
{
    struct timer_cpu *tc = zalloc(sizeof(*tc));
    if (!tc)
        panic("no memory for the timers of CPU %u", this_cpu()->id);
    spin_init(&tc->lock, RANK_TIMER);
    tc->programmed = NS_NEVER;
    this_cpu()->timers = tc;
}

/* A timer may move while we wait for the lock of where it was. */
static struct timer_cpu *lock_of(struct timer *t, unsigned *cpu)
{
    for (;;) {
        *cpu = READ_ONCE(t->cpu);
        struct timer_cpu *tc = timers_of(*cpu);
        spin_lock(&tc->lock);
        if (READ_ONCE(t->cpu) == *cpu)
            return tc;
        spin_unlock(&tc->lock);
    }
}

/* This CPU's, lock held. */
static void program(struct timer_cpu *tc)
{
    struct timer *first = entry(rb_first(&tc->tree));
    ns_t when = first ? first->expires : NS_NEVER;
    if (when == tc->programmed)
        return;
    tc->programmed = when;
    lapic_timer_set(first ? max(time_to_tsc(when), 1UL) : 0);
}

/* Lock held. True when it became the first of its CPU. */
static bool insert(struct timer_cpu *tc, struct timer *t)
{
    t->active = true;
    rb_insert(&tc->tree, &t->node, earlier);
    return rb_first(&tc->tree) == &t->node;
}

static void remove(struct timer_cpu *tc, struct timer *t)
{
    if (t->active)
        rb_erase(&tc->tree, &t->node);
    t->active = false;
}

void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu)
{
    *t = (struct timer){.fn = fn, .data = data, .cpu = cpu};
}

void timer_set(struct timer *t, ns_t expires)
{
    unsigned cpu;
    struct timer_cpu *tc = lock_of(t, &cpu);
    remove(tc, t);
    t->expires = expires;
    bool first = expires != NS_NEVER && insert(tc, t), here = cpu == this_cpu()->id;
    if (here)
        program(tc);
    spin_unlock(&tc->lock);
    if (first && !here)
        ipi_send(cpu, VECTOR_TIMER);
}

void timer_stop(struct timer *t)
{
    unsigned cpu;
    if (!t->fn)
        return; /* never initialised: of a vCPU that did not get that far */
    struct timer_cpu *tc = lock_of(t, &cpu);
    remove(tc, t); /* should it have been the first, its CPU finds nothing due and sets the next */
    spin_unlock(&tc->lock);
    if (cpu == this_cpu()->id)
        return; /* its callback is not running, or we are in it */
    while (__atomic_load_n(&tc->running, __ATOMIC_ACQUIRE) == t) {
        spin_poll();
        cpu_pause();
    }
}

void timer_migrate(struct timer *t, unsigned cpu)
{
    for (;;) {
        unsigned from = READ_ONCE(t->cpu);
        if (from == cpu)
            return;
        struct timer_cpu *old = timers_of(from), *new = timers_of(cpu);
        spin_lock_pair(&old->lock, &new->lock);
        bool moved = READ_ONCE(t->cpu) == from, first = false;
        if (moved) {
            bool active = t->active;
            remove(old, t);
            WRITE_ONCE(t->cpu, cpu);
            first = active && insert(new, t);
        }
        spin_unlock_pair(&old->lock, &new->lock);
        if (first)
            ipi_send(cpu, VECTOR_TIMER);
        if (moved)
            return;
    }
}

void timer_interrupt(void)
{
    struct timer_cpu *tc = this_cpu()->timers;
    struct timer *t;
    spin_lock(&tc->lock);
    tc->programmed = NS_NEVER; /* one-shot: it is spent, if that was it */
    while ((t = entry(rb_first(&tc->tree))) && t->expires <= time_now()) {
        remove(tc, t);
        __atomic_store_n(&tc->running, t, __ATOMIC_RELAXED);
        spin_unlock(&tc->lock);
        t->fn(t->data); /* t may be gone afterwards */
        __atomic_store_n(&tc->running, NULL, __ATOMIC_RELEASE);
        spin_lock(&tc->lock);
    }
    program(tc);
    spin_unlock(&tc->lock);
}
