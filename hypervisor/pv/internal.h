/* Shared by the files of pv/ that deal with vCPUs: traps, callbacks, segments, privileged things.
 */
#ifndef PV_INTERNAL_H
#define PV_INTERNAL_H

#include "pv/pv.h"

/* Flags that a guest may have while it runs; IF is always added (APM vol. 2 section 3.1.4). */
#define RFLAGS_GUEST 0x250dd5UL /* CF PF AF ZF SF TF DF OF RF AC ID */
static inline uint64_t rflags_for_guest(uint64_t rflags)
{
    return (rflags & RFLAGS_GUEST) | RFLAGS_IF | 2;
}

/*
 * The level-1 entry for @va in the tables below @l4, 0 when there is none; *@access (may be NULL)
 * has PTE_RW and PTE_U when all levels allow that, PTE_NX when one forbids execution. The tables
 * may change meanwhile: only for hints, or when what is found is then checked by page_get_*().
 */
uint64_t pv_walk(mfn_t l4, uint64_t va, uint64_t *access);

/*
 * The guest's event mask. vCPUs beyond XEN_LEGACY_MAX_VCPUS that have registered no vcpu_info share
 * a dummy that stays masked.
 */
static inline bool pv_has_info(const struct vcpu *v)
{
    return v->id < XEN_LEGACY_MAX_VCPUS || !mfn_equal(v->info_frame, MFN_NONE);
}
static inline void pv_set_event_mask(struct vcpu *v, bool masked)
{
    if (likely(pv_has_info(v)))
        WRITE_ONCE(v->info->evtchn_upcall_mask, masked);
}

/* --- callback.c --- */
/* A software interrupt: bounced through the trap table without an error code. */
void pv_inject_interrupt(struct vcpu *v, unsigned vector);
void pv_bounce_syscall(struct vcpu *v, bool compat); /* SYSCALL of user mode */
void pv_bad_return(struct cpu_user_regs *regs, unsigned vector, uint32_t error_code);
/* @count rows, vector order, of an ABI trap table; -XEN_EINVAL leaves the old ones. */
int __must_check pv_trap_set(struct pv_trap *to, const struct trap_info *from);

/* --- trap.c --- */
void pv_guest_exception(struct cpu_user_regs *regs);
void pv_syscall(struct stack_top *top); /* from entry.S; this stack's */

/* --- privileged.c --- */
/* #GP with error code 0, or a forced CPUID; true when regs are what the guest goes on with. */
bool pv_emulate_privileged(struct cpu_user_regs *regs);

/* --- msr.c --- */
/* 0, or the guest's #GP. v is the current vCPU in kernel mode. */
int __must_check pv_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value);
int __must_check pv_msr_write(struct vcpu *v, uint32_t msr, uint64_t value);

/* --- segment.c --- */
void pv_segment_init(void);
/* References (as descriptor pages) to @n frames, all or none; and back. */
int __must_check pv_descriptor_frames_get(struct domain *d, const uint64_t *frames, unsigned n,
                                          mfn_t *out);
void pv_descriptor_frames_put(const mfn_t *frames, unsigned n);
/* Puts referenced frames in place of the old GDT, whose references it drops. */
void pv_gdt_install(struct vcpu *v, const mfn_t *frames, unsigned entries);
int __must_check pv_ldt_check(uint64_t base, uint64_t entries);
/* Takes a page of the LDT into the window; false: nothing has changed. May take long. */
bool pv_ldt_map(struct vcpu *v, unsigned page);
/* The same for the page that a selector's error code is about. */
bool pv_ldt_map_selector(struct vcpu *v, uint16_t error_code);
static inline unsigned pv_descriptor_pages(unsigned entries)
{
    return (entries + 511) / 512;
}
/* The descriptor tables of @v onto this CPU: before and after its CR3 is loaded. */
void pv_segments_window(struct vcpu *v);
void pv_segments_load(struct vcpu *v);

/* --- segregs.c --- */
void pv_segregs_save(struct vcpu *v);
void pv_segregs_load(struct vcpu *v);
void pv_segregs_read(uint16_t segs[4]); /* ds, es, fs, gs of this CPU */
uint64_t pv_read_fs_base(void);
uint64_t pv_read_gs_base(void);   /* the active one */
uint64_t pv_read_gs_shadow(void); /* the other */
void pv_write_fs_base(uint64_t base);
void pv_write_gs_base(uint64_t base);
void pv_write_gs_shadow(uint64_t base);

/* --- debug registers (debugreg.c) --- */
/* 0, or -XEN_EPERM for an address of ours, -XEN_EINVAL for no such register or kind. */
int __must_check pv_debugreg_set(struct vcpu *v, unsigned reg, uint64_t value);
int __must_check pv_debugreg_get(const struct vcpu *v, unsigned reg, uint64_t *value);
int __must_check pv_debugregs_check(const unsigned long *regs); /* eight of them, as a set */
void pv_debugregs_load(const struct vcpu *v);
void pv_debugregs_unload(const struct vcpu *v);

/* --- misc.c --- */
/* The assists that are recorded for a domain. */
#define PV_VM_ASSIST                                                                               \
    (1u << VMASST_TYPE_4gb_segments | 1u << VMASST_TYPE_writable_pagetables |                      \
     1u << VMASST_TYPE_pae_extended_cr3 | 1u << VMASST_TYPE_runstate_update_flag)

/* --- control registers (domain.c) --- */
/* CR4 as guests may believe it: what they may change, and how a fresh vCPU finds it. */
#define CR4_GUEST_MASK                                                                             \
    (CR4_VME | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR |             \
     CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_OSXSAVE)
#define CR0_GUEST (CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG)
uint64_t pv_cr4_for_guest(uint64_t wanted);
void pv_cr_load(struct vcpu *v); /* CR0.TS and CR4.TSD of the running vCPU */

/* --- syscall_entry.c --- */
void pv_syscall_entry_init(void);

#endif
