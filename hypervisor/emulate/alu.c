/*
 * Integer arithmetic with flags (APM vol. 3 chapter 3), and general registers by number. Where the
 * manual leaves a flag undefined the value is what common processors give.
 */
#include "emulate/internal.h"

uint64_t *reg_slot(struct cpu_user_regs *regs, unsigned n)
{
#define AT(reg) offsetof(struct cpu_user_regs, reg)
    static const uint8_t at[16] = {
        AT(rax), AT(rcx), AT(rdx), AT(rbx), AT(rsp), AT(rbp), AT(rsi), AT(rdi),
        AT(r8),  AT(r9),  AT(r10), AT(r11), AT(r12), AT(r13), AT(r14), AT(r15),
    };
#undef AT
    return (uint64_t *)((char *)regs + at[n & 15]);
}

static bool is_high_byte(unsigned n, unsigned size, bool rex)
{
    return size == 1 && !rex && n >= 4 && n < 8;
}

uint64_t reg_read(struct cpu_user_regs *regs, unsigned n, unsigned size, bool rex)
{
    if (is_high_byte(n, size, rex))
        return *reg_slot(regs, n - 4) >> 8 & 0xff;
    return *reg_slot(regs, n) & size_mask(size);
}

/* Four bytes clear the upper half; one and two leave the rest (APM vol. 1 section 3.1.2). */
void reg_write(struct cpu_user_regs *regs, unsigned n, unsigned size, bool rex, uint64_t v)
{
    if (is_high_byte(n, size, rex)) {
        uint64_t *slot = reg_slot(regs, n - 4);
        *slot = (*slot & ~0xff00UL) | (v & 0xff) << 8;
        return;
    }
    uint64_t *slot = reg_slot(regs, n);
    if (size >= 4)
        *slot = v & size_mask(size);
    else
        *slot = (*slot & ~size_mask(size)) | (v & size_mask(size));
}

static void set_flag(uint64_t *flags, uint64_t flag, bool on)
{
    *flags = on ? *flags | flag : *flags & ~flag;
}

static void set_result_flags(uint64_t *flags, uint64_t result, unsigned size)
{
    set_flag(flags, FLAG_ZF, (result & size_mask(size)) == 0);
    set_flag(flags, FLAG_SF, result >> (8 * size - 1) & 1);
    set_flag(flags, FLAG_PF, !(__builtin_popcount(result & 0xff) & 1));
}

static uint64_t add(uint64_t a, uint64_t b, bool carry, unsigned size, uint64_t *flags)
{
    uint64_t mask = size_mask(size), sum = (a + b + carry) & mask;
    unsigned top = 8 * size - 1;
    set_flag(flags, FLAG_CF, carry ? sum <= (a & mask) : sum < (a & mask));
    set_flag(flags, FLAG_AF, (a ^ b ^ sum) & 0x10);
    set_flag(flags, FLAG_OF, (a ^ sum) & (b ^ sum) & 1UL << top);
    set_result_flags(flags, sum, size);
    return sum;
}

static uint64_t sub(uint64_t a, uint64_t b, bool borrow, unsigned size, uint64_t *flags)
{
    uint64_t mask = size_mask(size), difference = (a - b - borrow) & mask;
    unsigned top = 8 * size - 1;
    set_flag(flags, FLAG_CF, borrow ? (a & mask) <= (b & mask) : (a & mask) < (b & mask));
    set_flag(flags, FLAG_AF, (a ^ b ^ difference) & 0x10);
    set_flag(flags, FLAG_OF, (a ^ b) & (a ^ difference) & 1UL << top);
    set_result_flags(flags, difference, size);
    return difference;
}

static uint64_t logic(uint64_t result, unsigned size, uint64_t *flags)
{
    *flags &= ~(FLAG_CF | FLAG_OF | FLAG_AF);
    set_result_flags(flags, result, size);
    return result & size_mask(size);
}

static uint64_t rotate(enum alu_op op, uint64_t v, unsigned count, unsigned size, uint64_t *flags)
{
    unsigned bits = 8 * size;
    bool left = op == ALU_ROL || op == ALU_RCL, through = op >= ALU_RCL;
    bool carry = *flags & FLAG_CF;
    unsigned n = count % (through ? bits + 1 : bits);
    for (unsigned i = 0; i < n; i++) {
        bool out = left ? v >> (bits - 1) & 1 : v & 1, in = through ? carry : out;
        v = left ? (v << 1 | in) & size_mask(size) : v >> 1 | (uint64_t)in << (bits - 1);
        carry = out;
    }
    bool top = v >> (bits - 1) & 1, below = v >> (bits - 2) & 1;
    if (!through)
        carry = left ? v & 1 : top;
    set_flag(flags, FLAG_CF, carry);
    set_flag(flags, FLAG_OF, left ? top != carry : top != below);
    return v;
}

static uint64_t shift(enum alu_op op, uint64_t v, unsigned count, unsigned size, uint64_t *flags)
{
    unsigned bits = 8 * size;
    bool top = v >> (bits - 1) & 1, carry;
    uint64_t result;
    if (op == ALU_SHR) {
        carry = count <= bits && (v >> (count - 1) & 1);
        result = count < bits ? v >> count : 0;
        set_flag(flags, FLAG_OF, top);
    } else if (op == ALU_SAR) {
        unsigned n = min(count, bits);
        uint64_t wide = sign_extend(v, size);
        carry = (uint64_t)((int64_t)wide >> (n - 1)) & 1;
        result = (uint64_t)((int64_t)wide >> min(n, 63u)) & size_mask(size);
        set_flag(flags, FLAG_OF, false);
    } else {
        carry = count <= bits && (v >> (bits - count) & 1);
        result = count < bits ? v << count & size_mask(size) : 0;
        set_flag(flags, FLAG_OF, carry != (result >> (bits - 1) & 1));
    }
    set_flag(flags, FLAG_CF, carry);
    set_flag(flags, FLAG_AF, false);
    set_result_flags(flags, result, size);
    return result;
}

uint64_t alu(enum alu_op op, uint64_t dst, uint64_t src, unsigned size, uint64_t *flags)
{
    bool carry = *flags & FLAG_CF;
    uint64_t result, bit = 1UL << (src & (8 * size - 1));
    switch (op) {
    case ALU_ADD:
        return add(dst, src, false, size, flags);
    case ALU_ADC:
        return add(dst, src, carry, size, flags);
    case ALU_SUB:
        return sub(dst, src, false, size, flags);
    case ALU_SBB:
        return sub(dst, src, carry, size, flags);
    case ALU_CMP:
        sub(dst, src, false, size, flags);
        return dst;
    case ALU_OR:
        return logic(dst | src, size, flags);
    case ALU_AND:
        return logic(dst & src, size, flags);
    case ALU_XOR:
        return logic(dst ^ src, size, flags);
    case ALU_TEST:
        logic(dst & src, size, flags);
        return dst;
    case ALU_INC:
    case ALU_DEC:
        result = op == ALU_INC ? add(dst, 1, false, size, flags) : sub(dst, 1, false, size, flags);
        set_flag(flags, FLAG_CF, carry);
        return result;
    case ALU_NOT:
        return ~dst & size_mask(size);
    case ALU_NEG:
        return sub(0, dst, false, size, flags);
    case ALU_XCHG:
        return src;
    case ALU_BT:
    case ALU_BTS:
    case ALU_BTR:
    case ALU_BTC:
        set_flag(flags, FLAG_CF, dst & bit);
        if (op == ALU_BT)
            return dst;
        return op == ALU_BTS ? dst | bit : op == ALU_BTR ? dst & ~bit : dst ^ bit;
    case ALU_ROL:
    case ALU_ROR:
    case ALU_RCL:
    case ALU_RCR:
        return src ? rotate(op, dst, src, size, flags) : dst;
    case ALU_SHL:
    case ALU_SHR:
    case ALU_SAL:
    case ALU_SAR:
        return src ? shift(op, dst, src, size, flags) : dst;
    }
    return dst;
}
