/*
 * Privileged instructions of PV guests: the CPU raised #GP, the emulator (emulate/) decodes and
 * executes, and the effects here say what the guest may see and change.
 *
 *   ports   by I/O privilege level (a kernel counts as ring 1, PHYSDEVOP_set_iopl) or the bitmap of
 *           PHYSDEVOP_set_iobitmap, else #GP; ports that are not the domain's read as all ones and
 *           take no writes, as if no device were there. PCI configuration by 0xcf8/0xcfc is domain
 *           0's, with an address latch of its own.
 *   CR, DR  the guest's view: only CR0.TS, CR4.TSD and the like have an effect
 *   MSRs    a list (pv/msr.c)
 *
 * All of it happens on the current vCPU, without locks.
 */
#include "emulate/emulate.h"
#include "irq/pci_port.h"
#include "pv/internal.h"

/* --- memory and segments, for string instructions --- */

/* The #PF that the access would have raised. */
static enum emulate_result memory_fault(struct emulate_ctx *ctx, uint64_t addr, unsigned n,
                                        uint32_t error)
{
    const struct vcpu *v = ctx->data;
    mfn_t l4 = v->pv->kernel_mode ? v->pv->guest_l4 : v->pv->user_l4;
    uint64_t access = 0;
    uint64_t last = addr + n - 1;
    bool present = pv_walk(l4, addr, &access);
    if (present && addr / PAGE_SIZE != last / PAGE_SIZE && (!error || (access & PTE_RW))) {
        addr = ROUND_DOWN(last, PAGE_SIZE);
        present = pv_walk(l4, addr, &access);
    }
    ctx->fault_addr = addr;
    return emulate_raise(ctx, X86_PF, error | PF_USER | (present ? PF_PRESENT : 0));
}

static enum emulate_result fetch(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                 unsigned *got)
{
    unsigned in_page = PAGE_SIZE - addr % PAGE_SIZE;
    *got = min(n, in_page);
    return copy_from_guest(buf, guest_ptr(addr), *got) ? EMULATE_UNHANDLED : EMULATE_OK;
}

static enum emulate_result read(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n)
{
    return copy_from_guest(buf, guest_ptr(addr), n) ? memory_fault(ctx, addr, n, 0) : EMULATE_OK;
}

static enum emulate_result write(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                 unsigned n)
{
    return copy_to_guest(guest_ptr(addr), buf, n) ? memory_fault(ctx, addr, n, PF_WRITE)
                                                  : EMULATE_OK;
}

static enum emulate_result seg_base(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t *base)
{
    *base = seg == SEG_FS ? pv_read_fs_base() : seg == SEG_GS ? pv_read_gs_base() : 0;
    return EMULATE_OK;
}

/* --- ports --- */

/* The bitmap is the kernel's memory: its page tables have to be there to read it. */
static bool bitmap_allows(struct vcpu *v, uint16_t port, unsigned size)
{
    struct pv_vcpu *pv = v->pv;
    bool from_user = !pv->kernel_mode;
    uint8_t bits[2] = {0xff, 0xff};
    if (port + size > pv->io_bitmap_ports)
        return false;
    if (from_user)
        pv_switch_mode(v, true);
    unsigned n = port % 8 + size > 8 ? 2 : 1;
    int rc = copy_from_guest(bits, guest_ptr(pv->io_bitmap + port / 8), n);
    if (from_user)
        pv_switch_mode(v, false);
    unsigned wanted = ((1u << size) - 1) << port % 8;
    return !rc && !((bits[0] | bits[1] << 8) & wanted);
}

static bool level_allows(struct vcpu *v, uint16_t port, unsigned size)
{
    return v->pv->iopl >= (v->pv->kernel_mode ? 1 : 3) || bitmap_allows(v, port, size);
}

static bool owns(struct domain *d, uint16_t port, unsigned size)
{
    return domain_may_use(d, &d->ioports, port, port + size - 1u);
}

/* Reads of what is not the domain's leave *value as it is. */
static void io(struct vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *value)
{
    struct domain *d = v->domain;
    if (pci_port_access(&d->pv->pci_address, d->privileged, port, size, write, value) ||
        !owns(d, port, size))
        return;
    if (write)
        port_out(port, size, *value);
    else
        *value = port_in(port, size);
}

static enum emulate_result io_read(struct emulate_ctx *ctx, uint16_t port, unsigned size,
                                   uint32_t *value)
{
    if (!level_allows(ctx->data, port, size))
        return emulate_raise(ctx, X86_GP, 0);
    *value = ~0u;
    io(ctx->data, port, size, false, value);
    return EMULATE_OK;
}

static enum emulate_result io_write(struct emulate_ctx *ctx, uint16_t port, unsigned size,
                                    uint32_t value)
{
    if (!level_allows(ctx->data, port, size))
        return emulate_raise(ctx, X86_GP, 0);
    io(ctx->data, port, size, true, &value);
    return EMULATE_OK;
}

int pv_set_iobitmap(struct vcpu *v, uint64_t bitmap, uint32_t ports)
{
    if (ports > 65536)
        return -XEN_EINVAL;
    v->pv->io_bitmap = bitmap;
    v->pv->io_bitmap_ports = ports;
    return 0;
}

/* --- registers --- */

static enum emulate_result read_cr(struct emulate_ctx *ctx, unsigned cr, uint64_t *value)
{
    const struct vcpu *v = ctx->data;
    switch (cr) {
    case 0:
        *value = CR0_GUEST | (v->pv->ctrl_cr0_ts ? CR0_TS : 0);
        return EMULATE_OK;
    case 2:
        *value = v->info->arch.cr2;
        return EMULATE_OK;
    case 3:
        *value = xen_pfn_to_cr3(v->pv->guest_l4.n);
        return EMULATE_OK;
    case 4:
        *value = v->pv->ctrl_cr4;
        return EMULATE_OK;
    case 8:
        *value = 0; /* no local APIC, so no priority */
        return EMULATE_OK;
    default:
        return EMULATE_UNHANDLED;
    }
}

static enum emulate_result write_cr(struct emulate_ctx *ctx, unsigned cr, uint64_t value)
{
    struct vcpu *v = ctx->data;
    switch (cr) {
    case 0:
        if ((value ^ CR0_GUEST) & ~CR0_TS)
            return emulate_raise(ctx, X86_GP, 0);
        v->pv->ctrl_cr0_ts = value & CR0_TS;
        pv_cr_load(v);
        return EMULATE_OK;
    case 2:
        if (pv_has_info(v))
            v->info->arch.cr2 = value;
        return EMULATE_OK;
    case 3:
        return pv_set_l4(v, mfn(xen_cr3_to_pfn(value)), false) ? emulate_raise(ctx, X86_GP, 0)
                                                               : EMULATE_OK;
    case 4: /* what is not the guest's to change stays, without a fault: kernels only add to it */
        v->pv->ctrl_cr4 = pv_cr4_for_guest(value);
        pv_cr_load(v);
        return EMULATE_OK;
    case 8:
        return value ? emulate_raise(ctx, X86_GP, 0) : EMULATE_OK;
    default:
        return EMULATE_UNHANDLED;
    }
}

static enum emulate_result read_dr(struct emulate_ctx *ctx, unsigned dr, uint64_t *value)
{
    return pv_debugreg_get(ctx->data, dr, value) ? emulate_raise(ctx, X86_GP, 0) : EMULATE_OK;
}

static enum emulate_result write_dr(struct emulate_ctx *ctx, unsigned dr, uint64_t value)
{
    return pv_debugreg_set(ctx->data, dr, value) ? emulate_raise(ctx, X86_GP, 0) : EMULATE_OK;
}

/*
 * A kernel that has no #GP handler yet would only die of a refusal; the ABI lets such early reads
 * give 0 (xen/arch-x86/xen.h, trap_info).
 */
static bool is_early(const struct vcpu *v)
{
    return !v->pv->traps[X86_GP].address;
}

static enum emulate_result read_msr(struct emulate_ctx *ctx, uint32_t msr, uint64_t *value)
{
    if (!pv_msr_read(ctx->data, msr, value))
        return EMULATE_OK;
    *value = 0;
    return is_early(ctx->data) ? EMULATE_OK : emulate_raise(ctx, X86_GP, 0);
}

static enum emulate_result write_msr(struct emulate_ctx *ctx, uint32_t msr, uint64_t value)
{
    if (!pv_msr_write(ctx->data, msr, value) || is_early(ctx->data))
        return EMULATE_OK;
    return emulate_raise(ctx, X86_GP, 0);
}

static enum emulate_result cpuid_leaf(struct emulate_ctx *ctx, uint32_t leaf, uint32_t sub,
                                      uint32_t out[4])
{
    const struct vcpu *v = ctx->data;
    cpuid_guest(v->domain, leaf, sub, out);
    return EMULATE_OK;
}

static enum emulate_result invlpg_local(struct emulate_ctx *ctx, uint64_t addr)
{
    if (!is_hypervisor_addr(addr))
        invlpg(addr);
    return EMULATE_OK;
}

/* Only who reaches devices can have memory that is not coherent; for others it is nothing. */
static enum emulate_result wbinvd(struct emulate_ctx *ctx)
{
    const struct vcpu *v = ctx->data;
    if (v->domain->iomem.count)
        __asm__ volatile("wbinvd" ::: "memory");
    return EMULATE_OK;
}

static enum emulate_result xsetbv(struct emulate_ctx *ctx, uint32_t index, uint64_t value)
{
    struct vcpu *v = ctx->data;
    if (!cpu_features.xsave || index != 0 || !fpu_xcr0_is_valid(value))
        return emulate_raise(ctx, X86_GP, 0);
    v->xcr0 = value;
    fpu_set_xcr0(value);
    return EMULATE_OK;
}

static enum emulate_result read_tsc(struct emulate_ctx *ctx, uint64_t *tsc, uint32_t *aux)
{
    const struct vcpu *v = ctx->data;
    if (ctx->cpl != 0 && (v->pv->ctrl_cr4 & CR4_TSD))
        return emulate_raise(ctx, X86_GP, 0);
    *tsc = rdtsc();
    *aux = v->pv->tsc_aux;
    return EMULATE_OK;
}

/*
 * Whoever may use ports may say CLI and STI, to no effect: the machine's interrupts are not theirs,
 * and nothing tells us of the POPF that would end it. Linux does so before it has patched itself.
 */
static enum emulate_result set_if(struct emulate_ctx *ctx, bool on)
{
    const struct vcpu *v = ctx->data;
    return v->pv->iopl >= (v->pv->kernel_mode ? 1 : 3) ? EMULATE_OK : EMULATE_UNHANDLED;
}

static const struct emulate_ops ops = {
    .fetch = fetch,
    .read = read,
    .write = write,
    .seg_base = seg_base,
    .io_read = io_read,
    .io_write = io_write,
    .read_cr = read_cr,
    .write_cr = write_cr,
    .read_dr = read_dr,
    .write_dr = write_dr,
    .read_msr = read_msr,
    .write_msr = write_msr,
    .cpuid = cpuid_leaf,
    .invlpg = invlpg_local,
    .wbinvd = wbinvd,
    .xsetbv = xsetbv,
    .set_if = set_if,
    .rdtsc = read_tsc,
};

/* Does @cs name 64-bit code? The emulator knows nothing else (LAR: APM vol. 3; L is bit 21). */
static bool is_long_mode(uint16_t cs)
{
    uint32_t access = 0;
    if (cs == SEL_USER_CS64)
        return true;
    __asm__("lar %1, %0" : "+r"(access) : "r"((uint32_t)cs) : "cc");
    return access & 1u << 21;
}

/* User mode's #GP is its own, unless its kernel has given it ports. */
static bool may_emulate(const struct vcpu *v)
{
    return v->pv->kernel_mode || v->pv->iopl == 3 || v->pv->io_bitmap_ports;
}

bool pv_emulate_privileged(struct cpu_user_regs *regs)
{
    struct vcpu *v = current_vcpu();
    struct emulate_ctx ctx = {
        .ops = &ops,
        .regs = regs,
        .allow = EMULATE_PRIVILEGED,
        .cpl = v->pv->kernel_mode ? 0 : 3,
        .data = v,
    };
    if (!may_emulate(v) || !is_long_mode(regs->cs))
        return false;

    count(TRACE_gp_emulated);
    switch (emulate_one(&ctx)) {
    case EMULATE_OK:
        if (unlikely(regs->rflags & RFLAGS_TF)) {
            v->pv->debugreg[6] |= 1UL << 14; /* single step, as the CPU would report it */
            pv_inject(v, X86_DB, 0);
        }
        return true;
    case EMULATE_RETRY:
        return true;
    case EMULATE_EXCEPTION:
        if (ctx.vector == X86_PF)
            pv_inject_page_fault(v, ctx.error_code, ctx.fault_addr);
        else
            pv_inject(v, ctx.vector, ctx.error_code);
        return true;
    case EMULATE_UNHANDLED:
        break;
    }
    return false;
}
