/*
 * Which vCPU runs where and when. Policy (sched/fair.c) is pure code over struct sched_entity and
 * an interface of "now", "kick CPU", "arm timer"; sched/sched.c puts it on real CPUs.
 * Lock: RANK_SCHED per run queue.
 *
 * Giving way inside the hypervisor: each vCPU has its own stack, so long operations call
 * preempt_point() now and then, without locks and without borrowed pointers (only counted
 * references), and carry on afterwards as if nothing had happened.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include "cpu/cpu.h"
#include "lib/rbtree.h"
#include "lib/spinlock.h"
#include "time/time.h"

#define SCHED_WEIGHT_DEFAULT 256 /* xl's default; range 1..65535 */

/* Why an entity may not run: runnable when no bit is set. */
#define SCHED_DOWN     (1u << 0) /* VCPUOP_down, or not initialised yet */
#define SCHED_BLOCKED  (1u << 1) /* waits for an event */
#define SCHED_PAUSED   (1u << 2) /* vcpu_pause() counts */
#define SCHED_POLLING  (1u << 3) /* SCHEDOP_poll */
#define SCHED_DYING    (1u << 4)

struct sched_entity {
    uint32_t blockers;     /* [a] SCHED_*; entity is runnable at 0 */
    unsigned cpu;          /* [o] run queue it is on or was last on */
    bool on_cpu;           /* [a] running, or its registers still being saved */
    bool in_hypervisor;    /* [a] preempted inside the hypervisor: not at the guest boundary */
    bool is_idle;          /* [I] */
    uint32_t weight, cap;  /* [o] cap in percent of one CPU per entity's domain share, 0 = none */
    struct cpu_mask hard, soft; /* [o] */
    /* policy state, private to fair.c */
    struct rb_node node;
    bool queued;
    uint64_t vtime;
    ns_t slice_start, slice_end, run_start;
    ns_t cap_used, cap_period_start;
    bool parked;
    /* accounting: time in each RUNSTATE_*, kept by domain/runstate.c through the hook below */
    ns_t total_run;
};

void sched_init(void);          /* run queues */
void sched_init_cpu(struct cpu *c);
void sched_start(void) __noreturn; /* this CPU enters its idle loop */

void sched_entity_init(struct sched_entity *e, unsigned cpu);
void sched_entity_fini(struct sched_entity *e); /* not runnable, not running */
/* Set: the entity stops being runnable (a running one is kicked). Clear: wakes it if none is left. */
void sched_block(struct sched_entity *e, uint32_t bit);
void sched_unblock(struct sched_entity *e, uint32_t bit);
/* True when it is off its CPU and at the guest boundary, so its registers may be read. */
bool sched_is_quiet(const struct sched_entity *e);
/* Waits (giving way) until that holds; the entity must be blocked by the caller first. */
void sched_wait_quiet(struct sched_entity *e);
void sched_yield(void);
int __must_check sched_set_affinity(struct sched_entity *e, const struct cpu_mask *hard,
                                    const struct cpu_mask *soft); /* -XEN_EINVAL: no online CPU */
void sched_set_params(struct sched_entity *e, uint32_t weight, uint32_t cap);

/* Chooses and switches; returns when this stack runs again. Called when need_resched is set. */
void schedule(void);
/* Lets interrupts in and other vCPUs run. No locks, no borrowed pointers. */
void preempt_point(void);

/* Set by domain/: what the scheduler does not know. */
struct sched_hooks {
    void (*switched)(struct vcpu *prev, struct vcpu *next); /* on prev's stack, state still prev's */
    void (*runstate)(struct sched_entity *e, int state, ns_t now); /* RUNSTATE_* of xen/vcpu.h */
};
extern const struct sched_hooks *sched_hooks;

#endif
