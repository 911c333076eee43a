/*
 * Timers: a tree per CPU ordered by time, its first one in the local APIC. Callbacks run on the
 * timer's CPU from its interrupt, with no lock held. Setting a timer of another CPU to be its first
 * sends that CPU the timer's vector, and it looks for itself.
 */
#include "console/console.h"
#include "cpu/cpu.h"
#include "irq/irq.h"
#include "lib/spinlock.h"
#include "mm/mm.h"
#include "time/internal.h"

struct timer_cpu {
    struct spinlock lock;  /* RANK_TIMER */
    struct rb_root tree;   /* [o] */
    struct timer *running; /* [o] whose callback is being run */
};

static struct timer_cpu *timers_of(unsigned cpu)
{
    return cpus[cpu]->timers;
}

/* The timer's CPU may change until its lock is held. */
static struct timer_cpu *lock_timer(struct timer *t)
{
    for (;;) {
        unsigned cpu = READ_ONCE(t->cpu);
        struct timer_cpu *tc = timers_of(cpu);
        spin_lock(&tc->lock);
        if (t->cpu == cpu)
            return tc;
        spin_unlock(&tc->lock);
    }
}

static bool earlier(const struct rb_node *a, const struct rb_node *b)
{
    return container_of(a, struct timer, node)->expires <
           container_of(b, struct timer, node)->expires;
}

static struct timer *first_of(const struct timer_cpu *tc)
{
    struct rb_node *n = rb_first(&tc->tree);
    return n ? container_of(n, struct timer, node) : NULL;
}

/* This CPU's next interrupt. */
static void arm(const struct timer_cpu *tc)
{
    const struct timer *t = first_of(tc);
    lapic_timer_set(t ? time_to_tsc(t->expires) : 0);
}

static void insert(struct timer_cpu *tc, struct timer *t)
{
    rb_insert(&tc->tree, &t->node, earlier);
    t->active = true;
    if (first_of(tc) != t)
        return;
    if (t->cpu == this_cpu()->id)
        arm(tc);
    else
        ipi_send(t->cpu, VECTOR_TIMER);
}

/* The interrupt of a timer that was first and is gone comes too early and does no harm. */
static void take_out(struct timer_cpu *tc, struct timer *t)
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
    struct timer_cpu *tc = lock_timer(t);
    take_out(tc, t);
    t->expires = expires;
    if (expires != NS_NEVER)
        insert(tc, t);
    spin_unlock(&tc->lock);
}

void timer_stop(struct timer *t)
{
    if (!t->fn)
        return; /* never initialised: a vCPU that did not get that far */
    struct timer_cpu *tc = lock_timer(t);
    take_out(tc, t);
    /* A callback that is running elsewhere must end; our own may stop its own timer. */
    while (tc->running == t && t->cpu != this_cpu()->id) {
        spin_unlock(&tc->lock);
        spin_poll();
        cpu_pause();
        tc = lock_timer(t);
        take_out(tc, t);
    }
    spin_unlock(&tc->lock);
}

void timer_migrate(struct timer *t, unsigned cpu)
{
    struct timer_cpu *tc = lock_timer(t);
    bool was_active = t->active;
    take_out(tc, t);
    t->cpu = cpu;
    spin_unlock(&tc->lock);
    if (was_active) {
        tc = lock_timer(t);
        if (!t->active)
            insert(tc, t);
        spin_unlock(&tc->lock);
    }
}

void timer_interrupt(void)
{
    struct timer_cpu *tc = this_cpu()->timers;
    struct timer *t;
    count(TRACE_timer_irqs);
    spin_lock(&tc->lock);
    while ((t = first_of(tc)) && t->expires <= time_now()) {
        take_out(tc, t);
        tc->running = t;
        spin_unlock(&tc->lock);
        t->fn(t->data);
        spin_lock(&tc->lock);
        tc->running = NULL;
    }
    arm(tc);
    spin_unlock(&tc->lock);
}

void time_init_cpu(void)
{
    struct timer_cpu *tc = zalloc(sizeof(*tc));
    if (!tc)
        panic("no memory for the timers of CPU %u", this_cpu()->id);
    spin_init(&tc->lock, RANK_TIMER);
    this_cpu()->timers = tc;
}
