/*
 * Segment registers of the running guest. In 64-bit mode the hypervisor uses none of them, so ds,
 * es, fs, gs and both GS bases stay the guest's while we run and are saved and loaded only when
 * another vCPU's state takes this CPU. A selector that can no longer be loaded (its descriptor went
 * away) becomes null, and the guest is told through its failsafe callback.
 *
 * The active GS base is the kernel's in kernel mode and the user's in user mode; the other one is
 * kept in KernelGSBase (SWAPGS, APM vol. 2 section 4.5.3).
 */
#include "hypercall/table.h"
#include "pv/internal.h"

uint64_t pv_read_fs_base(void)
{
    uint64_t base;
    if (!cpu_features.fsgsbase)
        return rdmsr(MSR_FS_BASE);
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

uint64_t pv_read_gs_base(void)
{
    uint64_t base;
    if (!cpu_features.fsgsbase)
        return rdmsr(MSR_GS_BASE);
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

uint64_t pv_read_gs_shadow(void)
{
    uint64_t base;
    if (!cpu_features.fsgsbase)
        return rdmsr(MSR_KERNEL_GS_BASE);
    __asm__ volatile("swapgs; rdgsbase %0; swapgs" : "=r"(base));
    return base;
}

void pv_write_fs_base(uint64_t base)
{
    if (!cpu_features.fsgsbase)
        wrmsr(MSR_FS_BASE, base);
    else
        __asm__ volatile("wrfsbase %0" ::"r"(base));
}

void pv_write_gs_base(uint64_t base)
{
    if (!cpu_features.fsgsbase)
        wrmsr(MSR_GS_BASE, base);
    else
        __asm__ volatile("wrgsbase %0" ::"r"(base));
}

void pv_write_gs_shadow(uint64_t base)
{
    if (!cpu_features.fsgsbase)
        wrmsr(MSR_KERNEL_GS_BASE, base);
    else
        __asm__ volatile("swapgs; wrgsbase %0; swapgs" ::"r"(base));
}

/* True when @sel could be loaded into the segment register; otherwise that is null. */
#define LOAD_SELECTOR(reg, sel)                                                                    \
    ({                                                                                             \
        uint8_t loaded = 0;                                                                        \
        __asm__ volatile("1: movl %1, %%" #reg "\n"                                                \
                         "   movb $1, %0\n"                                                        \
                         "2:\n" EXTABLE("1b", "2b")                                                \
                         : "+q"(loaded)                                                            \
                         : "r"((uint32_t)(sel)));                                                  \
        if (unlikely(!loaded))                                                                     \
            __asm__ volatile("movl %0, %%" #reg ::"r"(0));                                         \
        loaded != 0;                                                                               \
    })

#define READ_SELECTOR(reg)                                                                         \
    ({                                                                                             \
        uint32_t sel;                                                                              \
        __asm__ volatile("movl %%" #reg ", %0" : "=r"(sel));                                       \
        (uint16_t) sel;                                                                            \
    })

void pv_segregs_read(uint16_t segs[4])
{
    segs[0] = READ_SELECTOR(ds);
    segs[1] = READ_SELECTOR(es);
    segs[2] = READ_SELECTOR(fs);
    segs[3] = READ_SELECTOR(gs);
}

void pv_segregs_save(struct vcpu *v)
{
    struct pv_vcpu *pv = v->pv;
    uint64_t active = pv_read_gs_base(), other = pv_read_gs_shadow();
    pv->ds = READ_SELECTOR(ds);
    pv->es = READ_SELECTOR(es);
    pv->fs = READ_SELECTOR(fs);
    pv->gs = READ_SELECTOR(gs);
    pv->fs_base = pv_read_fs_base();
    pv->gs_base_kernel = pv->kernel_mode ? active : other;
    pv->gs_base_user = pv->kernel_mode ? other : active;
}

/* Selectors first: loading one changes the base (APM vol. 2 section 4.5.3). */
void pv_segregs_load(struct vcpu *v)
{
    struct pv_vcpu *pv = v->pv;
    bool ok = true;
    ok &= LOAD_SELECTOR(ds, pv->ds);
    ok &= LOAD_SELECTOR(es, pv->es);
    ok &= LOAD_SELECTOR(fs, pv->fs);
    ok &= LOAD_SELECTOR(gs, pv->gs);
    if (unlikely(!ok)) {
        pv->failsafe_pending = true;
        vcpu_add_work(v, VCPU_WORK_DELIVER);
        pv->failsafe_segs[0] = pv->ds;
        pv->failsafe_segs[1] = pv->es;
        pv->failsafe_segs[2] = pv->fs;
        pv->failsafe_segs[3] = pv->gs;
    }
    pv_write_fs_base(pv->fs_base);
    pv_write_gs_base(pv->kernel_mode ? pv->gs_base_kernel : pv->gs_base_user);
    pv_write_gs_shadow(pv->kernel_mode ? pv->gs_base_user : pv->gs_base_kernel);
}

/*
 * gs of user mode, loaded by its kernel: the selector changes, and with it the user's base; the
 * kernel's base, active now, stays. A selector that cannot be loaded becomes null; that is no
 * error, since user mode alone chooses it and kernels treat an error here as their own bug.
 */
static void load_user_gs(uint16_t sel)
{
    __asm__ volatile("swapgs" ::: "memory");
    (void)LOAD_SELECTOR(gs, sel);
    __asm__ volatile("swapgs" ::: "memory");
}

/* Hypercalls come from kernel mode, so the kernel's GS base is the active one. */
long hc_set_segment_base(uint64_t which, uint64_t base)
{
    if (which == SEGBASE_GS_USER_SEL) {
        load_user_gs(base);
        return 0;
    }
    if (!is_canonical(base))
        return -XEN_EINVAL;
    switch (which) {
    case SEGBASE_FS:
        pv_write_fs_base(base);
        return 0;
    case SEGBASE_GS_USER:
        pv_write_gs_shadow(base);
        return 0;
    case SEGBASE_GS_KERNEL:
        pv_write_gs_base(base);
        return 0;
    default:
        return -XEN_EINVAL;
    }
}
