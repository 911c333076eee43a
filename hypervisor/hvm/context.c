/*
 * A domain's registers as a stream of records (xen/hvm/save.h, xen/arch-x86/hvm/save.h): how the
 * tools give a guest its first ones, and look at them. A record is a descriptor and a body; CPU and
 * MTRR are those that we read and write, HEADER and END frame a stream.
 *
 * A stream is checked as a whole before anything of it is taken.
 */
#include "hvm/hvm.h"
#include "lib/string.h"

#include <xen/hvm/save.h>

#define RECORD_LEAST sizeof(struct hvm_save_descriptor)

static uint32_t stream_size(const struct domain *d)
{
    unsigned vcpus = 0;
    struct vcpu *v;
    for_each_vcpu(d, v)
        vcpus++;
    return 2 * RECORD_LEAST + sizeof(struct hvm_save_header) +
           vcpus * (2 * RECORD_LEAST + sizeof(struct hvm_hw_cpu) + sizeof(struct hvm_hw_mtrr));
}

/* --- one vCPU --- */

/* clang-format off */
#define EACH_SEGMENT(X) \
    X(HVM_CS, cs) X(HVM_DS, ds) X(HVM_ES, es) X(HVM_FS, fs) X(HVM_GS, gs) X(HVM_SS, ss) \
    X(HVM_TR, tr) X(HVM_LDTR, ldtr)
#define EACH_GPR(X) \
    X(rax) X(rbx) X(rcx) X(rdx) X(rbp) X(rsi) X(rdi) X(rsp) \
    X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15) X(rip) X(rflags)
#define EACH_REG(X) \
    X(HVM_CR0, cr0) X(HVM_CR2, cr2) X(HVM_CR3, cr3) X(HVM_CR4, cr4) X(HVM_DR6, dr6) \
    X(HVM_DR7, dr7) X(HVM_EFER, msr_efer) X(HVM_STAR, msr_star) X(HVM_LSTAR, msr_lstar) \
    X(HVM_CSTAR, msr_cstar) X(HVM_SFMASK, msr_syscall_mask) X(HVM_KERNEL_GS_BASE, shadow_gs) \
    X(HVM_SYSENTER_CS, sysenter_cs) X(HVM_SYSENTER_ESP, sysenter_esp) \
    X(HVM_SYSENTER_EIP, sysenter_eip)
/* clang-format on */

static void get_cpu(const struct vcpu *v, struct hvm_hw_cpu *c)
{
    const struct cpu_user_regs *r = &v->stack->regs;
    struct hvm_segment s;
    memset(c, 0, sizeof(*c));
    fpu_get_legacy(v->fpu, c->fpu_regs);
    c->flags = XEN_X86_FPU_INITIALISED;
#define GPR(name) c->name = r->name;
    EACH_GPR(GPR)
#undef GPR
#define REG(id, name) c->name = hvm_ops->get_reg(v, id);
    EACH_REG(REG)
#undef REG
#define SEGMENT(id, name)                                                                          \
    hvm_ops->get_segment(v, id, &s);                                                               \
    c->name##_sel = s.selector;                                                                    \
    c->name##_base = s.base;                                                                       \
    c->name##_limit = s.limit;                                                                     \
    c->name##_arbytes = s.attributes;
    EACH_SEGMENT(SEGMENT)
#undef SEGMENT
    hvm_ops->get_segment(v, HVM_GDTR, &s);
    c->gdtr_base = s.base;
    c->gdtr_limit = s.limit;
    hvm_ops->get_segment(v, HVM_IDTR, &s);
    c->idtr_base = s.base;
    c->idtr_limit = s.limit;
    c->dr0 = v->hvm->dr[0];
    c->dr1 = v->hvm->dr[1];
    c->dr2 = v->hvm->dr[2];
    c->dr3 = v->hvm->dr[3];
    c->msr_tsc_aux = v->hvm->tsc_aux;
    c->tsc = rdtsc();
}

void hvm_get_context(const struct vcpu *v, struct vcpu_guest_context *c)
{
    struct hvm_segment s;
    bool kernel = hvm_ops->cpl(v) < 3;
    c->flags = (kernel ? VGCF_in_kernel : 0) |
               (READ_ONCE(v->sched.blockers) & SCHED_DOWN ? 0 : VGCF_online);
    c->user_regs = v->stack->regs;
#define SELECTOR(id, name)                                                                         \
    hvm_ops->get_segment(v, id, &s);                                                               \
    c->user_regs.name = s.selector;
    SELECTOR(HVM_CS, cs)
    SELECTOR(HVM_SS, ss)
    SELECTOR(HVM_DS, ds)
    SELECTOR(HVM_ES, es)
    SELECTOR(HVM_FS, fs)
    c->fs_base = s.base;
    SELECTOR(HVM_GS, gs)
#undef SELECTOR
    uint64_t other = hvm_ops->get_reg(v, HVM_KERNEL_GS_BASE); /* SWAPGS gives the kernel its own */
    c->gs_base_kernel = kernel ? s.base : other;
    c->gs_base_user = kernel ? other : s.base;
    c->ctrlreg[0] = hvm_ops->get_reg(v, HVM_CR0);
    c->ctrlreg[2] = hvm_ops->get_reg(v, HVM_CR2);
    c->ctrlreg[3] = hvm_ops->get_reg(v, HVM_CR3);
    c->ctrlreg[4] = hvm_ops->get_reg(v, HVM_CR4);
    fpu_get_legacy(v->fpu, &c->fpu_ctxt);
    for (unsigned i = 0; i < 4; i++)
        c->debugreg[i] = v->hvm->dr[i];
    c->debugreg[6] = hvm_ops->get_reg(v, HVM_DR6);
    c->debugreg[7] = hvm_ops->get_reg(v, HVM_DR7);
}

/* Bits that no guest may have; what else does not fit together the CPU refuses at the entry. */
static int check_cpu(const struct hvm_hw_cpu *c)
{
    const uint64_t efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    if (c->msr_efer & ~efer || c->cr0 >> 32 || c->pending_valid)
        return -XEN_EINVAL;
    if ((c->cr0 & CR0_PG) && !(c->cr0 & CR0_PE))
        return -XEN_EINVAL;
    return c->cr4 >> 24 || c->dr6 >> 32 || c->dr7 >> 32 ? -XEN_EINVAL : 0;
}

static void set_cpu(struct vcpu *v, const struct hvm_hw_cpu *c)
{
    struct cpu_user_regs *r = &v->stack->regs;
    struct hvm_segment s = {0};
    hvm_vcpu_reset(v);
    if (c->flags & XEN_X86_FPU_INITIALISED)
        fpu_set_legacy(v->fpu, c->fpu_regs);
#define GPR(name) r->name = c->name;
    EACH_GPR(GPR)
#undef GPR
    r->rflags |= 2;
#define REG(id, name) hvm_ops->set_reg(v, id, c->name);
    EACH_REG(REG)
#undef REG
    s.base = c->gdtr_base;
    s.limit = c->gdtr_limit;
    hvm_ops->set_segment(v, HVM_GDTR, &s);
    s.base = c->idtr_base;
    s.limit = c->idtr_limit;
    hvm_ops->set_segment(v, HVM_IDTR, &s);
#define SEGMENT(id, name)                                                                          \
    s = (struct hvm_segment){c->name##_sel, c->name##_arbytes, c->name##_limit, c->name##_base};   \
    hvm_ops->set_segment(v, id, &s);
    EACH_SEGMENT(SEGMENT)
#undef SEGMENT
    v->hvm->dr[0] = c->dr0;
    v->hvm->dr[1] = c->dr1;
    v->hvm->dr[2] = c->dr2;
    v->hvm->dr[3] = c->dr3;
    v->hvm->tsc_aux = c->msr_tsc_aux;
    v->hvm->wait_sipi = false;
    v->initialised = true;
}

/* --- streams: @d is paused --- */

static uint8_t *put_record(uint8_t *at, uint16_t type, uint16_t instance, const void *body,
                           uint32_t size)
{
    struct hvm_save_descriptor h = {type, instance, size};
    memcpy(at, &h, sizeof(h));
    memcpy(at + sizeof(h), body, size);
    return at + sizeof(h) + size;
}

uint32_t hvm_context_get(struct domain *d, void *buf)
{
    struct hvm_hw_cpu *c = zalloc(sizeof(*c));
    struct hvm_save_header h = {
        .magic = HVM_FILE_MAGIC, .version = HVM_FILE_VERSION, .gtsc_khz = time_tsc_khz()};
    uint8_t *at = put_record(buf, HVM_SAVE_CODE(HEADER), 0, &h, sizeof(h));
    struct vcpu *v;
    if (!c)
        return 0;
    for_each_vcpu(d, v) {
        struct hvm_hw_mtrr mtrr;
        mtrr_save(&v->hvm->mtrr, &mtrr);
        mtrr.msr_pat_cr = hvm_ops->get_reg(v, HVM_PAT);
        at = put_record(at, HVM_SAVE_CODE(MTRR), v->id, &mtrr, sizeof(mtrr));
        if (!v->initialised)
            continue;
        get_cpu(v, c);
        at = put_record(at, HVM_SAVE_CODE(CPU), v->id, c, sizeof(*c));
    }
    at = put_record(at, HVM_SAVE_CODE(END), 0, NULL, 0);
    zfree(c);
    return at - (uint8_t *)buf;
}

uint32_t hvm_context_size(const struct domain *d)
{
    return stream_size(d);
}

/* One pass over the records; @commit: the first has found nothing wrong. */
static int read_records(struct domain *d, const uint8_t *buf, uint32_t size, bool commit)
{
    for (uint32_t at = 0;;) {
        struct hvm_save_descriptor h;
        if (size - at < sizeof(h))
            return -XEN_ENODATA;
        memcpy(&h, buf + at, sizeof(h));
        at += sizeof(h);
        if (h.typecode == HVM_SAVE_CODE(END))
            return 0;
        if (h.length > size - at)
            return -XEN_ENODATA;
        if (h.typecode == HVM_SAVE_CODE(CPU)) {
            const struct hvm_hw_cpu *c = (const void *)(buf + at);
            struct vcpu *v = h.instance < d->max_vcpus ? READ_ONCE(d->vcpu[h.instance]) : NULL;
            if (!v || h.length != sizeof(*c))
                return -XEN_EINVAL;
            int rc = check_cpu(c);
            if (rc)
                return rc;
            if (commit) {
                set_cpu(v, c);
                sched_unblock(&v->sched, SCHED_DOWN);
            }
        } else if (h.typecode == HVM_SAVE_CODE(HEADER)) {
            struct hvm_save_header header;
            if (h.length != sizeof(header))
                return -XEN_EINVAL;
            memcpy(&header, buf + at, sizeof(header));
            if (header.magic != HVM_FILE_MAGIC || header.version != HVM_FILE_VERSION)
                return -XEN_EINVAL;
        } else if (h.typecode == HVM_SAVE_CODE(MTRR)) {
            struct hvm_hw_mtrr m;
            struct vcpu *v = h.instance < d->max_vcpus ? READ_ONCE(d->vcpu[h.instance]) : NULL;
            if (!v || h.length != sizeof(m))
                return -XEN_EINVAL;
            memcpy(&m, buf + at, sizeof(m));
            int rc = mtrr_check(&m, hvm_phys_bits(d));
            if (rc)
                return rc;
            if (commit) {
                mtrr_load(&v->hvm->mtrr, &m);
                hvm_ops->set_reg(v, HVM_PAT, m.msr_pat_cr);
            }
        } else {
            return -XEN_EOPNOTSUPP;
        }
        at += h.length;
    }
}

int hvm_context_set(struct domain *d, const void *buf, uint32_t size)
{
    int rc = read_records(d, buf, size, false);
    return rc ? rc : read_records(d, buf, size, true);
}

int hvm_context_get_cpu(struct domain *d, uint32_t vcpu, void *buf, uint32_t size)
{
    struct vcpu *v = vcpu < d->max_vcpus ? READ_ONCE(d->vcpu[vcpu]) : NULL;
    if (!v)
        return -XEN_ENOENT;
    if (!v->initialised)
        return -XEN_ENODATA;
    if (size < sizeof(struct hvm_hw_cpu))
        return -XEN_ENOSPC;
    get_cpu(v, buf);
    return sizeof(struct hvm_hw_cpu);
}
