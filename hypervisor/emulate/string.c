/*
 * INS, OUTS, MOVS and STOS, one element or a bounded slice of a REP: rcx, rsi and rdi move on with
 * each element, so an exception or the end of a slice leaves a state from which the instruction
 * simply continues (APM vol. 3 section 1.2.6).
 */
#include "emulate/internal.h"

/* Elements per call: a guest cannot keep us here for long. */
#define SLICE 128

bool string_is(const struct insn *in)
{
    if (in->two_byte)
        return false;
    switch (in->opcode) {
    case 0x6c ... 0x6f:
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab:
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
    return reg_read(ctx->regs, n, in->addr32 ? 4 : 8, true);
}

static void advance(struct emulate_ctx *ctx, const struct insn *in, unsigned n, int64_t by)
{
    uint64_t v = address_register(ctx, in, n) + (uint64_t)by;
    reg_write(ctx->regs, n, in->addr32 ? 4 : 8, true, v);
}

static enum emulate_result load(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                uint64_t *v)
{
    uint64_t addr;
    enum emulate_result r = linear_address(ctx, in, in->seg_override ? in->seg : SEG_DS,
                                           address_register(ctx, in, REG_RSI), size, &addr);
    if (r != EMULATE_OK)
        return r;
    *v = 0;
    return ctx->ops->read ? ctx->ops->read(ctx, addr, v, size) : EMULATE_UNHANDLED;
}

static enum emulate_result store(struct emulate_ctx *ctx, const struct insn *in, unsigned size,
                                 uint64_t v)
{
    uint64_t addr;
    enum emulate_result r =
        linear_address(ctx, in, SEG_ES, address_register(ctx, in, REG_RDI), size, &addr);
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->write ? ctx->ops->write(ctx, addr, &v, size) : EMULATE_UNHANDLED;
}

static enum emulate_result element(struct emulate_ctx *ctx, const struct insn *in, unsigned size)
{
    const struct emulate_ops *ops = ctx->ops;
    int64_t step = ctx->regs->rflags & FLAG_DF ? -(int64_t)size : (int64_t)size;
    uint16_t port = (uint16_t)ctx->regs->rdx;
    enum emulate_result r;
    uint64_t v = 0;
    uint32_t io = 0;

    switch (in->opcode) {
    case 0x6c:
    case 0x6d:
        r = ops->io_read ? ops->io_read(ctx, port, size, &io) : EMULATE_UNHANDLED;
        if (r == EMULATE_OK)
            r = store(ctx, in, size, io);
        break;
    case 0x6e:
    case 0x6f:
        r = load(ctx, in, size, &v);
        if (r == EMULATE_OK)
            r = ops->io_write ? ops->io_write(ctx, port, size, (uint32_t)v) : EMULATE_UNHANDLED;
        break;
    case 0xa4:
    case 0xa5:
        r = load(ctx, in, size, &v);
        if (r == EMULATE_OK)
            r = store(ctx, in, size, v);
        break;
    default:
        r = store(ctx, in, size, reg_read(ctx->regs, REG_RAX, size, true));
        break;
    }
    if (r != EMULATE_OK)
        return r;
    if (in->opcode != 0x6e && in->opcode != 0x6f)
        advance(ctx, in, REG_RDI, step);
    if (in->opcode == 0x6e || in->opcode == 0x6f || in->opcode == 0xa4 || in->opcode == 0xa5)
        advance(ctx, in, REG_RSI, step);
    return EMULATE_OK;
}

enum emulate_result string_execute(struct emulate_ctx *ctx, const struct insn *in)
{
    unsigned size = element_size(in);
    if (!in->rep && !in->repne) {
        enum emulate_result r = element(ctx, in, size);
        return r == EMULATE_OK ? insn_done(ctx, in) : r;
    }
    for (unsigned i = 0; i < SLICE; i++) {
        if (address_register(ctx, in, REG_RCX) == 0)
            return insn_done(ctx, in);
        enum emulate_result r = element(ctx, in, size);
        if (r != EMULATE_OK)
            return r;
        advance(ctx, in, REG_RCX, -1);
    }
    return address_register(ctx, in, REG_RCX) == 0 ? insn_done(ctx, in) : EMULATE_RETRY;
}
