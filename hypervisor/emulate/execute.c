/*
 * Executes one decoded instruction: moves and read-modify-write on registers and memory here,
 * privileged ones and strings in their own files.
 *
 * Registers and flags change only after every effect on memory has succeeded. Changes of memory go
 * through the cmpxchg effect where the caller has one, locked or not, so a change made by another
 * vCPU in between is never lost; with LOCK there has to be one.
 */
#include "emulate/internal.h"

/* Another vCPU that keeps changing the same word makes us start over, not spin. */
#define CMPXCHG_TRIES 16

static bool has_rex(const struct insn *in)
{
    return in->rex != 0;
}

static uint64_t read_reg(struct emulate_ctx *ctx, const struct insn *in)
{
    return reg_read(ctx->regs, in->reg, in->size, has_rex(in));
}

static void write_reg(struct emulate_ctx *ctx, const struct insn *in, uint64_t v)
{
    reg_write(ctx->regs, in->reg, in->size, has_rex(in), v);
}

/* The ModRM operand, @size bytes. */
static enum emulate_result read_rm(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                   uint64_t *v)
{
    uint64_t addr;
    *v = 0;
    if (!in->is_mem) {
        *v = reg_read(ctx->regs, in->rm, size, has_rex(in));
        return EMULATE_OK;
    }
    enum emulate_result r = linear_address(ctx, in->seg, in->ea, size, false, &addr);
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->read ? ctx->ops->read(ctx, addr, v, size) : EMULATE_UNHANDLED;
}

static enum emulate_result write_rm(struct emulate_ctx *ctx, const struct insn *in, uint64_t v)
{
    uint64_t addr;
    if (!in->is_mem) {
        reg_write(ctx->regs, in->rm, in->size, has_rex(in), v);
        return EMULATE_OK;
    }
    enum emulate_result r = linear_address(ctx, in->seg, in->ea, in->size, true, &addr);
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->write ? ctx->ops->write(ctx, addr, &v, in->size) : EMULATE_UNHANDLED;
}

/* Instructions that LOCK may precede when their destination is memory (APM vol. 3 section 1.2.5);
 * MOV CR0 outside 64-bit code is another one then. */
static bool is_lockable(const struct emulate_ctx *ctx, const struct insn *in)
{
    unsigned digit = in->reg & 7;
    if (in->two_byte && (in->opcode == 0x20 || in->opcode == 0x22))
        return ctx->code != EMULATE_CODE64 && in->reg == 0;
    if (!in->is_mem)
        return false;
    if (in->two_byte)
        switch (in->opcode) {
        case 0xab:
        case 0xb3:
        case 0xbb:
        case 0xb0:
        case 0xb1:
        case 0xc0:
        case 0xc1:
            return true;
        case 0xba:
            return digit > 4;
        case 0xc7:
            return digit == 1;
        default:
            return false;
        }
    if (in->opcode < 0x40)
        return (in->opcode & 7) < 2 && in->opcode >> 3 != ALU_CMP;
    switch (in->opcode) {
    case 0x80:
    case 0x81:
    case 0x83:
        return digit != ALU_CMP;
    case 0x86:
    case 0x87:
        return true;
    case 0xf6:
    case 0xf7:
        return digit == 2 || digit == 3;
    case 0xfe:
    case 0xff:
        return digit < 2;
    default:
        return false;
    }
}

static bool is_read_only(enum alu_op op)
{
    return op == ALU_CMP || op == ALU_TEST || op == ALU_BT;
}

/* Memory at @addr becomes alu(op, it, @src); *flags and *old as that was done. */
static enum emulate_result modify_memory(struct emulate_ctx *ctx, const struct insn *in,
                                         enum alu_op op, uint64_t addr, uint64_t src,
                                         uint64_t *flags, uint64_t *old)
{
    const struct emulate_ops *ops = ctx->ops;
    uint64_t before = *flags;
    if (!ops->read)
        return EMULATE_UNHANDLED;
    *old = 0;
    enum emulate_result r = ops->read(ctx, addr, old, in->size);
    for (unsigned i = 0; r == EMULATE_OK && i < CMPXCHG_TRIES; i++) {
        *flags = before;
        uint64_t new = alu(op, *old, src, in->size, flags), expected = *old;
        if (is_read_only(op))
            return EMULATE_OK;
        if (!ops->cmpxchg)
            return ops->write && !in->lock ? ops->write(ctx, addr, &new, in->size)
                                           : EMULATE_UNHANDLED;
        r = ops->cmpxchg(ctx, addr, &expected, &new, in->size);
        if (r != EMULATE_OK || expected == *old)
            return r;
        *old = expected;
    }
    return r == EMULATE_OK ? EMULATE_RETRY : r;
}

/* The ModRM operand becomes alu(op, it, @src); its old value goes to *old_out when wanted. */
static enum emulate_result modify_rm(struct emulate_ctx *ctx, const struct insn *in, enum alu_op op,
                                     uint64_t src, uint64_t *old_out)
{
    uint64_t flags = ctx->regs->rflags, addr, old;
    if (in->is_mem) {
        enum emulate_result r =
            linear_address(ctx, in->seg, in->ea, in->size, !is_read_only(op), &addr);
        if (r == EMULATE_OK)
            r = modify_memory(ctx, in, op, addr, src, &flags, &old);
        if (r != EMULATE_OK)
            return r;
    } else {
        old = reg_read(ctx->regs, in->rm, in->size, has_rex(in));
        uint64_t new = alu(op, old, src, in->size, &flags);
        if (!is_read_only(op))
            reg_write(ctx->regs, in->rm, in->size, has_rex(in), new);
    }
    ctx->regs->rflags = flags;
    if (old_out)
        *old_out = old;
    return EMULATE_OK;
}

static enum emulate_result arithmetic(struct emulate_ctx *ctx, const struct insn *in)
{
    enum alu_op op = in->opcode >> 3;
    uint64_t flags = ctx->regs->rflags, src, result;
    switch (in->opcode & 7) {
    case 0:
    case 1:
        return modify_rm(ctx, in, op, read_reg(ctx, in), NULL);
    case 2:
    case 3: {
        enum emulate_result r = read_rm(ctx, in, in->size, &src);
        if (r != EMULATE_OK)
            return r;
        result = alu(op, read_reg(ctx, in), src, in->size, &flags);
        if (!is_read_only(op))
            write_reg(ctx, in, result);
        break;
    }
    default: /* the accumulator and an immediate */
        result = alu(op, reg_read(ctx->regs, REG_RAX, in->size, true), in->imm, in->size, &flags);
        if (!is_read_only(op))
            reg_write(ctx->regs, REG_RAX, in->size, true, result);
        break;
    }
    ctx->regs->rflags = flags;
    return EMULATE_OK;
}

/*
 * BT and its kin with the bit number in a register reach memory beyond the operand: the number is
 * signed and counts from the address given (APM vol. 3, BT).
 */
static enum emulate_result bit_operation(struct emulate_ctx *ctx, const struct insn *in,
                                         enum alu_op op)
{
    struct insn there = *in;
    int64_t bit = (int64_t)sign_extend(read_reg(ctx, in), in->size);
    if (in->is_mem) {
        int64_t operand = bit >> (in->size == 8 ? 6 : in->size == 4 ? 5 : 4);
        there.ea += (uint64_t)operand * in->size;
        there.ea &= size_mask(in->address);
    }
    return modify_rm(ctx, &there, op, (uint64_t)bit, NULL);
}

static enum emulate_result xadd(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t old, src = read_reg(ctx, in);
    if (!in->is_mem) { /* both registers change, and may be the same one */
        uint64_t flags = ctx->regs->rflags;
        old = reg_read(ctx->regs, in->rm, in->size, has_rex(in));
        uint64_t sum = alu(ALU_ADD, old, src, in->size, &flags);
        write_reg(ctx, in, old);
        reg_write(ctx->regs, in->rm, in->size, has_rex(in), sum);
        ctx->regs->rflags = flags;
        return EMULATE_OK;
    }
    enum emulate_result r = modify_rm(ctx, in, ALU_ADD, src, &old);
    if (r == EMULATE_OK)
        write_reg(ctx, in, old);
    return r;
}

static enum emulate_result xchg(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t old, src = read_reg(ctx, in);
    enum emulate_result r = modify_rm(ctx, in, ALU_XCHG, src, &old);
    if (r == EMULATE_OK)
        write_reg(ctx, in, old);
    return r;
}

/* One attempt on memory that held *old; true in *done when it was replaced by @new. */
static enum emulate_result replace(struct emulate_ctx *ctx, const struct insn *in, uint64_t addr,
                                   const void *old, const void *new, void *seen, unsigned n,
                                   bool *done)
{
    __builtin_memcpy(seen, old, n);
    enum emulate_result r =
        ctx->ops->cmpxchg ? ctx->ops->cmpxchg(ctx, addr, seen, new, n) : EMULATE_UNHANDLED;
    *done = r == EMULATE_OK && __builtin_memcmp(seen, old, n) == 0;
    return r;
}

static enum emulate_result cmpxchg(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t flags = ctx->regs->rflags, addr, seen = 0, new = read_reg(ctx, in);
    uint64_t expected = reg_read(ctx->regs, REG_RAX, in->size, true);
    if (in->is_mem) {
        bool done;
        enum emulate_result r = linear_address(ctx, in->seg, in->ea, in->size, true, &addr);
        if (r == EMULATE_OK)
            r = replace(ctx, in, addr, &expected, &new, &seen, in->size, &done);
        if (r != EMULATE_OK)
            return r;
    } else {
        seen = reg_read(ctx->regs, in->rm, in->size, has_rex(in));
        if (seen == expected)
            reg_write(ctx->regs, in->rm, in->size, has_rex(in), new);
    }
    alu(ALU_CMP, expected, seen, in->size, &flags);
    if (seen != expected)
        reg_write(ctx->regs, REG_RAX, in->size, true, seen);
    ctx->regs->rflags = flags;
    return EMULATE_OK;
}

/* CMPXCHG8B, and with REX.W CMPXCHG16B, which wants its operand aligned. */
static enum emulate_result cmpxchg_wide(struct emulate_ctx *ctx, const struct insn *in)
{
    struct cpu_user_regs *regs = ctx->regs;
    unsigned n = in->size == 8 ? 16 : 8, half = n / 2;
    uint8_t old[16], new[16], seen[16];
    uint64_t addr;
    bool done;

    enum emulate_result r = linear_address(ctx, in->seg, in->ea, n, true, &addr);
    if (r != EMULATE_OK)
        return r;
    if (n == 16 && addr % 16)
        return emulate_raise(ctx, VECTOR_GP, 0);
    __builtin_memcpy(old, &regs->rax, half);
    __builtin_memcpy(old + half, &regs->rdx, half);
    __builtin_memcpy(new, &regs->rbx, half);
    __builtin_memcpy(new + half, &regs->rcx, half);
    r = replace(ctx, in, addr, old, new, seen, n, &done);
    if (r != EMULATE_OK)
        return r;
    if (done) {
        regs->rflags |= FLAG_ZF;
    } else {
        uint64_t low = 0, high = 0;
        __builtin_memcpy(&low, seen, half);
        __builtin_memcpy(&high, seen + half, half);
        regs->rflags &= ~FLAG_ZF;
        regs->rax = low;
        regs->rdx = high;
    }
    return EMULATE_OK;
}

/* A register from the ModRM operand of @size bytes, zero- or sign-extended. */
static enum emulate_result extend(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                  bool is_signed)
{
    uint64_t v;
    enum emulate_result r = read_rm(ctx, in, size, &v);
    if (r == EMULATE_OK)
        write_reg(ctx, in, is_signed ? sign_extend(v, size) : v);
    return r;
}

static enum emulate_result accumulator_move(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t v;
    if (in->opcode >= 0xa2)
        return write_rm(ctx, in, reg_read(ctx->regs, REG_RAX, in->size, true));
    enum emulate_result r = read_rm(ctx, in, in->size, &v);
    if (r == EMULATE_OK)
        reg_write(ctx->regs, REG_RAX, in->size, true, v);
    return r;
}

/* Conditions by number, the low four bits of the opcode (APM vol. 3 table A-5). */
static bool condition(uint64_t flags, unsigned number)
{
    bool less = !(flags & FLAG_SF) != !(flags & FLAG_OF), is;
    switch (number >> 1 & 7) {
    case 0:
        is = flags & FLAG_OF;
        break;
    case 1:
        is = flags & FLAG_CF;
        break;
    case 2:
        is = flags & FLAG_ZF;
        break;
    case 3:
        is = flags & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        is = flags & FLAG_SF;
        break;
    case 5:
        is = flags & FLAG_PF;
        break;
    case 6:
        is = less;
        break;
    default:
        is = less || (flags & FLAG_ZF);
        break;
    }
    return is != (number & 1);
}

/* CMOV reads its operand in any case; of four bytes it clears the upper half in any case. */
static enum emulate_result move_if(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t v;
    enum emulate_result r = read_rm(ctx, in, in->size, &v);
    if (r == EMULATE_OK)
        write_reg(ctx, in, condition(ctx->regs->rflags, in->opcode) ? v : read_reg(ctx, in));
    return r;
}

/* Shifts and rotations; the count has five bits, or six for operands of eight bytes. */
static enum emulate_result shift(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t count = in->opcode < 0xd0 ? in->imm : in->opcode < 0xd2 ? 1 : ctx->regs->rcx;
    return modify_rm(ctx, in, ALU_ROL + (in->reg & 7), count & (in->size == 8 ? 63 : 31), NULL);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: caches are coherent. The others of the group are not for memory that
 * would bring them here. */
static enum emulate_result flush_line(struct emulate_ctx *ctx, const struct insn *in)
{
    bool flush = (in->reg & 7) == 7 || ((in->reg & 7) == 6 && in->operand16);
    uint64_t addr;
    if (!in->is_mem || !flush)
        return EMULATE_UNHANDLED;
    return linear_address(ctx, in->seg, in->ea, 1, false, &addr);
}

static enum emulate_result execute_two_byte(struct emulate_ctx *ctx, const struct insn *in)
{
    static const enum alu_op bits[4] = {ALU_BT, ALU_BTS, ALU_BTR, ALU_BTC};
    switch (in->opcode) {
    case 0x40 ... 0x4f:
        return move_if(ctx, in);
    case 0x90 ... 0x9f:
        return write_rm(ctx, in, condition(ctx->regs->rflags, in->opcode));
    case 0xae:
        return flush_line(ctx, in);
    case 0xa3:
    case 0xab:
    case 0xb3:
    case 0xbb:
        return bit_operation(ctx, in, bits[in->opcode >> 3 & 3]);
    case 0xba:
        if ((in->reg & 7) < 4)
            return EMULATE_UNHANDLED;
        return modify_rm(ctx, in, bits[in->reg & 3], in->imm, NULL);
    case 0xb0:
    case 0xb1:
        return cmpxchg(ctx, in);
    case 0xb6:
    case 0xb7:
        return extend(ctx, in, in->opcode == 0xb6 ? 1 : 2, false);
    case 0xbe:
    case 0xbf:
        return extend(ctx, in, in->opcode == 0xbe ? 1 : 2, true);
    case 0xc0:
    case 0xc1:
        return xadd(ctx, in);
    case 0xc3: /* movnti: memory only, no 16-bit form */
        if (!in->is_mem || in->size == 2)
            return EMULATE_UNHANDLED;
        return write_rm(ctx, in, read_reg(ctx, in));
    case 0xc7:
        if ((in->reg & 7) != 1 || !in->is_mem)
            return EMULATE_UNHANDLED;
        return cmpxchg_wide(ctx, in);
    default:
        return EMULATE_UNHANDLED;
    }
}

/* Opcodes 0xf6, 0xf7, 0xfe and 0xff: one operand. */
static enum emulate_result unary(struct emulate_ctx *ctx, const struct insn *in)
{
    unsigned digit = in->reg & 7;
    if (in->opcode >= 0xfe)
        return digit > 1 ? EMULATE_UNHANDLED
                         : modify_rm(ctx, in, digit ? ALU_DEC : ALU_INC, 0, NULL);
    switch (digit) {
    case 0:
    case 1:
        return modify_rm(ctx, in, ALU_TEST, in->imm, NULL);
    case 2:
        return modify_rm(ctx, in, ALU_NOT, 0, NULL);
    case 3:
        return modify_rm(ctx, in, ALU_NEG, 0, NULL);
    default:
        return EMULATE_UNHANDLED;
    }
}

static enum emulate_result execute_one_byte(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t v, flags = ctx->regs->rflags;
    enum emulate_result r;
    if (in->opcode < 0x40)
        return arithmetic(ctx, in);
    switch (in->opcode) {
    case 0x63:
        return extend(ctx, in, in->size < 4 ? in->size : 4, true);
    case 0x80:
    case 0x81:
    case 0x83:
        return modify_rm(ctx, in, in->reg & 7, in->imm, NULL);
    case 0x84:
    case 0x85:
        return modify_rm(ctx, in, ALU_TEST, read_reg(ctx, in), NULL);
    case 0x86:
    case 0x87:
        return xchg(ctx, in);
    case 0x88:
    case 0x89:
        return write_rm(ctx, in, read_reg(ctx, in));
    case 0x8a:
    case 0x8b:
        r = read_rm(ctx, in, in->size, &v);
        if (r == EMULATE_OK)
            write_reg(ctx, in, v);
        return r;
    case 0xa0 ... 0xa3:
        return accumulator_move(ctx, in);
    case 0xa8:
    case 0xa9:
        alu(ALU_TEST, reg_read(ctx->regs, REG_RAX, in->size, true), in->imm, in->size, &flags);
        ctx->regs->rflags = flags;
        return EMULATE_OK;
    case 0xc0:
    case 0xc1:
    case 0xd0 ... 0xd3:
        return shift(ctx, in);
    case 0xc6:
    case 0xc7:
        return in->reg & 7 ? EMULATE_UNHANDLED : write_rm(ctx, in, in->imm);
    case 0xf6:
    case 0xf7:
    case 0xfe:
    case 0xff:
        return unary(ctx, in);
    default:
        return EMULATE_UNHANDLED;
    }
}

enum emulate_result emulate_one(struct emulate_ctx *ctx)
{
    struct insn in;
    enum emulate_result r = insn_decode(ctx, &in);
    if (r != EMULATE_OK)
        return r;

    bool privileged = privileged_is(&in);
    if (!(ctx->allow & (privileged ? EMULATE_PRIVILEGED : EMULATE_MEMORY)))
        return EMULATE_UNHANDLED;
    if (in.lock && !is_lockable(ctx, &in))
        return emulate_raise(ctx, VECTOR_UD, 0);
    if (string_is(&in))
        return string_execute(ctx, &in);
    if (privileged)
        r = privileged_execute(ctx, &in);
    else if (in.is_vector)
        r = vector_execute(ctx, &in);
    else
        r = in.two_byte ? execute_two_byte(ctx, &in) : execute_one_byte(ctx, &in);
    return r == EMULATE_OK ? insn_done(ctx, &in) : r;
}
