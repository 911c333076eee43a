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

static const uint8_t *find(struct vcpu *v, uint64_t addr)
{
    unsigned access = HVM_FETCH | (hvm_ops->cpl(v) == 3 ? HVM_USER : 0);
    uint64_t gpa;
    uint32_t ignored;
    return hvm_walk(v, addr, access, &gpa, &ignored) ? p2m_borrow(v->domain, gpa, false) : NULL;
}

/* The byte at @addr, -1: none; *p: where the one before is, NULL for the first. */
static int fetch(struct vcpu *v, uint64_t addr, const uint8_t **p)
{
    *p = *p && addr % PAGE_SIZE ? *p + 1 : find(v, addr);
    return *p ? READ_ONCE(**p) : -1;
}

unsigned hvm_insn_length(struct vcpu *v, bool two_byte, uint8_t opcode)
{
    const uint8_t *p = NULL;
    struct hvm_segment cs;
    bool wide = hvm_long_mode(v);
    uint64_t addr = v->stack->regs.rip;
    if (!wide) {
        hvm_ops->get_segment(v, HVM_CS, &cs);
        addr += cs.base;
    }
    for (unsigned n = 1; n <= LONGEST; n++) {
        int byte = fetch(v, addr++, &p);
        if (byte < 0)
            return 0;
        if (is_prefix(byte, wide))
            continue;
        if (two_byte && (byte != 0x0f || n++ == LONGEST))
            return 0;
        if (two_byte)
            byte = fetch(v, addr, &p);
        return byte == opcode ? n : 0;
    }
    return 0;
}
