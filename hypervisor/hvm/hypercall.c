/*
 * Hypercalls of hardware-virtualized guests: the instruction that the hypercall page holds, from
 * the kernel (CPL 0) in 64-bit mode; number and arguments where a PV guest has them
 * (xen/arch-x86/xen-x86_64.h). Callers in other modes are refused: nobody's structures of 32 bits
 * are read yet.
 */
#include "hvm/hvm.h"
#include "hypercall/table.h"
#include "lib/string.h"

void hvm_hypercall(struct vcpu *v)
{
    struct cpu_user_regs *r = &v->stack->regs;
    uint64_t next = v->hvm->exit.next_rip;
    unsigned n = next ? next - r->rip : hvm_insn_length(v, true, 0x01);
    if (!n)
        return;
    hvm_skip(v, next ? n : n + 1); /* its third byte */
    if (!hvm_long_mode(v)) {
        r->rax = (uint32_t)-XEN_ENOSYS;
        return;
    }
    if (hvm_ops->cpl(v)) {
        r->rax = -XEN_EPERM;
        return;
    }
    r->rax = hypercall_hvm(r->eax, r->rdi, r->rsi, r->rdx, r->r10);
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
