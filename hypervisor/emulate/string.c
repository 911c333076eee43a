/*
 * INS, OUTS, MOVS, CMPS, STOS, LODS and SCAS, one element or a bounded slice of a REP: rcx, rsi and
 * rdi move on with each element, so an exception or the end of a slice leaves a state from which
 * the instruction simply continues (APM vol. 3 section 1.2.6).
 */
#include "emulate/internal.h"

/* Elements per call: a guest cannot keep us here for long. */
#define SLICE 128

/* Opcodes without their lowest bit, which is the size. */
#define INS  0x6c
#define OUTS 0x6e
#define MOVS 0xa4
#define CMPS 0xa6
#define STOS 0xaa
#define LODS 0xac
#define SCAS 0xae

static unsigned kind(const struct insn *in)
{
    return in->opcode & ~1u;
}

bool string_is(const struct insn *in)
{
    if (in->two_byte)
        return false;
    switch (kind(in)) {
    case INS:
    case OUTS:
    case MOVS:
    case CMPS:
    case STOS:
    case LODS:
    case SCAS:
        return true;
    default:
        return false;
    }
}

/* Ports have no operands of eight bytes. */
static unsigned element_size(const struct insn *in)
{
    return in->opcode < 0x70 && in->size == 8 ? 4 : in->size;
}

static uint64_t address_register(struct emulate_ctx *ctx, const struct insn *in, unsigned n)
{
    return reg_read(ctx->regs, n, in->address, true);
}

static void advance(struct emulate_ctx *ctx, const struct insn *in, unsigned n, int64_t by)
{
    uint64_t v = address_register(ctx, in, n) + (uint64_t)by;
    reg_write(ctx->regs, n, in->address, true, v);
}

static enum emulate_result load(struct emulate_ctx *ctx, const struct insn *in,
                                enum emulate_seg seg, unsigned reg, unsigned size, uint64_t *v)
{
    uint64_t addr;
    enum emulate_result r =
        linear_address(ctx, seg, address_register(ctx, in, reg), size, false, &addr);
    *v = 0;
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->read ? ctx->ops->read(ctx, addr, v, size) : EMULATE_UNHANDLED;
}

/* The element at rsi, which may have another segment; the one at rdi is always in ES. */
static enum emulate_result source(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                  uint64_t *v)
{
    return load(ctx, in, in->seg, REG_RSI, size, v);
}

static enum emulate_result target(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                  uint64_t *v)
{
    return load(ctx, in, SEG_ES, REG_RDI, size, v);
}

static enum emulate_result store(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                 uint64_t v)
{
    uint64_t addr;
    enum emulate_result r =
        linear_address(ctx, SEG_ES, address_register(ctx, in, REG_RDI), size, true, &addr);
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->write ? ctx->ops->write(ctx, addr, &v, size) : EMULATE_UNHANDLED;
}

static enum emulate_result port_in(struct emulate_ctx *ctx, const struct insn *in, unsigned size)
{
    uint32_t v = 0;
    if (!ctx->ops->io_read)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->io_read(ctx, (uint16_t)ctx->regs->rdx, size, &v);
    return r == EMULATE_OK ? store(ctx, in, size, v) : r;
}

static enum emulate_result port_out(struct emulate_ctx *ctx, const struct insn *in, unsigned size)
{
    uint64_t v;
    enum emulate_result r = source(ctx, in, size, &v);
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->io_write ? ctx->ops->io_write(ctx, (uint16_t)ctx->regs->rdx, size, (uint32_t)v)
                              : EMULATE_UNHANDLED;
}

static enum emulate_result compare(struct emulate_ctx *ctx, const struct insn *in, unsigned size)
{
    uint64_t first = reg_read(ctx->regs, REG_RAX, size, true), second;
    enum emulate_result r = kind(in) == CMPS ? source(ctx, in, size, &first) : EMULATE_OK;
    if (r == EMULATE_OK)
        r = target(ctx, in, size, &second);
    if (r == EMULATE_OK)
        alu(ALU_CMP, first, second, size, &ctx->regs->rflags);
    return r;
}

static enum emulate_result element(struct emulate_ctx *ctx, const struct insn *in, unsigned size)
{
    int64_t step = ctx->regs->rflags & FLAG_DF ? -(int64_t)size : (int64_t)size;
    enum emulate_result r;
    uint64_t v;

    switch (kind(in)) {
    case INS:
        r = port_in(ctx, in, size);
        break;
    case OUTS:
        r = port_out(ctx, in, size);
        break;
    case MOVS:
        r = source(ctx, in, size, &v);
        if (r == EMULATE_OK)
            r = store(ctx, in, size, v);
        break;
    case LODS:
        r = source(ctx, in, size, &v);
        if (r == EMULATE_OK)
            reg_write(ctx->regs, REG_RAX, size, true, v);
        break;
    case STOS:
        r = store(ctx, in, size, reg_read(ctx->regs, REG_RAX, size, true));
        break;
    default:
        r = compare(ctx, in, size);
        break;
    }
    if (r != EMULATE_OK)
        return r;
    if (kind(in) != OUTS && kind(in) != LODS)
        advance(ctx, in, REG_RDI, step);
    if (kind(in) == OUTS || kind(in) == MOVS || kind(in) == LODS || kind(in) == CMPS)
        advance(ctx, in, REG_RSI, step);
    return EMULATE_OK;
}

/* Comparisons end by what they find: REPE when it differs, REPNE when it is equal. */
static bool found(const struct emulate_ctx *ctx, const struct insn *in)
{
    bool equal = ctx->regs->rflags & FLAG_ZF;
    return (kind(in) == CMPS || kind(in) == SCAS) && equal == in->repne;
}

/*
 * How many of the elements that are left lie one behind the other from linear *addr on, on one page
 * and good to access; 0: none, or one must be tried alone to find out.
 */
static uint64_t contiguous(struct emulate_ctx *ctx, const struct insn *in, bool to, unsigned size,
                           uint64_t *addr)
{
    enum emulate_seg seg = to ? SEG_ES : in->seg;
    uint64_t offset = address_register(ctx, in, to ? REG_RDI : REG_RSI);
    uint64_t n = address_register(ctx, in, REG_RCX), again;
    if ((ctx->regs->rflags & FLAG_DF) ||
        linear_address(ctx, seg, offset, size, to, addr) != EMULATE_OK)
        return 0;
    n = min(n, (PAGE_SIZE - *addr % PAGE_SIZE) / size);
    n = min(n, (size_mask(in->address) - offset) / size); /* the register does not wrap */
    if (n < 2 || linear_address(ctx, seg, offset, n * size, to, &again) != EMULATE_OK)
        return 0;
    return n;
}

/*
 * Many elements of a repeated INS, OUTS, MOVS or STOS in one step, if there is an effect for that;
 * *done: how many, 0 if it cannot be.
 */
static enum emulate_result block(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                 unsigned *done)
{
    const struct emulate_ops *ops = ctx->ops;
    unsigned k = kind(in);
    bool port = k == INS || k == OUTS, writes = k != OUTS, reads = k == OUTS || k == MOVS;
    uint64_t to, from, n = ~0UL;
    enum emulate_result r;

    *done = 0;
    if (port ? !ops->io_block : !ops->mem_block || (k != MOVS && k != STOS))
        return EMULATE_OK;
    if (reads)
        n = contiguous(ctx, in, false, size, &from);
    if (n && writes)
        n = min(n, contiguous(ctx, in, true, size, &to));
    if (!n)
        return EMULATE_OK;
    *done = (unsigned)n;
    if (port)
        r = ops->io_block(ctx, (uint16_t)ctx->regs->rdx, size, k == INS, reads ? from : to, done);
    else
        r = ops->mem_block(ctx, to, reads ? &from : NULL, ctx->regs->rax & size_mask(size), size,
                           done);
    if (r != EMULATE_OK)
        return r;
    if (writes)
        advance(ctx, in, REG_RDI, (int64_t)size * *done);
    if (reads)
        advance(ctx, in, REG_RSI, (int64_t)size * *done);
    advance(ctx, in, REG_RCX, -(int64_t)*done);
    return EMULATE_OK;
}

enum emulate_result string_execute(struct emulate_ctx *ctx, const struct insn *in)
{
    unsigned size = element_size(in), done;
    if (!in->rep && !in->repne) {
        enum emulate_result r = element(ctx, in, size);
        return r == EMULATE_OK ? insn_done(ctx, in) : r;
    }
    enum emulate_result whole = block(ctx, in, size, &done);
    if (whole != EMULATE_OK)
        return whole;
    for (unsigned i = 0; !done && i < SLICE; i++) {
        if (address_register(ctx, in, REG_RCX) == 0)
            return insn_done(ctx, in);
        enum emulate_result r = element(ctx, in, size);
        if (r != EMULATE_OK)
            return r;
        advance(ctx, in, REG_RCX, -1);
        if (found(ctx, in))
            return insn_done(ctx, in);
    }
    return address_register(ctx, in, REG_RCX) == 0 ? insn_done(ctx, in) : EMULATE_RETRY;
}
