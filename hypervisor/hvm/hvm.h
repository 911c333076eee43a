/*
 * Hardware-virtualized guests: HVM and PVH. The guest runs on nested page tables (p2m.c) until the
 * CPU stops it; each vCPU's own stack runs hvm_run(): leave the hypervisor's business, enter, see
 * why it came back (exit.c). Interrupts stay off in between, but for the window in which an
 * external interrupt that stopped the guest is taken.
 *
 * Locks: p2m.lock (RANK_P2M). Fields: letters of domain/domain.h.
 */
#ifndef HVM_HVM_H
#define HVM_HVM_H

#include "domain/domain.h"
#include "hvm/dev/lapic.h"
#include "hvm/dev/mtrr.h"
#include "hvm/ops.h"

#include <xen/hvm/params.h>

/* Memory that is populated on demand (pod.c); p2m.lock holds for all of it. */
struct pod {
    uint64_t entries;      /* [a] frames of the guest that are not populated yet */
    uint64_t count;        /* pages that are ready for them, in two lists: */
    uint32_t small, large; /* first frame of a page, of a block of 2 MiB; 0 = end */
    uint64_t sweep;        /* frame of the guest at which the search for zero pages goes on */
    uint64_t added;        /* pages, for a target that is not reached yet */
};

struct p2m {
    struct spinlock lock; /* RANK_P2M: changes; looking up takes none */
    mfn_t root;           /* [I] */
    uint64_t max_gfn;     /* [a] highest that ever was mapped */
    uint64_t tables;      /* [p2m lock] pages of page tables */
    bool tracked;         /* [a] p2m_take_dirty() was called */
    struct pod pod;
};

/* XEN_X86_EMU_* of a domain with a whole PC around it; the other choice is the local APIC alone. */
#define HVM_EMULATION_PC ((uint32_t)(XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI))

struct platform;

struct hvm_domain {
    struct platform *platform; /* [I] NULL: no device but the local APICs */
    struct p2m p2m;
    void *backend;
    uint64_t params[HVM_NR_PARAMS]; /* [d] */
    struct ioreq_domain *ioreq;     /* [I] ioreq.h */
    uint32_t pci_address;           /* [a] what it wrote to port 0xcf8 */
    unsigned debug_used;            /* [d] of its line at port 0xe9 */
    char debug_line[80];            /* [d] */
    uint8_t callback_vector;        /* [a] of HVM_PARAM_CALLBACK_IRQ; 0 = none */
    unsigned lowest_last;           /* [a] vCPU that the last lowest-priority interrupt went to */
    struct hwdom *hw;               /* [I] domain 0 alone (hwdom.h); NULL */
    uint64_t pool;                  /* [a] bytes for page tables, as the tools set it */
};

/* Bits of hvm_vcpu.signals. */
#define HVM_SIGNAL_INIT (1u << 0)
#define HVM_SIGNAL_SIPI (1u << 1)
#define HVM_SIGNAL_NMI  (1u << 2)

struct hvm_vcpu {
    struct vcpu *vcpu; /* [I] */
    void *backend;
    struct hvm_exit exit;       /* [P] */
    struct hvm_event event;     /* [P] goes in at the next entry */
    struct ioreq_server *ioreq; /* [a] whose answer it waits for */
    uint32_t signals;          /* [a] HVM_SIGNAL_*: what others did to it, seen at its next entry */
    uint8_t sipi_vector;       /* [a] */
    bool wait_sipi;            /* [a] after INIT, or never started */
    bool nmi_masked;           /* [P] until the guest's IRET */
    bool gave_frames;          /* [P] device models are to hear of it before it runs on */
    uint8_t upcall_vector;     /* [a] HVMOP_set_evtchn_upcall_vector; 0 = none */
    uint32_t tsc_aux;          /* [P] */
    uint32_t pkru;             /* [P] while not loaded */
    uint64_t unhandled_rip;    /* [P] an instruction there was not known, and left to the CPU */
    uint64_t dr[4];            /* [P] while not loaded */
    struct hvm_compat *compat; /* [P] the structure of the hypercall that 32-bit code makes */
    struct mtrr mtrr;          /* [P] */
    struct lapic lapic;
    struct timer lapic_timer;
};

/* --- start of day --- */
void hvm_init(void);     /* finds the backend, registers guest_ops; the boot CPU too */
void hvm_init_cpu(void); /* each further CPU */
bool hvm_available(void);

/* --- p2m.c --- */
int __must_check p2m_init(struct domain *d);
void p2m_fini(struct domain *d);
/*
 * gfns from @g on are the 2^order frames from @page on, which @d owns: takes a reference and a
 * WRITABLE use of each. What was there before goes. -XEN_ENOMEM, -XEN_EINVAL; on failure some may
 * be mapped, which the caller removes or leaves to the domain's death.
 */
int __must_check p2m_add(struct domain *d, gfn_t g, struct page *page, unsigned order);
/* The same for device memory: no references. */
int __must_check p2m_add_device(struct domain *d, gfn_t g, mfn_t m);
/*
 * Another domain's page, which the caller may show to @d: as long as it is there it is referenced.
 * -XEN_EBUSY: it is a page table of its owner and cannot be written.
 */
int __must_check p2m_add_lent(struct domain *d, gfn_t g, struct page *page, bool writable);
/* False: @page was not at @g. No TLB is flushed: the caller does that by p2m_flush(). */
bool p2m_remove_page(struct domain *d, gfn_t g, const struct page *page);
bool p2m_remove_lent(struct domain *d, gfn_t g, const struct page *page);
void p2m_flush(struct domain *d);
/*
 * The RAM at @g, populated if need be, a reference taken; NULL. Whoever owns it; *writable: by us,
 * through that.
 */
struct page *__must_check p2m_get_page(struct domain *d, gfn_t g, bool *writable);
/*
 * Where the RAM at @gpa is, to be read, or if @write to be written by us; NULL. Nothing is held:
 * like what a TLB knows it is good until this CPU next answers a flush (spin_poll(), a lock,
 * preempt_point()), for which whoever gets the frame next has to wait (mm/buddy.c). What is not
 * populated yet is none: it would be zero, a page table without entries.
 */
void *__must_check p2m_borrow(const struct domain *d, uint64_t gpa, bool write);
/* What a guest frame number stands for. */
enum p2m_kind {
    P2M_NONE,
    P2M_POD, /* RAM as soon as it is touched */
    P2M_RAM,
    P2M_ROM,       /* its own frame, which it cannot write */
    P2M_LENT,      /* another domain's */
    P2M_LENT_READ, /* another domain's, for reading */
    P2M_DEVICE     /* of the machine */
};
enum p2m_kind p2m_kind(const struct domain *d, gfn_t g);
/* A frame of its own becomes ROM or RAM; the caller flushes. -XEN_ENOENT, -XEN_EINVAL, -XEN_ENOMEM
 */
int __must_check p2m_set_writable(struct domain *d, gfn_t g, bool writable);
/*
 * 1: @g was written, or mapped, since the last call; 0. The caller flushes before it lets anybody
 * read the page. -XEN_ENOMEM. What other domains write is not noticed, nor what we do without the
 * second one.
 */
int __must_check p2m_take_dirty(struct domain *d, gfn_t g);
void p2m_set_dirty(struct domain *d, gfn_t g);     /* we have written to it */
int __must_check p2m_relinquish(struct domain *d); /* 0, -XEN_EAGAIN; may preempt_point() */

/* --- pod.c: memory populated on demand --- */
/* 2^order frames from @g on, where nothing is yet. -XEN_EINVAL, -XEN_ENOMEM: nothing is changed. */
int __must_check pod_add(struct domain *d, gfn_t g, unsigned order);
/*
 * Where NPT_POD was is RAM now. False: there is none to be had, of which the guest dies if it is
 * the caller. Locks above RANK_P2M may be held.
 */
bool __must_check pod_populate(struct domain *d, gfn_t g);
void pod_fault(struct vcpu *v, gfn_t g); /* the same for what stopped the guest; may give way */
/* 1: what was to be populated at @g is not any more; 0: there was no such; -XEN_ENOMEM */
int __must_check pod_remove(struct domain *d, gfn_t g);
void pod_entry_gone(struct domain *d); /* lock held: p2m.c has put something else there */
/*
 * @page, which the guest had and gives back, is kept ready for what it still may populate: true,
 * the caller's reference is gone.
 */
bool __must_check pod_keep(struct domain *d, struct page *page);
long pod_target(uint64_t op, guest_ptr_t arg); /* XENMEM_set_pod_target, get */
void pod_relinquish(struct domain *d);         /* may preempt_point() */
void pod_audit(struct domain *d);

/* --- walk.c --- */
/*
 * Guest-physical address of linear @addr for @access (HVM_*), as v's CPU would find it; the tables'
 * A and D bits are set. False: *error has the page fault's error code.
 */
bool __must_check hvm_walk(struct vcpu *v, uint64_t addr, unsigned access, uint64_t *gpa,
                           uint32_t *error);

/* --- memory.c --- */
int __must_check hvm_copy_from_gpa(struct domain *d, void *dst, uint64_t gpa, size_t n);
int __must_check hvm_copy_to_gpa(struct domain *d, uint64_t gpa, const void *src, size_t n);
/* Linear addresses of the current vCPU. -XEN_EFAULT: *fault_addr and *error say where and how. */
struct hvm_fault {
    uint64_t addr;
    uint32_t error;
};
int __must_check hvm_copy_linear(struct vcpu *v, uint64_t addr, void *buf, size_t n,
                                 unsigned access, struct hvm_fault *fault);
extern const struct guest_access_ops hvm_guest_access; /* for the hypercalls of its vCPUs */

/* --- insn.c --- */
/* Length of the instruction at rip if it has this opcode (behind 0x0f if @two_byte); 0 = it has
 * not. */
unsigned hvm_insn_length(struct vcpu *v, bool two_byte, uint8_t opcode);

/* --- vcpu.c --- */
int __must_check hvm_vcpu_init(struct vcpu *v);
void hvm_vcpu_fini(struct vcpu *v);
void hvm_switch_out(struct vcpu *v);
void hvm_switch_in(struct vcpu *v);
void hvm_run(void);                  /* first function on a vCPU's stack */
void hvm_vcpu_reset(struct vcpu *v); /* registers as after RESET or INIT: real mode */
/* Protected mode without paging, as a PVH kernel is entered; v has never run. */
void hvm_vcpu_start_pvh(struct vcpu *v, uint32_t entry, uint32_t start_info);
static inline bool hvm_long_mode(const struct vcpu *v) /* 64-bit code runs */
{
    return hvm_ops->long_mode(v);
}
void hvm_signal(struct vcpu *v, uint32_t signal);
void hvm_kick(struct vcpu *v); /* has something new to take */
void hvm_halt(struct vcpu *v); /* HLT */

/* --- inject.c --- */
void hvm_inject(struct vcpu *v, unsigned vector, bool has_error, uint32_t error);
void hvm_inject_gp(struct vcpu *v);
void hvm_inject_ud(struct vcpu *v);
void hvm_inject_page_fault(struct vcpu *v, uint64_t addr, uint32_t error);
void hvm_enter(struct vcpu *v);       /* with what is pending */
bool hvm_wakes(const struct vcpu *v); /* something would end a HLT */
void hvm_deliver(struct vcpu *v);     /* events are pending */

/* --- exit.c --- */
void hvm_exit(struct vcpu *v);
void hvm_skip(struct vcpu *v, unsigned length); /* an instruction was executed for the guest */

/* --- msr.c: 0, or the guest's #GP --- */
int __must_check hvm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value);
int __must_check hvm_msr_write(struct vcpu *v, uint32_t msr, uint64_t value);
unsigned hvm_phys_bits(const struct domain *d); /* as CPUID tells it */

/* --- io.c: of the current vCPU; may wait for an answer. Negative: the domain is dying --- */
/* @size: 1, 2, 4; bits of *value beyond it mean nothing. */
int __must_check hvm_io_port(struct vcpu *v, uint16_t port, unsigned size, bool write,
                             uint32_t *value);
/* @size: 1, 2, 4, 8; at any address, but within a page. */
int __must_check hvm_io_mem(struct vcpu *v, uint64_t gpa, unsigned size, bool write,
                            uint64_t *value);

/*
 * Many elements by one request. False: no device model has all of it, or something of it is not the
 * guest's own RAM; then they are for the two above, one by one.
 */
bool __must_check hvm_io_port_block(struct vcpu *v, uint16_t port, unsigned size, bool write,
                                    uint64_t gpa, unsigned count);
struct hvm_block {
    unsigned count, size; /* size: 1, 2, 4, 8 */
    uint64_t to, from;    /* guest physical, each on one page */
    bool fill;            /* with `value`; from means nothing */
    uint64_t value;
};
bool __must_check hvm_io_mem_block(struct vcpu *v, const struct hvm_block *b);

/* --- mmio.c: instructions executed for the guest --- */
void hvm_mmio(struct vcpu *v);      /* an access to what is no RAM */
void hvm_string_io(struct vcpu *v); /* INS, OUTS */
void hvm_write_tpr(struct vcpu *v); /* MOV to CR8 */

/* --- apic.c --- */
void hvm_apic_init(struct vcpu *v);
/* An interrupt message to those it names (no shorthand); takes no lock. */
enum line_result hvm_apic_send(struct domain *d, const struct lapic_ipi *ipi);
uint32_t hvm_ticks_owed_most(const struct domain *d); /* HVM_PARAM_TIMER_MODE */
static inline bool hvm_apic_page(const struct vcpu *v, uint64_t gpa)
{
    const uint64_t mode = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
    return gpa >> PAGE_SHIFT == LAPIC_PAGE >> PAGE_SHIFT &&
           (v->hvm->lapic.base & mode) == LAPIC_BASE_ENABLE;
}

/* --- hypercall.c --- */
void hvm_hypercall(struct vcpu *v);
void hvm_latch_width(struct vcpu *v); /* its code is its domain's kernel: domain/shared.h */
void hvm_write_hypercall_page(void *page);

/* --- compat.c --- */
/* Of 32-bit code; the instruction, @length bytes, is passed already. */
void hvm_compat_hypercall(struct vcpu *v, unsigned length);
/* What a handler finds at an address above 4 GiB meanwhile; @access: HVM_READ or HVM_WRITE. */
int __must_check hvm_compat_access(struct vcpu *v, uint64_t addr, void *buf, size_t n,
                                   unsigned access);

/* --- context.c: a paused domain's vCPUs and devices as a stream of records --- */
uint32_t hvm_context_size(const struct domain *d);
uint32_t hvm_context_get(struct domain *d, void *buf); /* bytes; 0: no memory */
/* -XEN_EINVAL, -XEN_ENODATA, -XEN_ENODEV, -XEN_ENOMEM, -XEN_EOPNOTSUPP: nothing is changed. */
int __must_check hvm_context_set(struct domain *d, const void *buf, uint32_t size);
/*
 * What the structure of PV guests has a place for: dumps and debuggers ask for it. @v is quiet, *c
 * zero.
 */
void hvm_get_context(const struct vcpu *v, struct vcpu_guest_context *c);
/* One record without its descriptor, into HVM_RECORD_MOST bytes. Size 0: we have none of that type.
 */
#define HVM_RECORD_MOST 4096
uint32_t hvm_record_size(uint16_t type);
int __must_check hvm_record_get(struct domain *d, uint16_t type, unsigned instance, void *body);

/* --- grant_map.c --- */
extern const struct grant_map_ops hvm_grant_ops;

/* --- physmap.c --- */
/* What is at @from is at @to from now on, and nothing at @from. */
int __must_check hvm_physmap_move(struct domain *d, gfn_t from, gfn_t to);
/* XENMEM_add_to_physmap, its batch, remove_from_physmap, pod_target: by domain/memory.c. */
long hvm_memory_op(uint64_t cmd, guest_ptr_t arg);
/* Memory of @d's own at @g, populated or not, leaves its reservation; false: there is none. */
bool __must_check hvm_physmap_give_up(struct domain *d, gfn_t g);

/* --- param.c --- */
int __must_check hvm_param_get(struct domain *d, uint32_t index, uint64_t *value);
int __must_check hvm_param_set(struct domain *d, uint32_t index, uint64_t value, bool by_tools);

#endif
