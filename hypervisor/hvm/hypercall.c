/*
 * Hypercalls of hardware-virtualized guests: the instruction that the hypercall page holds, from
 * the kernel (CPL 0); number and arguments where a PV guest has them (xen/arch-x86/xen-x86_64.h),
 * or as 32-bit code has them (compat.c).
 */
#include "domain/shared.h"
#include "hvm/hvm.h"
#include "hvm/ioreq.h"
#include "hypercall/table.h"
#include "lib/string.h"

void hvm_hypercall(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->stack->regs;
    uint64_t next = v->hvm->exit.next_rip;
    unsigned n = next ? next - r->rip : hvm_insn_length(v, true, 0x01);
    bool wide = hvm_long_mode(v);
    if (!n)
        return;
    if (!next)
        n++; /* its third byte */
    hvm_skip(v, n);
    if (hvm_ops->cpl(v)) {
        r->rax = wide ? (uint64_t)-XEN_EPERM : (uint32_t)-XEN_EPERM;
        return;
    }
    if (wide)
        r->rax = hypercall_hvm(r->eax, r->rdi, r->rsi, r->rdx, r->r10);
    else
        hvm_compat_hypercall(v, n);
    if (v->hvm->gave_frames) {
        v->hvm->gave_frames = false;
        ioreq_invalidate(v);
    }
}

void hvm_latch_width(struct vcpu *v)
{
    shared_set_narrow(v->domain, !hvm_long_mode(v));
}

/* 128 entries of 32 bytes: mov $nr, %eax; the instruction; ret. */
void hvm_write_hypercall_page(void *page)
{
    uint8_t *p = page;
    for (unsigned nr = 0; nr < PAGE_SIZE / 32; nr++, p += 32) {
        memset(p, 0xcc, 32);
        p[0] = 0xb8;
        p[1] = nr;
        memset(p + 2, 0, 3);
        memcpy(p + 5, hvm_ops->hypercall_insn, 3);
        p[8] = 0xc3;
    }
}
