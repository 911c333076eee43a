/*
 * What goes into the guest at an entry (APM vol. 2 sections 15.20, 15.21): an exception, NMI or
 * interrupted event by EVENTINJ; an interrupt as a virtual one, which the CPU delivers when the
 * guest can take it, without a further exit. And the debug registers, which are loaded when the
 * guest uses them.
 */
#include "hvm/svm/vmcb.h"

void svm_set_event(struct vmcb *vmcb, const struct hvm_event *e)
{
    vmcb->event = 0;
    if (!e->valid)
        return;
    vmcb->event = EVENT_VALID | e->vector | (uint64_t)e->type << 8;
    if (e->has_error)
        vmcb->event |= EVENT_HAS_ERROR | (uint64_t)e->error << 32;
}

/*
 * An exit in the middle of a delivery: it is to be delivered again. Software interrupts and the
 * exceptions of INT3 and INTO come again by themselves, for rip is still at the instruction.
 */
void svm_take_back_event(struct vcpu *v)
{
    uint64_t info = svm_of(v)->vmcb->exit_int_info;
    uint8_t type = info >> 8 & 7, vector = info;
    struct hvm_event *e = &v->hvm->event;
    e->valid = false;
    if (!(info & EVENT_VALID) || type == 4 ||
        (type == HVM_EXCEPTION && (vector == X86_BP || vector == X86_OF)))
        return;
    e->valid = true;
    e->type = type;
    e->vector = vector;
    e->has_error = info & EVENT_HAS_ERROR;
    e->error = info >> 32;
}

/* --- debug registers --- */

void svm_debug_load(struct vcpu *v)
{
    struct svm_vcpu *s = svm_of(v);
    s->dr_loaded = true;
    s->vmcb->dr_read = s->vmcb->dr_write = 0;
    write_breakpoints(v->hvm->dr);
}

void svm_debug_save(struct vcpu *v)
{
    struct svm_vcpu *s = svm_of(v);
    if (!s->dr_loaded)
        return;
    read_breakpoints(v->hvm->dr);
    s->dr_loaded = false;
    s->vmcb->dr_read = s->vmcb->dr_write = 0xffff;
}
