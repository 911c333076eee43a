/*
 * A domain's registers as a stream of records (xen/hvm/save.h, xen/arch-x86/hvm/save.h): how the
 * tools give a guest its first ones, look at them, and keep them. A record is a descriptor and a
 * body; HEADER and END frame a stream. Those of vCPUs are here, those of the platform's devices in
 * records.c.
 *
 * A stream is checked as a whole before anything of it is taken, and taken in an order of ours,
 * whatever its own is: see `all`.
 */
#include "hvm/hvm.h"
#include "hvm/records.h"
#include "lib/string.h"

#include <xen/hvm/save.h>

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

/* --- records: @d is paused --- */

/*
 * What of a stream is taken, in this order: wires and the devices that drive some, then the
 * interrupt controllers that may have noticed, so that no interrupt is there that was not saved.
 */
static const uint16_t all[] = {
    HVM_SAVE_CODE(PCI_LINK),
    HVM_SAVE_CODE(PCI_IRQ),
    HVM_SAVE_CODE(ISA_IRQ),
    HVM_SAVE_CODE(PIT),
    HVM_SAVE_CODE(RTC),
    HVM_SAVE_CODE(HPET),
    HVM_SAVE_CODE(PMTIMER),
    HVM_SAVE_CODE(PIC),
    HVM_SAVE_CODE(IOAPIC),
    HVM_SAVE_CODE(CPU),
    CPU_XSAVE_CODE,
    HVM_SAVE_CODE(MTRR),
    HVM_SAVE_CODE(LAPIC),
    HVM_SAVE_CODE(LAPIC_REGS),
    HVM_SAVE_CODE(TSC_ADJUST),
};

union vcpu_body {
    struct hvm_hw_cpu cpu;
    struct hvm_hw_cpu_xsave xsave; /* and behind it AVX and beyond */
    struct hvm_hw_mtrr mtrr;
    struct hvm_hw_lapic lapic;
    struct hvm_hw_lapic_regs regs;
    struct hvm_tsc_adjust tsc;
};
_Static_assert(sizeof(union vcpu_body) <= HVM_RECORD_MOST, "one buffer is enough for each");

static uint32_t xsave_record(void)
{
    uint32_t size = offsetof(struct hvm_hw_cpu_xsave, save_area) + cpu_features.xsave_size;
    return cpu_features.xsave && size <= HVM_RECORD_MOST ? size : 0;
}

/* 0: no record of a vCPU. */
static uint32_t vcpu_record(uint16_t type)
{
    switch (type) {
    case HVM_SAVE_CODE(CPU):
        return sizeof(struct hvm_hw_cpu);
    case CPU_XSAVE_CODE:
        return xsave_record();
    case HVM_SAVE_CODE(MTRR):
        return sizeof(struct hvm_hw_mtrr);
    case HVM_SAVE_CODE(LAPIC):
        return sizeof(struct hvm_hw_lapic);
    case HVM_SAVE_CODE(LAPIC_REGS):
        return sizeof(struct hvm_hw_lapic_regs);
    case HVM_SAVE_CODE(TSC_ADJUST):
        return sizeof(struct hvm_tsc_adjust);
    default:
        return 0;
    }
}

uint32_t hvm_record_size(uint16_t type)
{
    uint32_t size = vcpu_record(type);
    unsigned instances;
    return size || platform_record(type, &size, &instances) ? size : 0;
}

static struct vcpu *vcpu_at(const struct domain *d, unsigned instance)
{
    return instance < d->max_vcpus ? READ_ONCE(d->vcpu[instance]) : NULL;
}

static int get_vcpu_record(struct domain *d, uint16_t type, unsigned instance, union vcpu_body *b)
{
    struct vcpu *v = vcpu_at(d, instance);
    if (!v)
        return -XEN_ENOENT;
    memset(b, 0, sizeof(*b));
    if (type == HVM_SAVE_CODE(CPU)) {
        if (!v->initialised)
            return -XEN_ENODATA;
        get_cpu(v, &b->cpu);
    } else if (type == CPU_XSAVE_CODE) {
        /* All components are saved whatever XCR0 is now, so that each may hold something. */
        b->xsave.xfeature_mask = b->xsave.xcr0_accum = cpu_features.xcr0_mask;
        b->xsave.xcr0 = v->xcr0;
        memcpy(&b->xsave.save_area, v->fpu, cpu_features.xsave_size);
    } else if (type == HVM_SAVE_CODE(MTRR)) {
        mtrr_save(&v->hvm->mtrr, &b->mtrr);
        b->mtrr.msr_pat_cr = hvm_ops->get_reg(v, HVM_PAT);
    } else if (type == HVM_SAVE_CODE(LAPIC)) {
        lapic_save_base(&v->hvm->lapic, &b->lapic);
    } else if (type == HVM_SAVE_CODE(LAPIC_REGS)) {
        lapic_save_regs(&v->hvm->lapic, &b->regs);
    } /* TSC_ADJUST: there is none, its value is 0 */
    return 0;
}

static int check_xsave(const struct hvm_hw_cpu_xsave *x)
{
    bool good = fpu_xcr0_is_valid(x->xcr0) && fpu_xcr0_is_valid(x->xcr0_accum) &&
                !(x->xcr0 & ~x->xcr0_accum) &&
                fpu_state_is_valid(&x->save_area, cpu_features.xsave_size, x->xcr0_accum);
    return good ? 0 : -XEN_EINVAL;
}

static int check_vcpu_record(const struct domain *d, uint16_t type, unsigned instance,
                             const union vcpu_body *b)
{
    const struct vcpu *v = vcpu_at(d, instance);
    if (!v)
        return -XEN_EINVAL;
    if (type == HVM_SAVE_CODE(CPU))
        return check_cpu(&b->cpu);
    if (type == CPU_XSAVE_CODE)
        return check_xsave(&b->xsave);
    if (type == HVM_SAVE_CODE(MTRR))
        return mtrr_check(&b->mtrr, hvm_phys_bits(d));
    if (type == HVM_SAVE_CODE(LAPIC))
        return lapic_check(&v->hvm->lapic, &b->lapic);
    if (type == HVM_SAVE_CODE(LAPIC_REGS))
        return lapic_check_regs(&b->regs);
    return b->tsc.tsc_adjust ? -XEN_EOPNOTSUPP : 0;
}

static void load_vcpu_record(struct domain *d, uint16_t type, unsigned instance,
                             const union vcpu_body *b)
{
    struct vcpu *v = vcpu_at(d, instance);
    if (type == HVM_SAVE_CODE(CPU)) {
        set_cpu(v, &b->cpu);
        sched_unblock(&v->sched, SCHED_DOWN);
    } else if (type == CPU_XSAVE_CODE) {
        memcpy(v->fpu, &b->xsave.save_area, cpu_features.xsave_size);
        v->xcr0 = b->xsave.xcr0;
    } else if (type == HVM_SAVE_CODE(MTRR)) {
        mtrr_load(&v->hvm->mtrr, &b->mtrr);
        hvm_ops->set_reg(v, HVM_PAT, b->mtrr.msr_pat_cr);
    } else if (type == HVM_SAVE_CODE(LAPIC)) {
        lapic_load(&v->hvm->lapic, &b->lapic);
    } else if (type == HVM_SAVE_CODE(LAPIC_REGS)) {
        lapic_load_regs(&v->hvm->lapic, &b->regs);
        hvm_kick(v); /* what is pending may end its HLT */
    }
}

int hvm_record_get(struct domain *d, uint16_t type, unsigned instance, void *body)
{
    return vcpu_record(type) ? get_vcpu_record(d, type, instance, body)
                             : platform_record_get(d, type, instance, body);
}

/* --- streams --- */

static unsigned instances(const struct domain *d, uint16_t type)
{
    uint32_t size;
    unsigned n = d->max_vcpus;
    (void)platform_record(type, &size, &n);
    return n;
}

uint32_t hvm_context_size(const struct domain *d)
{
    uint32_t size = 2 * sizeof(struct hvm_save_descriptor) + sizeof(struct hvm_save_header);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        size +=
            instances(d, all[i]) * (sizeof(struct hvm_save_descriptor) + hvm_record_size(all[i]));
    return size;
}

static uint8_t *put_record(uint8_t *at, uint16_t type, uint16_t instance, const void *body,
                           uint32_t size)
{
    struct hvm_save_descriptor h = {type, instance, size};
    memcpy(at, &h, sizeof(h));
    if (size)
        memcpy(at + sizeof(h), body, size);
    return at + sizeof(h) + size;
}

/* Devices and vCPUs that there are not have no record. */
uint32_t hvm_context_get(struct domain *d, void *buf)
{
    void *body = zalloc(HVM_RECORD_MOST);
    struct hvm_save_header h = {
        .magic = HVM_FILE_MAGIC, .version = HVM_FILE_VERSION, .gtsc_khz = time_tsc_khz()};
    uint8_t *at = put_record(buf, HVM_SAVE_CODE(HEADER), 0, &h, sizeof(h));
    if (!body)
        return 0;
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        for (unsigned n = 0; n < instances(d, all[i]); n++)
            if (!hvm_record_get(d, all[i], n, body))
                at = put_record(at, all[i], n, body, hvm_record_size(all[i]));
    at = put_record(at, HVM_SAVE_CODE(END), 0, NULL, 0);
    zfree(body);
    return at - (uint8_t *)buf;
}

static int check_header(const void *body, uint32_t length)
{
    struct hvm_save_header header;
    if (length != sizeof(header))
        return -XEN_EINVAL;
    memcpy(&header, body, sizeof(header));
    return header.magic != HVM_FILE_MAGIC || header.version != HVM_FILE_VERSION ? -XEN_EINVAL : 0;
}

/* @body: a copy, aligned. */
static int check_record(const struct domain *d, const struct hvm_save_descriptor *h,
                        const void *body)
{
    uint32_t size = hvm_record_size(h->typecode);
    if (h->typecode == HVM_SAVE_CODE(HEADER))
        return check_header(body, h->length);
    if (!size)
        return -XEN_EOPNOTSUPP;
    if (h->length != size)
        return -XEN_EINVAL;
    return vcpu_record(h->typecode) ? check_vcpu_record(d, h->typecode, h->instance, body)
                                    : platform_record_check(d, h->typecode, h->instance, body);
}

/*
 * One pass over the stream; @load: the type whose records are taken, after a pass that has found
 * nothing wrong; 0: that pass.
 */
static int read_records(struct domain *d, const uint8_t *buf, uint32_t size, uint16_t load,
                        void *body)
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
        memcpy(body, buf + at, min(h.length, (uint32_t)HVM_RECORD_MOST));
        int rc = load ? 0 : check_record(d, &h, body);
        if (rc)
            return rc;
        if (h.typecode == load && vcpu_record(load))
            load_vcpu_record(d, load, h.instance, body);
        else if (h.typecode == load)
            platform_record_load(d, load, h.instance, body);
        at += h.length;
    }
}

int hvm_context_set(struct domain *d, const void *buf, uint32_t size)
{
    void *body = zalloc(HVM_RECORD_MOST);
    int rc = body ? read_records(d, buf, size, 0, body) : -XEN_ENOMEM;
    for (unsigned i = 0; !rc && i < ARRAY_SIZE(all); i++)
        rc = read_records(d, buf, size, all[i], body);
    zfree(body);
    return rc;
}
