/*
 * The lock order: a lock may be taken while locks of smaller rank are held, never the other way.
 * Debug builds check this on every spin_lock(). docs/locks.md says what each one protects.
 * Two locks of one rank: only through spin_lock_pair(), lower address first.
 */
#ifndef LIB_LOCK_RANK_H
#define LIB_LOCK_RANK_H

enum lock_rank {
    RANK_NONE = 0,
    RANK_DOMAIN_LIST, /* domain: the table of domains being changed */
    RANK_DOMAIN,      /* domain: struct domain's own fields (pause, shutdown, vcpus) */
    RANK_VCPU,        /* domain: one vCPU's set-up (callbacks, info area, timers' parameters) */
    RANK_GRANT,       /* grant: one grant table */
    RANK_IOREQ,       /* hvm: one domain's I/O request servers */
    RANK_EVENT,       /* event: one domain's port table */
    RANK_EVENT_QUEUE, /* event: one FIFO queue */
    RANK_P2M,         /* hvm: one domain's nested page tables being changed, its pool of pages */
    RANK_HWDOM,       /* hvm: which lines of the machine domain 0 has */
    RANK_LINES,       /* hvm: domain 0's IO-APIC, at whose pins they are */
    RANK_PIRQ,        /* event: one domain's physical interrupts */
    RANK_PAGE_LIST,   /* mm: one domain's list of pages and its totals */
    RANK_IRQ,         /* irq: one interrupt line */
    RANK_IOAPIC,      /* irq: IO-APIC registers */
    RANK_PCI,         /* irq: PCI configuration address port */
    RANK_PLATFORM,    /* hvm: one domain's interrupt controllers and timers */
    RANK_SCHED,       /* sched: one CPU's run queue */
    RANK_TIMER,       /* time: one CPU's timer tree */
    RANK_SLAB,        /* mm: one slab cache */
    RANK_HOSTMAP,     /* mm: the hypervisor's own page tables */
    RANK_BUDDY,       /* mm: the free lists */
    RANK_IPI,         /* cpu: one call-function in flight */
    RANK_VMCS,        /* hvm: one quiet vCPU's VMCS while it is looked at */
    RANK_CONSOLE,     /* console: log ring and devices; last, so that anything may log */
    RANK_COUNT
};

#endif
