/*
 * Exceptions, NMIs and interrupts into a guest.
 *
 * Events (xen/event_channel.h) arrive as the callback vector (HVM_PARAM_CALLBACK_IRQ) for as long
 * as evtchn_upcall_pending is set, ahead of the local APIC and without its knowledge; or, for a
 * vCPU that asked by HVMOP_set_evtchn_upcall_vector, as an interrupt of its APIC; or, of vCPU 0,
 * by an interrupt line of the platform (hvm/platform.c).
 *
 * One event can go in at an entry: an exception of ours, or one whose delivery an exit interrupted,
 * then an NMI. An interrupt is left to the CPU to deliver when the guest can take it.
 */
#include "event/event.h"
#include "hvm/hvm.h"
#include "hvm/platform.h"

/* Contributory exceptions (APM vol. 2 section 8.2.9). */
static bool contributory(unsigned vector)
{
    return vector == X86_DE || (vector >= X86_TS && vector <= X86_GP);
}

void hvm_inject(struct vcpu *v, unsigned vector, bool has_error, uint32_t error)
{
    struct hvm_event *e = &v->hvm->event;
    if (e->valid && e->type == HVM_EXCEPTION) {
        bool page_fault_first = e->vector == X86_PF;
        if (e->vector == X86_DF) {
            domain_kill(v->domain, "vCPU %u: exception %u while a double fault is delivered", v->id,
                        vector);
            return;
        }
        if ((contributory(e->vector) && contributory(vector)) ||
            (page_fault_first && (contributory(vector) || vector == X86_PF))) {
            vector = X86_DF;
            has_error = true;
            error = 0;
        }
    }
    if (!(hvm_ops->get_reg(v, HVM_CR0) & CR0_PE)) /* real mode knows no error codes */
        has_error = false;
    *e = (struct hvm_event){true, HVM_EXCEPTION, vector, has_error, error};
}

void hvm_inject_gp(struct vcpu *v)
{
    hvm_inject(v, X86_GP, true, 0);
}

void hvm_inject_ud(struct vcpu *v)
{
    hvm_inject(v, X86_UD, false, 0);
}

void hvm_inject_page_fault(struct vcpu *v, uint64_t addr, uint32_t error)
{
    hvm_ops->set_reg(v, HVM_CR2, addr);
    hvm_inject(v, X86_PF, true, error);
}

static uint8_t callback_vector(const struct vcpu *v)
{
    return v->hvm->upcall_vector ? 0 : READ_ONCE(v->domain->hvm->callback_vector);
}

/* Called on the way out while events are pending. Raised again at worst: one upcall for nothing. */
void hvm_deliver(struct vcpu *v)
{
    if (v->hvm->upcall_vector)
        (void)lapic_raise(&v->hvm->lapic, v->hvm->upcall_vector);
}

bool hvm_wakes(const struct vcpu *v)
{
    bool by_line = platform_has_callback(v->domain);
    return (event_pending(v) && !by_line) || platform_extint(v) ||
           lapic_pending(&v->hvm->lapic) >= 0 || READ_ONCE(v->hvm->signals);
}

static void take_nmi(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;
    if (!(READ_ONCE(h->signals) & HVM_SIGNAL_NMI) || h->nmi_masked || h->event.valid ||
        hvm_ops->shadow(v))
        return;
    __atomic_fetch_and(&h->signals, ~HVM_SIGNAL_NMI, __ATOMIC_SEQ_CST);
    h->event = (struct hvm_event){.valid = true, .type = HVM_NMI, .vector = X86_NMI};
    h->nmi_masked = true;
    hvm_ops->watch_iret(v);
}

/* Who the interrupt is from that goes in. */
enum from { NOBODY, EVENTS, PIC, LAPIC };

static enum from choose(struct vcpu *v, int *vector, unsigned *pic_irq, bool *held_back)
{
    uint8_t callback = event_pending(v) ? callback_vector(v) : 0;
    *vector = callback;
    *held_back = false;
    if (callback)
        return EVENTS;
    if (platform_extint(v) && (*vector = platform_peek_extint(v, pic_irq)) >= 0)
        return PIC;
    *vector = lapic_next(&v->hvm->lapic);
    if (!lapic_holds_back(&v->hvm->lapic, *vector))
        return LAPIC;
    *held_back = *vector >= 0;
    *vector = -1;
    return NOBODY;
}

void hvm_enter(struct vcpu *v)
{
    struct hvm_vcpu *h = v->hvm;
    unsigned pic_irq;
    int irq;
    bool taken, held_back;
    if (v->domain->hvm->platform)
        platform_sync(v);
    enum from from = choose(v, &irq, &pic_irq, &held_back);
    /* One that the task priority holds back: the guest stops when it changes that. */
    hvm_ops->watch_tpr(v, held_back);
    take_nmi(v);
    struct hvm_event event = h->event;
    hvm_ops->set_tpr(v, h->lapic.tpr >> 4);
    hvm_ops->enter(v, &event, irq, from != LAPIC, &taken);
    uint8_t cr8 = hvm_ops->get_tpr(v);
    if (cr8 != h->lapic.tpr >> 4)
        h->lapic.tpr = cr8 << 4;
    if (taken && from == LAPIC)
        lapic_accept(&h->lapic, irq);
    else if (taken && from == PIC)
        platform_accept(v, pic_irq);
    if (v->domain->hvm->platform)
        platform_sync(v); /* events that the guest took end the line before it says so */
}
