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
#define SCHED_DOWN    (1u << 0) /* VCPUOP_down, or not initialised yet */
#define SCHED_BLOCKED (1u << 1) /* waits for an event */
#define SCHED_PAUSED  (1u << 2) /* vcpu_pause() counts */
#define SCHED_POLLING (1u << 3) /* SCHEDOP_poll */
#define SCHED_DYING   (1u << 4)
#define SCHED_IOREQ                                                                                \
    (1u << 5) /* waits for a device model; holds nothing, and is as quiet as at                    \
                 the guest's boundary */
#define SCHED_ASLEEP (SCHED_BLOCKED | SCHED_POLLING | SCHED_IOREQ) /* by its own doing */

/*
 * What the entities of one domain share: the cap, in percent of one CPU for all of them together
 * (xl's cap; 0 = none). The budget of a period is drawn on by whoever runs; what was drawn too much
 * is a debt to later periods, so that the average is exact.
 */
struct sched_group {
    uint32_t cap;      /* [a] */
    int64_t budget;    /* [a] ns left in this period; negative: debt */
    ns_t period_start; /* [a] */
};

/*
 * Fields: [a] atomic, [q] lock of run queue `cpu` (which itself changes only under the old queue's
 * lock), [I] immutable.
 */
struct sched_entity {
    struct vcpu *vcpu;         /* [I] whose it is; the policy never looks inside */
    struct sched_group *group; /* [I] NULL: never capped */
    struct stack_top *stack;   /* [I] its hypervisor stack */
    uint64_t saved_rsp;        /* [P] where that stack was left by schedule() */
    uint32_t blockers;         /* [a] SCHED_*; entity is runnable at 0 */
    unsigned cpu;              /* [q] run queue it is on or was last on */
    bool on_cpu;               /* [a] running, or its registers are still in CPU `cpu` */
    bool in_hypervisor;        /* [a] gave way inside the hypervisor: not at the guest boundary, and
                                  goes on running until it is, whatever blocks it */
    bool is_idle;              /* [I] */
    uint32_t weight, cap; /* [q] weight of this entity; cap as last set, see struct sched_group */
    struct cpu_mask hard, soft; /* [q] may only run on; prefers to run on */
    /* policy state, private to fair.c */
    struct rb_node node; /* [q] in the tree of waiting or of parked ones */
    bool queued;         /* [q] in one of these two trees */
    bool parked;         /* [q] the latter: its group's budget is used up */
    uint64_t vtime;      /* [q] ns run, scaled by SCHED_WEIGHT_DEFAULT / weight */
    uint64_t owed;       /* [q] vtime that slower queues cost it; halves its price */
    ns_t slice_begin, slice_end, unpark; /* [q] */
};

void sched_init(void);
/* This CPU's run queue, and its idle vCPU by the hook; for CPU 0 domain_init() gives that. */
void sched_init_cpu(struct cpu *c);
void sched_set_idle(struct cpu *c, struct sched_entity *idle); /* becomes current, too */
void sched_start(void) __noreturn;                             /* this CPU enters its idle loop */

/* Blocked by SCHED_DOWN; default weight, no cap, may run anywhere. e->vcpu, group: the caller's. */
void sched_entity_init(struct sched_entity *e, unsigned cpu);
/* @entry runs first on @stack (interrupts off); when it returns, the guest's registers there do. */
void sched_stack_init(struct sched_entity *e, struct stack_top *stack, void (*entry)(void));
void sched_entity_fini(struct sched_entity *e); /* not runnable, not running */
/* Set: the entity stops being runnable (a running one is kicked). Clear: wakes it if none is left.
 */
void sched_block(struct sched_entity *e, uint32_t bit);
void sched_unblock(struct sched_entity *e, uint32_t bit);
/* True when it is off its CPU and at the guest boundary, so its registers may be read. */
bool sched_is_quiet(const struct sched_entity *e);
/* Waits (giving way) until that holds; the entity must be blocked by the caller first. */
void sched_wait_quiet(struct sched_entity *e);
/* Makes the CPU that runs @e (another than this one) leave its guest and look around. */
void sched_poke(struct sched_entity *e);
void sched_yield(void); /* the current one lets others go first at the next schedule() */
int __must_check sched_set_affinity(struct sched_entity *e, const struct cpu_mask *hard,
                                    const struct cpu_mask *soft); /* -XEN_EINVAL: no online CPU */
/*
 * How long who runs cannot be preempted by a waker (xl's ratelimit, XEN_SYSCTL_SCHEDOP_putinfo), in
 * us; 0: not at all. For all CPUs, from the next decision on.
 */
void sched_set_ratelimit(uint32_t us); /* at most XEN_SYSCTL_SCHED_RATELIMIT_MAX */
uint32_t sched_ratelimit(void);
void sched_set_params(struct sched_entity *e, uint32_t weight, uint32_t cap);

/* Chooses and switches; returns when this stack runs again. Called when need_resched is set. */
void schedule(void);
/* Lets interrupts in and other vCPUs run. No locks, no borrowed pointers. */
void preempt_point(void);

/*
 * Set by domain/: what the scheduler does not know. A guest's state stays in a CPU while that idles
 * and is saved only when another one comes or somebody wants it quiet (e->on_cpu stays true).
 */
struct sched_hooks {
    struct sched_entity *(*alloc_idle)(unsigned cpu); /* NULL: no memory */
    void (*save)(struct vcpu *v, bool next_is_idle);  /* this CPU's guest state into v */
    void (*load)(struct vcpu *v);                     /* and v's into this CPU */
    /* Entered RUNSTATE_* of xen/vcpu.h; queue lock held. */
    void (*runstate)(struct sched_entity *e, int state, ns_t now);
};
extern const struct sched_hooks *sched_hooks;

#endif
