/*
 * How long is the instruction that stopped the guest? CPUs with NRIP save say so; for others it is
 * read from the guest's memory: prefixes, then the opcode that the exit was about. What is found
 * there may have been changed since by another vCPU: then it has another opcode, the answer is 0,
 * and the guest simply runs whatever is there now.
 */
#include "hvm/hvm.h"

#define LONGEST 15

static bool is_prefix(uint8_t b, bool rex)
{
    switch (b) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return rex && (b & 0xf0) == 0x40;
    }
}

/* Up to the end of the page first, for what follows may not be there. */
static unsigned fetch(struct vcpu *v, uint8_t *buf, uint64_t addr, unsigned n)
{
    struct hvm_fault ignored;
    unsigned access = HVM_FETCH | (hvm_ops->cpl(v) == 3 ? HVM_USER : 0);
    unsigned here = min((uint64_t)n, PAGE_SIZE - addr % PAGE_SIZE);
    if (hvm_copy_linear(v, addr, buf, here, access, &ignored))
        return 0;
    if (here < n && !hvm_copy_linear(v, addr + here, buf + here, n - here, access, &ignored))
        return n;
    return here;
}

unsigned hvm_insn_length(struct vcpu *v, bool two_byte, uint8_t opcode)
{
    uint8_t code[LONGEST];
    struct hvm_segment cs;
    hvm_ops->get_segment(v, HVM_CS, &cs);
    bool wide = hvm_long_mode(v);
    uint64_t addr = v->stack->regs.rip + (wide ? 0 : cs.base);
    unsigned got = fetch(v, code, addr, LONGEST), i = 0;
    while (i < got && is_prefix(code[i], wide))
        i++;
    if (two_byte && (i >= got || code[i++] != 0x0f))
        return 0;
    return i < got && code[i] == opcode ? i + 1 : 0;
}
