/*
 * Domains and their vCPUs, from creation to the last reference.
 *
 * Life: domain_create (all or nothing) -> vcpus and memory are added -> unpaused, runs ->
 * shut down (a code) or killed -> dying: everything it holds is given back, each step idempotent
 * -> the last reference goes -> freed after a grace period.
 *
 * Pointers: domain_find() borrows; the pointer is good until this CPU leaves the hypervisor or
 * calls preempt_point(). domain_get()/domain_put() count. `current_domain()` is always good.
 *
 * Fields: [I] immutable after creation, [a] atomic, [d] d->lock (RANK_DOMAIN), [p] d->page_lock
 * (RANK_PAGE_LIST), [v] v->lock (RANK_VCPU), [P] the vCPU itself only.
 */
#ifndef DOMAIN_DOMAIN_H
#define DOMAIN_DOMAIN_H

#include "lib/types.h"

#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

#include "cpu/cpu.h"
#include "hypercall/guest_access.h"
#include "lib/range.h"
#include "lib/spinlock.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "time/time.h"

#define MAX_VCPUS      128 /* per domain; PV ABI beyond 32 by VCPUOP_register_vcpu_info */
#define STACK_FRAMES   (STACK_SIZE / PAGE_SIZE)
#define MAX_DOMID      DOMID_FIRST_RESERVED

#define DOMAIN_MAX_MAP 32 /* entries of the memory map that the toolstack may set */

struct cpuid_policy;
struct e820_range;
struct event_table;
struct event_vcpu;
struct grant_table;
struct hvm_domain;
struct hvm_vcpu;
struct pirq_table;
struct pv_domain;
struct pv_vcpu;

struct vcpu {
    unsigned id;           /* [I] */
    struct domain *domain; /* [I] */
    struct sched_entity sched;
    bool pinned; /* [P] SCHEDOP_pin_override; before that: */
    struct cpu_mask hard_before;
    struct stack_top *stack;         /* [I] registers: v->stack->regs */
    mfn_t stack_frame[STACK_FRAMES]; /* [I] */
    struct spinlock lock;            /* RANK_VCPU */
    uint32_t work;                   /* [a] VCPU_WORK_*: vcpu_leave() has more to do than usual */
    bool initialised;                /* [v] has been given a context */
    bool initialising;               /* [v] VCPUOP_initialise at work */
    unsigned pause_count;            /* [v] */

    /* vcpu_info as we see it, wherever the guest put it; never NULL (a dummy at first) */
    struct vcpu_info *info; /* [v] */
    mfn_t info_frame;       /* [v] MFN_NONE while inside shared_info */
    bool info_released;     /* [v] at death: info_frame is on its way out */
    struct grace info_grace;
    uint64_t time_base;                 /* [P] scale->base_tsc as last told to the guest */
    uint32_t time_version;              /* [P] of what it was told then; even */
    bool time_area_stale;               /* [P] time_guest is to be written */
    guest_ptr_t runstate_guest;         /* [v] VCPUOP_register_runstate_memory_area (virtual) */
    guest_ptr_t time_guest;             /* [v] VCPUOP_register_vcpu_time_memory_area */
    struct vcpu_runstate_info runstate; /* [sched] */

    struct timer singleshot, periodic, poll;
    ns_t period;             /* [v] 0 = none */
    bool poll_event;         /* [a] woken while in SCHEDOP_poll */
    evtchn_port_t poll_port; /* [P] the single port polled on, 0 = several */

    struct { /* [P] hypercall_again() within a multicall */
        bool in_multicall, set;
        uint64_t args[4];
    } again;

    void *fpu;                /* [P] cpu/fpu.c */
    uint64_t xcr0;            /* [P] */
    struct event_vcpu *event; /* event/ */
    struct pv_vcpu *pv;       /* pv/, or */
    struct hvm_vcpu *hvm;     /* hvm/: one of the two */
};

/* Bits of v->work. */
#define VCPU_WORK_END     (1u << 0) /* d->kill_pending: shut the domain down */
#define VCPU_WORK_DELIVER (1u << 1) /* call guest_ops->deliver() even if no event is pending */
#define VCPU_WORK_AREAS   (1u << 2) /* write runstate and time areas at guest addresses */

struct domain {
    domid_t id;    /* [I] */
    uint32_t refs; /* [a] */
    struct grace grace;
    struct spinlock lock;       /* RANK_DOMAIN */
    bool privileged;            /* [I] domain 0 */
    bool is_hvm;                /* [I] hardware-virtualized (HVM, PVH), not PV */
    bool dying, dead;           /* [d] dying: being torn down; dead: nothing left but refs */
    bool shut_down;             /* [d] */
    uint8_t shutdown_code;      /* [d] SHUTDOWN_* of xen/sched.h */
    bool shutdown_code_latched; /* [d] by SCHEDOP_shutdown_code: that one counts */
    bool shutting_down;         /* [d] its vCPUs are being stopped; shut_down follows */
    unsigned pauses;            /* [d] domain_pause() counts; each is in every v->pause_count */
    unsigned controller_pauses; /* [d] XEN_DOMCTL_pausedomain; together one of `pauses` */
    bool kill_pending;          /* [a] it ends at its next exit: killed, or its watchdog fired; */
    uint8_t end_code;           /* [a] SHUTDOWN_* to do so with */
    struct sched_group sched_group;
    bool debugger_attached;   /* [d] */
    xen_domain_handle_t uuid; /* [d] */
    uint32_t create_flags;    /* [I] XEN_DOMCTL_CDF_* */
    uint32_t emulation;       /* [I] XEN_X86_EMU_*: devices of a hardware-virtualized one */
    uint32_t vm_assist;       /* [a] VMASST bits */
    ns_t created;
    bool watchdog_on[2];
    struct timer watchdog[2]; /* SCHEDOP_watchdog */

    unsigned max_vcpus;           /* [I] */
    struct vcpu *vcpu[MAX_VCPUS]; /* [a] set once */
    struct cpu_mask dirty_cpus;   /* [a] CPUs whose TLB may hold this domain's translations */

    /* memory */
    struct spinlock page_lock;     /* RANK_PAGE_LIST */
    uint32_t page_list;            /* [p] first frame of its list; 0 = none */
    uint32_t page_list_done;       /* [p] dying: frames given up that others still refer to */
    uint64_t tot_pages, max_pages; /* [p] frames */
    uint64_t claimed;              /* frames promised, XENMEM_claim_pages: mm/buddy.c */
    uint64_t shared_pages;         /* [p] frames mapped by grants from others */
    uint64_t overhead_pages;       /* [a] frames the hypervisor spends on it */

    struct e820_range *memory_map; /* [d] XENMEM_set_memory_map; NULL = none; zfree()d at death */
    unsigned memory_map_entries;   /* [d] up to DOMAIN_MAX_MAP */
    struct cpuid_policy *cpuid; /* [I once run] control/cpuid_policy.c; NULL = default; zfree()d */

    struct shared_info *shared; /* [I] direct-map pointer */
    mfn_t shared_frame;         /* [I] */
    unsigned ports_2l;          /* [a] of the 2-level ABI, by the layout in use: shared.h */
    int64_t time_offset;        /* [d] seconds, XEN_DOMCTL_settimeoffset */

    struct range_set ioports, iomem, irqs; /* [d] what it may touch of the machine */

    struct event_table *event; /* [I] event/ */
    struct pirq_table *pirq;   /* [I] event/pirq.c */
    struct grant_table *grant; /* [I] grant/ */
    struct pv_domain *pv;      /* [I] pv/, or */
    struct hvm_domain *hvm;    /* [I] hvm/: one of the two */
};

/* Each vCPU that exists. */
#define for_each_vcpu(d, v)                                                                        \
    for (unsigned vcpu_at = 0; vcpu_at < (d)->max_vcpus; vcpu_at++)                                \
        if (((v) = READ_ONCE((d)->vcpu[vcpu_at])))
/* Each domain in order of id, borrowed: no preempt_point() in the body. */
#define for_each_domain(d)                                                                         \
    for ((d) = domain_at_or_after(0); (d); (d) = domain_at_or_after((d)->id + 1u))

extern struct domain *dom0; /* NULL until built */
/* Pseudo-domains that own what no real one does: DOMID_IO (device memory), DOMID_XEN (ours) */
extern struct domain *dom_io, *dom_xen;

static inline struct vcpu *current_vcpu(void)
{
    return this_vcpu();
}
static inline struct domain *current_domain(void)
{
    return this_vcpu()->domain;
}

/* --- domains (domain/domain.c) --- */
struct domain_config { /* decoded from struct xen_domctl_createdomain, or made by dom0/ */
    unsigned max_vcpus, max_evtchn_port;
    int max_grant_frames, max_maptrack_frames; /* negative = default */
    uint32_t flags;                            /* XEN_DOMCTL_CDF_* */
    uint32_t emulation;                        /* XEN_X86_EMU_* */
    xen_domain_handle_t uuid;
    bool privileged;
};

void domain_init(void); /* idle and pseudo-domains, hooks into sched/ */
/* -XEN_EEXIST, -XEN_ENOMEM, -XEN_EINVAL...; paused once. On failure nothing remains. */
int __must_check domain_create(domid_t id, const struct domain_config *config, struct domain **out);
domid_t domain_free_id(domid_t from);   /* the next one, wrapping, never 0; DOMID_INVALID: none */
struct domain *domain_find(domid_t id); /* borrowed; NULL */
struct domain *domain_find_or_self(domid_t id); /* DOMID_SELF too */
bool __must_check domain_get(struct domain *d); /* false: on its way out */
void domain_put(struct domain *d);
struct domain *domain_next(domid_t from);       /* the first with id >= from, counted; NULL */
struct domain *domain_at_or_after(unsigned id); /* the same, borrowed */

/*
 * The guest did what cannot be continued: log the first reason, crash it with SHUTDOWN_crash at
 * the next exit. Callers return at once; nothing they return is seen.
 */
void domain_kill(struct domain *d, const char *why, ...) __printf(2, 3);
/*
 * Stops every vCPU (the calling one at its exit), then tells the toolstack. Domain 0's ends the
 * machine. Waits giving way: no locks, @d current or counted. Where that is not allowed (interrupt,
 * locks held): domain_end_soon(), which makes the domain do it itself.
 */
void domain_shutdown(struct domain *d, uint8_t code);
void domain_end_soon(struct domain *d, uint8_t code);
int __must_check domain_resume(struct domain *d); /* -XEN_EINVAL: it is not shut down */
void domain_pause(struct domain *d);              /* counts; waits until all vCPUs are quiet */
void domain_pause_nosync(struct domain *d);
void domain_unpause(struct domain *d);
int __must_check domain_pause_by_controller(struct domain *d);
int __must_check domain_unpause_by_controller(struct domain *d);
/*
 * Gives back everything that @d holds, giving way as it goes; @d is counted and not the caller's.
 * 0 when nothing is left but references; -XEN_EINVAL: domain 0 or a pseudo-domain.
 */
int __must_check domain_destroy(struct domain *d);

/* --- vCPUs (domain/vcpu.c) --- */
int __must_check vcpu_create(struct domain *d, unsigned id, unsigned cpu);
void vcpu_pause(struct vcpu *v); /* waits until quiet; not for the caller itself */
void vcpu_pause_nosync(struct vcpu *v);
void vcpu_unpause(struct vcpu *v);
void vcpu_block(void);          /* current: until an event is pending */
void vcpu_kick(struct vcpu *v); /* look at your pending events soon; wakes it if blocked */
struct vcpu *vcpu_alloc_idle(unsigned cpu); /* NULL: no memory */
void vcpu_send_nmi(struct vcpu *v);         /* its kernel's NMI callback runs soon, if it has one */
/* VCPUOP_up and down: by the guest itself. Down may leave none up: the domain powers off. */
int __must_check vcpu_up(struct vcpu *v); /* -XEN_EINVAL: not initialised */
void vcpu_down(struct vcpu *v);
static inline void vcpu_add_work(struct vcpu *v, uint32_t bits)
{
    __atomic_fetch_or(&v->work, bits, __ATOMIC_SEQ_CST);
}

/*
 * For loops that a guest can make long: gives way, and says whether somebody waits for this vCPU at
 * the guest's boundary, to pause or to end it. Then the loop ends by hypercall_again(): the guest's
 * registers become such that it makes hypercall @nr with these arguments when it next runs. Returns
 * what the handler is to return.
 */
bool vcpu_wanted(void);
long hypercall_again(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/*
 * The only way back to a guest: called by the entry code with interrupts off after everything else.
 * Reschedules, kills, pauses, delivers events; returns when the guest's registers are final.
 */
void vcpu_leave(void);
void vcpu_leave_attending(struct vcpu *v);

static inline bool vcpu_must_attend(const struct cpu *c, const struct vcpu *v)
{
    return READ_ONCE(c->need_resched) || READ_ONCE(v->sched.blockers) || READ_ONCE(v->work);
}

/* Does @v have an event to take (pending and unmasked upcall)? For block and leave. */
static inline bool event_pending(const struct vcpu *v)
{
    return READ_ONCE(v->info->evtchn_upcall_pending) && !READ_ONCE(v->info->evtchn_upcall_mask);
}

/* vcpu_leave() inlined, for the shortest ways through the hypervisor; @top is this stack's. */
static __always_inline void vcpu_leave_now(struct stack_top *top)
{
    if (unlikely(vcpu_must_attend(top->cpu, top->vcpu) || event_pending(top->vcpu)))
        vcpu_leave_attending(top->vcpu);
}

/* --- memory_op, vcpu_op, sched_op, timers are hypercall handlers: memory.c, vcpu_op.c, sched_op.c,
       guest_time.c. --- */
void guest_time_update(struct vcpu *v); /* writes vcpu_time_info; v is current or quiet */
void guest_wallclock_update(struct domain *d);
/* The shared page has a new user, and firmware may have cleared it (hvmloader does). */
void guest_time_rewrite(struct domain *d);
/* A timer of v's: on the CPU that v runs on, if that is this one. */
void vcpu_timer_set(struct vcpu *v, struct timer *t, ns_t when);

/*
 * A domain's frame by guest frame number, one reference taken; NULL. PV: gfn is the mfn. HVM: by
 * its nested page tables.
 */
struct page *__must_check domain_get_page(struct domain *d, gfn_t g);

/* Is all of [first, last] in @set, one of @d's ranges (ioports, iomem, irqs)? */
static inline bool domain_may_use(struct domain *d, const struct range_set *set, uint64_t first,
                                  uint64_t last)
{
    spin_lock(&d->lock);
    bool allowed = range_contains(set, first, last);
    spin_unlock(&d->lock);
    return allowed;
}

/* CPUID as @d sees it (control/cpuid_policy.c); v is the current vCPU or NULL. */
void cpuid_guest(const struct domain *d, uint32_t leaf, uint32_t sub, uint32_t out[4]);

/* Gives up the allocation of every page of a dying domain, its pins too. 0/-XEN_EAGAIN. */
int __must_check domain_relinquish_pages(struct domain *d);

/* What kind of guest it is: pv/ or hvm/. */
struct guest_ops {
    int (*domain_init)(struct domain *d);
    void (*domain_fini)(struct domain *d);
    /* Everything this kind holds of page references; idempotent; may preempt_point(). 0/-EAGAIN */
    int (*domain_relinquish)(struct domain *d);
    int (*vcpu_init)(struct vcpu *v);
    void (*vcpu_fini)(struct vcpu *v);
    void (*run)(void); /* first function on a vCPU's stack; when it returns, guest_return does */
    void (*switch_out)(struct vcpu *v); /* save segment registers, debug registers ... */
    void (*switch_in)(struct vcpu *v);  /* CR3, GDT, LDT, segment bases, TSS stack */
    /* Called on the way out with interrupts off: make the guest take its pending upcall. */
    void (*deliver)(struct vcpu *v);
    /* Would an upcall be taken now (unmasked)? */
    bool (*upcall_enabled)(const struct vcpu *v);
    struct page *(*get_page)(struct domain *d, gfn_t g); /* domain_get_page() */
    void (*send_nmi)(struct vcpu *v);                    /* kicks it, too */
    /* Translated guests only: frames at guest frame numbers of their own. */
    int (*map)(struct domain *d, gfn_t g, struct page *page, unsigned order);
    int (*map_on_demand)(struct domain *d, gfn_t g, unsigned order);   /* no pages yet */
    bool (*unmap)(struct domain *d, gfn_t g, const struct page *page); /* false: not there */
    /* Memory there, populated or not, leaves its reservation; false: there is none. */
    bool (*give_up)(struct domain *d, gfn_t g);
    /* Another domain's page, which the caller may show to @d. */
    int (*map_lent)(struct domain *d, gfn_t g, struct page *page, bool writable);
    uint64_t (*max_gfn)(const struct domain *d);
    /* Frame @n of XENMEM_resource_ioreq_server @id. */
    int (*resource)(struct domain *d, uint16_t id, unsigned n, mfn_t *frame);
    bool (*shown)(const struct domain *d); /* are pages of ours shown to it still mapped? */
    long (*memory_op)(uint64_t cmd, guest_ptr_t arg); /* what only translated guests have */
    void (*audit)(struct domain *d);                  /* debug key */
};
extern const struct guest_ops *pv_ops_table;  /* set by pv_init(); used when !is_hvm */
extern const struct guest_ops *hvm_ops_table; /* set by hvm_init() */

#endif
