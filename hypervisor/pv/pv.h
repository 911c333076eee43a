/*
 * Para-virtualized guests (xen/arch-x86/xen.h): 64-bit, kernel and user both in ring 3, told apart
 * by which top-level page table is loaded and by v->pv->kernel_mode.
 * What the guest may do to its page tables is pv/pagetable.c; how traps reach it pv/callback.c.
 */
#ifndef PV_PV_H
#define PV_PV_H

#include "domain/domain.h"

struct pv_domain {
    mfn_t perdomain_l3;                         /* [I] slot 260 of its address spaces */
    uint64_t *perdomain_l3_virt;                /* [I] */
    uint64_t *perdomain_l1[MAX_VCPUS / 16 + 1]; /* [d] */
    unsigned iopl_default;
    bool io_bitmap;
    uint32_t pci_address; /* [d] its idea of port 0xcf8 */
};

struct pv_trap {
    uint64_t address;
    uint16_t cs;
    uint8_t flags; /* low 2 bits: DPL; bit 2: mask events */
};

struct pv_vcpu {
    bool kernel_mode; /* [P] */
    bool syscall32_disables_events, syscall_disables_events;
    bool failsafe_disables_events;
    uint64_t kernel_ss, kernel_sp; /* stack_switch */
    uint64_t event_callback, failsafe_callback, syscall_callback, syscall32_callback,
        nmi_callback; /* 0 = none */
    struct pv_trap traps[256];
    mfn_t guest_l4, user_l4; /* page tables, each with a reference and an L4 type use; or NONE */
    unsigned loaded_on;      /* [P] the CPU whose TLB last held its translations */
    uint64_t fs_base, gs_base_kernel, gs_base_user; /* saved while off CPU */
    uint16_t ds, es, fs, gs;                        /* saved while off CPU */
    uint64_t ctrl_cr0_ts, ctrl_cr4;                 /* TS as the guest set it; CR4 as it believes */
    uint64_t debugreg[8];
    unsigned iopl;            /* PHYSDEVOP_set_iopl: 0..3 */
    uint64_t io_bitmap;       /* PHYSDEVOP_set_iobitmap: kernel address, a clear bit allows; */
    unsigned io_bitmap_ports; /* ports that it covers, 0 = none */
    uint32_t tsc_aux;         /* MSR_TSC_AUX as the guest set it */
    unsigned gdt_entries;
    mfn_t gdt_frames[16];
    unsigned ldt_entries;
    uint64_t ldt_base;
    mfn_t ldt_frames[16];
    uint64_t *gdt_ldt_l1; /* [I] 32 entries of the per-domain window */
    bool nmi_pending, in_nmi;
    bool failsafe_pending;     /* a saved selector could not be loaded: failsafe callback due */
    uint16_t failsafe_segs[4]; /* ds, es, fs, gs as they should have been */
};

void pv_init_cpu(void); /* this CPU's SYSCALL entry: MSRs and stub */
void pv_init(void);     /* registers guest_ops, page_type_ops, grant_pv_ops, exception handler */

/* Addresses as the CPU takes them: bits 63..47 equal (APM vol. 2 section 5.3.1). */
static inline bool is_canonical(uint64_t addr)
{
    return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}
static inline bool is_hypervisor_addr(uint64_t addr)
{
    return addr >= HV_VIRT_START && addr < HV_VIRT_END;
}
/* What a code or breakpoint address of a guest may be. */
static inline bool is_guest_addr(uint64_t addr)
{
    return is_canonical(addr) && !is_hypervisor_addr(addr);
}

/* --- page tables (pv/pagetable.c) --- */
/* Entries (APM vol. 2 section 5.3). */
#define PTE_P     (1UL << 0)
#define PTE_RW    (1UL << 1)
#define PTE_U     (1UL << 2)
#define PTE_PWT   (1UL << 3)
#define PTE_PCD   (1UL << 4)
#define PTE_A     (1UL << 5)
#define PTE_D     (1UL << 6)
#define PTE_PS    (1UL << 7)
#define PTE_PAT   (1UL << 7)
#define PTE_G     (1UL << 8)
#define PTE_AVAIL (7UL << 9)
#define PTE_NX    (1UL << 63)
#define PTE_ADDR  0x000ffffffffff000UL
static inline mfn_t pte_mfn(uint64_t e)
{
    return (mfn_t){(e & PTE_ADDR) >> PAGE_SHIFT};
}

/*
 * One entry of a validated table owned by current: checks @new, takes what it needs, replaces the
 * entry if it still equals *old (when @expected) and drops what the old one held.
 * @pg_owner: whose frames the entry may name (current domain, or a foreign one when privileged).
 */
int __must_check pv_pt_write(struct page *table, unsigned index, uint64_t new,
                             struct domain *pg_owner, bool preserve_ad);
/* The L1 entry that maps @va in the current address space; a type use of its page is taken. */
int __must_check pv_pt_find_l1(struct vcpu *v, uint64_t va, struct page **table, unsigned *index);
/* Tries to satisfy a guest's write to a read-only mapped page table; true when it did. */
bool pv_emulate_pt_write(struct cpu_user_regs *regs, uint64_t va);

/* Pins (MMUEXT_PIN_*) a table of @d: type validated, kept until unpinned. For mmuext and dom0/. */
int __must_check pv_pin_table(struct domain *d, mfn_t table, enum page_type type);

/* Loads @l4 as v's kernel (or user) address space; takes references, drops the old ones. */
int __must_check pv_set_l4(struct vcpu *v, mfn_t l4, bool user);
void pv_switch_mode(struct vcpu *v, bool to_kernel); /* swaps CR3 and GS base */
/*
 * Makes CR3 what @v needs now that it comes to this CPU; does nothing when it is loaded already.
 * Notes @v's domain in dirty_cpus.
 */
void pv_load_cr3(struct vcpu *v);
void pv_unload_cr3(void); /* this CPU holds no PV guest's address space from now on */

/* Sets page_type_ops and grant_pv_ops; called by pv_init(). */
void pv_pagetable_init(void);
void pv_audit_init(void); /* registers the debug key that recounts references, grants, ports */
/* Pins @table of @d as MMUEXT_PIN_L1..L4_TABLE does. Preemption points. */
int __must_check pv_pin_table(struct domain *d, mfn_t table, enum page_type type);
/* Gives up @v's two address spaces; v is not running. Preemption points. */
void pv_drop_l4(struct vcpu *v);
/*
 * For domain_relinquish of a dying domain none of whose vCPUs runs: address spaces, pins and every
 * page's allocation. Idempotent; -XEN_EAGAIN when there is more to do.
 */
int __must_check pv_relinquish_memory(struct domain *d);

/* --- descriptors (pv/segment.c) --- */
int __must_check pv_set_gdt(struct vcpu *v, const uint64_t *frames, unsigned entries);
void pv_destroy_gdt(struct vcpu *v);
int __must_check pv_set_ldt(struct vcpu *v, uint64_t base, unsigned entries);
/* Makes a guest's descriptor harmless or refuses it (false). */
bool pv_descriptor_fix(uint64_t *descriptor);
/* For page_type_ops->validate of a PAGE_SEGDESC page: checks its 512 descriptors and makes them
 * harmless; -XEN_EINVAL leaves the page as it was. */
int __must_check pv_segdesc_validate(struct page *page);
/* v's pages and windows: for create, destroy. */
int __must_check pv_perdomain_init(struct domain *d);
void pv_perdomain_fini(struct domain *d);
int __must_check pv_perdomain_vcpu(struct vcpu *v);

/* --- traps (pv/trap.c, pv/callback.c) --- */
void pv_inject(struct vcpu *v, unsigned vector, uint32_t error_code); /* bounces at once */
void pv_inject_page_fault(struct vcpu *v, uint32_t error_code, uint64_t cr2);
void pv_deliver_upcall(struct vcpu *v);

/* PHYSDEVOP_set_iobitmap: one bit per port from 0; -XEN_EINVAL beyond 65536 ports. */
int __must_check pv_set_iobitmap(struct vcpu *v, uint64_t bitmap, uint32_t ports);

/* 128 entries of 32 bytes, the ABI hypercall page, into @page (4 KiB). */
void pv_write_hypercall_page(void *page);

/* Builds and reads the ABI's struct vcpu_guest_context (domctl, vcpu_op, dom0). v is quiet. */
struct vcpu_guest_context;
int __must_check pv_set_context(struct vcpu *v, const struct vcpu_guest_context *c);
void pv_get_context(struct vcpu *v, struct vcpu_guest_context *c);

#endif
