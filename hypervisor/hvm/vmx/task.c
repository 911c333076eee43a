/*
 * Task switches by hardware, which on Intel's CPUs always stop the guest: done for it (SDM vol. 3,
 * "Task management"). The CPU has already checked that the guest may do it (SDM vol. 3, "Treatment
 * of task switches"); what the new task's segments may be is checked here, and a fault about them
 * is the new task's.
 *
 * Tables and TSSs are the guest's memory and may be anything: what is read is only ever loaded as
 * the guest's own state.
 */
#include "emulate/emulate.h"
#include "hvm/vmx/vmcs.h"
#include "lib/string.h"

enum source { BY_CALL, BY_IRET, BY_JMP, BY_GATE };

#define TYPE_LDT       2u
#define TYPE_BUSY      2u /* bit of a TSS's type */
#define TYPE_32        8u /* the same */
#define TYPE_ACCESSED  1u /* bits of segments' types */
#define TYPE_WRITABLE  2u
#define TYPE_CONFORMS  4u
#define TYPE_CODE      8u
#define ATTR_S         0x10u
#define ATTR_G         0x800u
#define ATTR_VM86      0xf3u
#define SELECTOR_TI    4u
#define SELECTOR_INDEX 0xfff8u

#define LDT_NONE       0x82u

/* Offsets in TSSs of 32 and of 16 bits, where fields are half as wide but the first. */
struct layout {
    unsigned size, width;
    unsigned ip, gprs, selectors, n_selectors, ldt;
};
static const struct layout layout32 = {104, 4, 32, 40, 72, 6, 96},
                           layout16 = {44, 2, 14, 18, 34, 4, 42};
#define TSS32_CR3  28
#define TSS32_TRAP 100

static const enum hvm_seg selector_order[] = {HVM_ES, HVM_CS, HVM_SS, HVM_DS, HVM_FS, HVM_GS};

struct task_switch {
    struct vcpu *v;
    enum source source;
    bool external; /* an interrupt's or exception's, not an instruction's */
    unsigned cpl;  /* the new task's */
};

static uint32_t get(const uint8_t *tss, const struct layout *l, unsigned at)
{
    uint32_t value = 0;
    memcpy(&value, tss + at, l->width);
    return value;
}

static void put(uint8_t *tss, const struct layout *l, unsigned at, uint32_t value)
{
    memcpy(tss + at, &value, l->width);
}

/* The kernel's right, whoever runs. False: the guest has its page fault. */
static bool copy(struct vcpu *v, uint64_t addr, void *buf, size_t n, unsigned access)
{
    struct hvm_fault f = {0};
    if (!hvm_copy_linear(v, (uint32_t)addr, buf, n, access, &f))
        return true;
    hvm_inject_page_fault(v, f.addr, f.error);
    return false;
}

static bool fault(const struct task_switch *t, unsigned vector, uint16_t selector)
{
    hvm_inject(t->v, vector, true, (selector & ~3u) | t->external);
    return false;
}

/* --- descriptors --- */

static bool descriptor_at(const struct task_switch *t, uint16_t selector, uint64_t *addr)
{
    struct hvm_segment table;
    unsigned offset = selector & SELECTOR_INDEX;
    hvm_ops->get_segment(t->v, selector & SELECTOR_TI ? HVM_LDTR : HVM_GDTR, &table);
    bool usable = !(selector & SELECTOR_TI) || (table.attributes & HVM_ATTR_P);
    *addr = table.base + offset;
    return usable && offset + 7 <= table.limit;
}

static struct hvm_segment unpack(uint16_t selector, uint64_t d)
{
    struct hvm_segment s = {.selector = selector,
                            .attributes = (d >> 40 & 0xff) | (d >> 44 & 0xf00),
                            .limit = (d & 0xffff) | (d >> 32 & 0xf0000),
                            .base = (d >> 16 & 0xffffff) | (d >> 56) << 24};
    if (s.attributes & ATTR_G)
        s.limit = s.limit << 12 | 0xfff;
    return s;
}

/* Sets or clears bits of the type in memory. */
static bool set_type(const struct task_switch *t, uint16_t selector, unsigned bits, bool on)
{
    uint64_t addr;
    uint8_t type;
    if (!descriptor_at(t, selector, &addr))
        return fault(t, X86_TS, selector);
    if (!copy(t->v, addr + 5, &type, 1, HVM_READ))
        return false;
    type = on ? type | bits : type & ~bits;
    return copy(t->v, addr + 5, &type, 1, HVM_WRITE);
}

static bool read_descriptor(const struct task_switch *t, uint16_t selector, struct hvm_segment *s)
{
    uint64_t addr, d;
    if (!descriptor_at(t, selector, &addr))
        return fault(t, X86_TS, selector);
    if (!copy(t->v, addr, &d, sizeof(d), HVM_READ))
        return false;
    *s = unpack(selector, d);
    return true;
}

/* --- the new task's segments --- */

static bool right_kind(const struct task_switch *t, enum hvm_seg seg, const struct hvm_segment *s)
{
    unsigned a = s->attributes, dpl = HVM_ATTR_DPL(a), rpl = s->selector & 3;
    bool code = a & TYPE_CODE, conforms = code && (a & TYPE_CONFORMS);
    if (!(a & ATTR_S))
        return false;
    if (seg == HVM_CS)
        return code && (conforms ? dpl <= rpl : dpl == rpl);
    if (seg == HVM_SS)
        return !code && (a & TYPE_WRITABLE) && rpl == t->cpl && dpl == t->cpl;
    return (!code || (a & TYPE_WRITABLE)) && (conforms || (dpl >= rpl && dpl >= t->cpl));
}

static bool load_segment(const struct task_switch *t, enum hvm_seg seg, uint16_t selector)
{
    struct hvm_segment s = {.selector = selector};
    if (t->v->stack->regs.rflags & RFLAGS_VM) {
        s = (struct hvm_segment){selector, ATTR_VM86, 0xffff, (uint64_t)selector << 4};
    } else if (selector & ~3u) {
        if (!read_descriptor(t, selector, &s))
            return false;
        if (!right_kind(t, seg, &s))
            return fault(t, X86_TS, selector);
        if (!(s.attributes & HVM_ATTR_P))
            return fault(t, seg == HVM_SS ? X86_SS : X86_NP, selector);
        if (!(s.attributes & TYPE_ACCESSED) && !set_type(t, selector, TYPE_ACCESSED, true))
            return false;
        s.attributes |= TYPE_ACCESSED;
    } else if (seg == HVM_CS || seg == HVM_SS) {
        return fault(t, X86_TS, selector);
    }
    hvm_ops->set_segment(t->v, seg, &s);
    return true;
}

static bool load_ldt(const struct task_switch *t, uint16_t selector)
{
    struct hvm_segment s = {.selector = selector, .attributes = LDT_NONE & ~HVM_ATTR_P};
    if (selector & SELECTOR_TI)
        return fault(t, X86_TS, selector);
    if (selector & ~3u) {
        if (!read_descriptor(t, selector, &s))
            return false;
        if ((s.attributes & 0x1f) != TYPE_LDT || !(s.attributes & HVM_ATTR_P))
            return fault(t, X86_TS, selector);
    }
    hvm_ops->set_segment(t->v, HVM_LDTR, &s);
    return true;
}

/* --- out of the old task, into the new one --- */

static bool save_old(const struct task_switch *t, const struct hvm_segment *old)
{
    const struct layout *l = old->attributes & TYPE_32 ? &layout32 : &layout16;
    struct cpu_user_regs *r = &t->v->stack->regs;
    uint8_t tss[104];
    uint64_t flags = t->source == BY_IRET ? r->rflags & ~RFLAGS_NT : r->rflags;
    unsigned first = l->ip, n = l->selectors + l->n_selectors * l->width - first;
    if (!copy(t->v, old->base + first, tss + first, n, HVM_READ))
        return false;
    put(tss, l, l->ip, (uint32_t)r->rip);
    put(tss, l, l->ip + l->width, (uint32_t)flags);
    for (unsigned i = 0; i < 8; i++)
        put(tss, l, l->gprs + i * l->width, (uint32_t)*reg_slot(r, i));
    for (unsigned i = 0; i < l->n_selectors; i++) {
        struct hvm_segment s;
        hvm_ops->get_segment(t->v, selector_order[i], &s);
        put(tss, l, l->selectors + i * l->width, s.selector);
    }
    if (!copy(t->v, old->base + first, tss + first, n, HVM_WRITE))
        return false;
    return (t->source != BY_IRET && t->source != BY_JMP) ||
           set_type(t, old->selector, TYPE_BUSY, false);
}

static void load_registers(const struct task_switch *t, const uint8_t *tss, const struct layout *l)
{
    struct cpu_user_regs *r = &t->v->stack->regs;
    bool nested = t->source == BY_CALL || t->source == BY_GATE;
    uint32_t flags = get(tss, l, l->ip + l->width);
    if (l->width == 2)
        flags |= r->rflags & ~0xffffUL & ~(RFLAGS_VM | RFLAGS_RF);
    r->rip = get(tss, l, l->ip);
    r->rflags = (flags & 0x3f7fd5) | 2 | (nested ? RFLAGS_NT : 0);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t value = get(tss, l, l->gprs + i * l->width);
        *reg_slot(r, i) = l->width == 2 ? value | 0xffff0000 : value;
    }
    if (l->width == 4 && (hvm_ops->get_reg(t->v, HVM_CR0) & CR0_PG)) {
        hvm_ops->set_reg(t->v, HVM_CR3, get(tss, l, TSS32_CR3));
        vmx_load_pdptes(t->v);
        vmx_forget_tlb(t->v);
    }
}

static bool load_segments(struct task_switch *t, const uint8_t *tss, const struct layout *l)
{
    bool vm86 = t->v->stack->regs.rflags & RFLAGS_VM;
    unsigned at = l->selectors;
    t->cpl = vm86 ? 3 : get(tss, l, at + l->width) & 3;
    if (!load_ldt(t, get(tss, l, l->ldt)))
        return false;
    /* SS first: the privilege level is there. */
    static const uint8_t order[] = {2, 1, 0, 3, 4, 5};
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        unsigned n = order[i];
        uint16_t selector = n < l->n_selectors ? get(tss, l, at + n * l->width) : 0;
        if (!load_segment(t, selector_order[n], selector))
            return false;
    }
    return true;
}

/* The error code of the exception that a task gate is for. */
static bool push_error(const struct task_switch *t, const struct layout *l, uint32_t error)
{
    struct cpu_user_regs *r = &t->v->stack->regs;
    struct hvm_segment ss;
    hvm_ops->get_segment(t->v, HVM_SS, &ss);
    bool wide = ss.attributes & HVM_ATTR_DB;
    uint64_t sp = wide ? (uint32_t)(r->rsp - l->width)
                       : (r->rsp & ~0xffffUL) | ((r->rsp - l->width) & 0xffff);
    if (!copy(t->v, ss.base + (wide ? sp : sp & 0xffff), &error, l->width, HVM_WRITE))
        return false;
    r->rsp = sp;
    return true;
}

static bool switch_task(struct task_switch *t, uint16_t selector, const struct hvm_event *event)
{
    struct vcpu *v = t->v;
    struct hvm_segment old, new;
    uint8_t tss[104];
    bool nested = t->source == BY_CALL || t->source == BY_GATE;
    hvm_ops->get_segment(v, HVM_TR, &old);
    if (!read_descriptor(t, selector, &new))
        return false;
    bool busy = new.attributes &TYPE_BUSY;
    const struct layout *l = new.attributes &TYPE_32 ? &layout32 : &layout16;
    if ((new.attributes & 0x15) != 1 || busy != (t->source == BY_IRET) || new.limit < l->size - 1)
        return fault(t, X86_TS, selector);
    if (!copy(v, new.base, tss, l->size, HVM_READ) || !save_old(t, &old))
        return false;
    if (nested && !copy(v, new.base, &old.selector, sizeof(old.selector), HVM_WRITE))
        return false;
    if (t->source != BY_IRET && !set_type(t, selector, TYPE_BUSY, true))
        return false;
    new.attributes |= TYPE_BUSY;
    hvm_ops->set_segment(v, HVM_TR, &new);
    hvm_ops->set_reg(v, HVM_CR0, hvm_ops->get_reg(v, HVM_CR0) | CR0_TS);
    load_registers(t, tss, l);
    if (!load_segments(t, tss, l) || (event->has_error && !push_error(t, l, event->error)))
        return false;
    if (l->width == 4 && (tss[TSS32_TRAP] & 1)) {
        hvm_ops->set_reg(v, HVM_DR6, hvm_ops->get_reg(v, HVM_DR6) | DR6_BT);
        hvm_inject(v, X86_DB, false, 0);
    }
    return true;
}

/* As the delivery of an NMI and IRET do. */
static void block_nmis(bool on)
{
    uint32_t now = vmread(VMCS_GUEST_SHADOW);
    vmwrite(VMCS_GUEST_SHADOW, on ? now | SHADOW_NMI : now & ~SHADOW_NMI);
}

/* Qualification: SDM vol. 3, "Exit qualification for task switches". */
void vmx_task_switch(struct vcpu *v, uint64_t qualification)
{
    struct task_switch t = {.v = v, .source = qualification >> 30 & 3};
    uint32_t vectoring = vmread(VMCS_VECTORING_EVENT);
    bool software = (vectoring & EVENT_VALID) && EVENT_TYPE(vectoring) >= EVENT_SOFTWARE;
    struct hvm_event event = {0};
    if (t.source == BY_GATE) {
        event = v->hvm->event;
        event.has_error &= event.valid;
        v->hvm->event.valid = false; /* this is its delivery */
        t.external = !software;
    }
    if (t.source != BY_GATE || software)
        v->stack->regs.rip += vmread(VMCS_INSTRUCTION_LENGTH);
    hvm_ops->clear_shadow(v);
    if (t.source == BY_IRET || (event.valid && event.type == HVM_NMI))
        block_nmis(t.source != BY_IRET);
    (void)switch_task(&t, qualification, &event);
}
