/*
 * The policy of fair.c on real CPUs: stacks, guest state, timers, IPIs.
 *
 * Each CPU runs one entity's stack (`running`) and holds one entity's guest state (`resident`).
 * They are the same while a guest's vCPU runs; over idle the state stays where it is, so that a
 * vCPU that blocks and is woken costs two changes of stack and nothing else. An entity's on_cpu is
 * true from when it is chosen until its state has been saved; meanwhile no other CPU takes it.
 *
 * Interrupts are off here, but in the idle loop's sti;hlt and in preempt_point(). Nobody holds a
 * lock when he calls schedule() or preempt_point().
 */
#include "sched/sched.h"
#include "console/console.h"
#include "irq/irq.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/fair.h"

#include <xen/vcpu.h>

struct sched_cpu {
    struct fair_queue queue;
    struct sched_entity *running;  /* [P] whose stack this is; never NULL once started */
    struct sched_entity *idle;     /* [I] */
    struct sched_entity *resident; /* [P] whose guest state this CPU holds, or NULL */
    struct sched_entity *leaving;  /* [P] its state was saved; told when the switch is complete */
    bool started, yield;           /* [P] */
    struct timer timer;
};

const struct sched_hooks *sched_hooks;

void stack_switch(uint64_t *save_rsp, uint64_t load_rsp); /* switch.S */
void stack_begin(void);
void sched_switched(void); /* called by switch.S */

/* --- what the policy asks for --- */

/*
 * Who has it set already will look at its queue: it clears the flag before it does, and whatever we
 * changed there we changed before.
 */
static void kick(unsigned cpu)
{
    struct cpu *c = cpus[cpu];
    if (c == this_cpu())
        c->need_resched = true;
    else if (!__atomic_exchange_n(&c->need_resched, true, __ATOMIC_SEQ_CST))
        ipi_send(cpu, VECTOR_RESCHED);
}

static void timer_fired(void *cpu)
{
    ((struct cpu *)cpu)->need_resched = true;
}

static void arm(unsigned cpu, ns_t when)
{
    struct sched_cpu *s = cpus[cpu]->sched;
    timer_set(&s->timer, when);
}

static void runstate(struct sched_entity *e, int state, ns_t now)
{
    sched_hooks->runstate(e, state, now);
}

static const struct fair_ops real_ops = {
    .now = time_now, .kick = kick, .arm = arm, .runstate = runstate};

/* --- beginning --- */

void sched_init(void)
{
    fair_ops = &real_ops;
}

void sched_set_idle(struct cpu *c, struct sched_entity *idle)
{
    struct sched_cpu *s = c->sched;
    idle->is_idle = true;
    idle->stack->cpu = c;
    s->idle = s->running = idle;
    c->idle = c->current = idle->vcpu;
    if (c == this_cpu())
        stack_top()->vcpu = idle->vcpu; /* the boot stack works for it until it runs */
}

void sched_init_cpu(struct cpu *c)
{
    struct sched_cpu *s = zalloc(sizeof(*s));
    if (!s)
        panic("no memory for the run queue of CPU %u", c->id);
    timer_init(&s->timer, timer_fired, c, c->id);
    c->sched = s;
    fair_queue_init(&s->queue, c->id);
    if (!sched_hooks)
        return; /* CPU 0: domain_init() comes later */
    struct sched_entity *idle = sched_hooks->alloc_idle(c->id);
    if (!idle)
        panic("no memory for the idle vCPU of CPU %u", c->id);
    sched_set_idle(c, idle);
}

void sched_entity_init(struct sched_entity *e, unsigned cpu)
{
    memset(e, 0, sizeof(*e));
    e->blockers = SCHED_DOWN;
    e->cpu = cpu;
    e->weight = SCHED_WEIGHT_DEFAULT;
    memset(&e->hard, 0xff, sizeof(e->hard));
    memset(&e->soft, 0xff, sizeof(e->soft));
    if (fair_queues[cpu])
        e->vtime = READ_ONCE(fair_queues[cpu]->clock);
}

void sched_stack_init(struct sched_entity *e, struct stack_top *stack, void (*entry)(void))
{
    uint64_t *sp = (uint64_t *)ROUND_DOWN((uint64_t)stack, 16);
    *--sp = (uint64_t)stack_begin;
    *--sp = 0;               /* rbp */
    *--sp = (uint64_t)entry; /* rbx */
    for (unsigned r = 12; r <= 15; r++)
        *--sp = 0;
    e->stack = stack;
    e->saved_rsp = (uint64_t)sp;
}

void sched_entity_fini(struct sched_entity *e)
{
    ASSERT(!e->queued && !e->on_cpu);
}

/* --- switching --- */

/* First thing on the new stack: who left may run elsewhere from now on. */
void sched_switched(void)
{
    struct sched_cpu *s = this_cpu()->sched;
    struct sched_entity *left = s->leaving;
    if (!left)
        return;
    s->leaving = NULL;
    (void)__atomic_exchange_n(&left->on_cpu, false, __ATOMIC_SEQ_CST);
    fair_settle(left);
}

/* This CPU's guest state becomes what @next needs. */
static void change_state(struct sched_cpu *s, struct sched_entity *next)
{
    struct sched_entity *r = s->resident;
    bool idles = next->is_idle;
    if (r == next || (idles && (!r || !fair_must_leave(r))))
        return;
    if (r) {
        sched_hooks->save(r->vcpu, idles);
        s->leaving = r;
    }
    s->resident = idles ? NULL : next;
    if (!idles)
        sched_hooks->load(next->vcpu);
}

void schedule(void)
{
    struct cpu *c = this_cpu();
    struct sched_cpu *s = c->sched;
    struct sched_entity *prev = s->running;

    __atomic_store_n(&c->need_resched, false, __ATOMIC_SEQ_CST);
    struct sched_entity *next = fair_schedule(&s->queue, s->yield);
    s->yield = false;
    if (!next)
        next = s->idle;
    change_state(s, next);
    if (next == prev) {
        sched_switched();
        return;
    }

    count(TRACE_context_switches);
    if (prev->is_idle)
        runstate(prev, RUNSTATE_runnable, s->queue.now);
    if (next->is_idle)
        runstate(next, RUNSTATE_running, s->queue.now);
    next->stack->cpu = c;
    c->current = next->vcpu;
    s->running = next;
    stack_switch(&prev->saved_rsp, next->saved_rsp);
    sched_switched(); /* perhaps on another CPU by now */
}

/* Interrupts are off from the test to the hlt, which takes those that came meanwhile. */
static void idle_loop(void)
{
    for (;;) {
        if (READ_ONCE(this_cpu()->need_resched))
            schedule();
        else if (buddy_scrub())
            __asm__ volatile("sti; nop; cli" ::: "memory");
        else
            __asm__ volatile("sti; hlt; cli" ::: "memory");
    }
}

void sched_start(void)
{
    struct cpu *c = this_cpu();
    struct sched_cpu *s = c->sched;
    uint64_t nobody;
    cli();
    sched_stack_init(s->idle, s->idle->stack, idle_loop);
    runstate(s->idle, RUNSTATE_running, time_now());
    s->started = true;
    c->need_resched = true;
    stack_switch(&nobody, s->idle->saved_rsp);
    panic("CPU %u came back from its idle loop", c->id);
}

void preempt_point(void)
{
    struct cpu *c = this_cpu();
    struct sched_cpu *s = c->sched;
    if (unlikely(!s || !s->started)) {
        spin_poll();
        return;
    }
#ifdef DEBUG
    if (c->locks_held)
        panic("preempt_point() with %u locks held, rank %u", c->locks_held, c->lock_ranks[0]);
#endif
    __asm__ volatile("sti; nop; cli" ::: "memory");
    if (!READ_ONCE(c->need_resched))
        return;
    struct sched_entity *e = s->running;
    WRITE_ONCE(e->in_hypervisor, true);
    schedule();
    WRITE_ONCE(e->in_hypervisor, false);
}

/* --- blocking and waking --- */

void sched_block(struct sched_entity *e, uint32_t bit)
{
    struct cpu *c = this_cpu();
    struct sched_cpu *s = c->sched;
    uint32_t old = __atomic_fetch_or(&e->blockers, bit, __ATOMIC_SEQ_CST);
    if (s->running == e)
        c->need_resched = true; /* on its way out */
    else if (!(old & bit))
        fair_sleep(e);
}

void sched_unblock(struct sched_entity *e, uint32_t bit)
{
    uint32_t old = __atomic_fetch_and(&e->blockers, ~bit, __ATOMIC_SEQ_CST);
    if (old && !(old & ~bit))
        fair_wake(e);
}

bool sched_is_quiet(const struct sched_entity *e)
{
    return !__atomic_load_n(&e->on_cpu, __ATOMIC_ACQUIRE) && !READ_ONCE(e->in_hypervisor);
}

void sched_wait_quiet(struct sched_entity *e)
{
    while (!sched_is_quiet(e)) {
        sched_yield();
        preempt_point();
    }
}

void sched_poke(struct sched_entity *e)
{
    unsigned cpu = READ_ONCE(e->cpu);
    if (cpu != this_cpu()->id && READ_ONCE(fair_queues[cpu]->curr) == e)
        kick(cpu);
}

void sched_yield(void)
{
    struct cpu *c = this_cpu();
    struct sched_cpu *s = c->sched;
    s->yield = true;
    c->need_resched = true;
}

/* --- parameters --- */

int sched_set_affinity(struct sched_entity *e, const struct cpu_mask *hard,
                       const struct cpu_mask *soft)
{
    return fair_set_affinity(e, hard, soft);
}

void sched_set_params(struct sched_entity *e, uint32_t weight, uint32_t cap)
{
    fair_set_params(e, weight, cap);
}

void sched_set_ratelimit(uint32_t us)
{
    WRITE_ONCE(fair_ratelimit, MICROSECONDS((ns_t)us));
}

uint32_t sched_ratelimit(void)
{
    return READ_ONCE(fair_ratelimit) / MICROSECONDS(1);
}
