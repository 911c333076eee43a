/*
 * Instructions that only the most privileged level has, or that reach ports. The emulator checks
 * the level that the guest believes to have (ctx->cpl) where the instruction itself asks for level
 * 0; what a port, register or MSR gives is up to the effects.
 */
#include "emulate/internal.h"

bool privileged_is(const struct insn *in)
{
    if (!in->two_byte)
        return (in->opcode >= 0x6c && in->opcode <= 0x6f) ||
               (in->opcode >= 0xe4 && in->opcode <= 0xef) || in->opcode == 0xfa ||
               in->opcode == 0xfb;
    switch (in->opcode) {
    case 0x01:
    case 0x06:
    case 0x09:
    case 0x20 ... 0x23:
    case 0x30 ... 0x32:
    case 0xa2:
        return true;
    default:
        return false;
    }
}

static void set_pair(struct cpu_user_regs *regs, uint64_t v)
{
    regs->rax = (uint32_t)v;
    regs->rdx = v >> 32;
}

static uint64_t get_pair(const struct cpu_user_regs *regs)
{
    return (uint64_t)regs->edx << 32 | regs->eax;
}

/* IN and OUT; the port is an immediate byte or in dx. */
static enum emulate_result port(struct emulate_ctx *ctx, const struct insn *in)
{
    const struct emulate_ops *ops = ctx->ops;
    unsigned size = in->size == 8 ? 4 : in->size;
    uint16_t number = in->opcode < 0xe8 ? (uint8_t)in->imm : (uint16_t)ctx->regs->rdx;
    bool is_out = in->opcode & 2;
    uint32_t v = 0;
    if (is_out)
        return ops->io_write ? ops->io_write(ctx, number, size,
                                             (uint32_t)reg_read(ctx->regs, REG_RAX, size, true))
                             : EMULATE_UNHANDLED;
    enum emulate_result r = ops->io_read ? ops->io_read(ctx, number, size, &v) : EMULATE_UNHANDLED;
    if (r == EMULATE_OK)
        reg_write(ctx->regs, REG_RAX, size, true, v);
    return r;
}

/* The size of control and debug registers as instructions move them. */
static unsigned wide_size(const struct emulate_ctx *ctx)
{
    return ctx->code == EMULATE_CODE64 ? 8 : 4;
}

/* Where there is no REX, LOCK before CR0 means CR8 (APM vol. 3, MOV CRn). */
static enum emulate_result control_register(struct emulate_ctx *ctx, const struct insn *in)
{
    const struct emulate_ops *ops = ctx->ops;
    unsigned number = in->lock ? 8 : in->reg, size = wide_size(ctx);
    uint64_t v = reg_read(ctx->regs, in->rm, size, true);
    if (number == 1 || number > 8 || (number > 4 && number < 8))
        return emulate_raise(ctx, VECTOR_UD, 0);
    if (in->opcode == 0x22)
        return ops->write_cr ? ops->write_cr(ctx, number, v) : EMULATE_UNHANDLED;
    enum emulate_result r = ops->read_cr ? ops->read_cr(ctx, number, &v) : EMULATE_UNHANDLED;
    if (r == EMULATE_OK)
        reg_write(ctx->regs, in->rm, size, true, v);
    return r;
}

static enum emulate_result debug_register(struct emulate_ctx *ctx, const struct insn *in)
{
    const struct emulate_ops *ops = ctx->ops;
    unsigned size = wide_size(ctx);
    uint64_t v = reg_read(ctx->regs, in->rm, size, true);
    if (in->reg > 7)
        return emulate_raise(ctx, VECTOR_UD, 0);
    if (in->opcode == 0x23)
        return ops->write_dr ? ops->write_dr(ctx, in->reg, v) : EMULATE_UNHANDLED;
    enum emulate_result r = ops->read_dr ? ops->read_dr(ctx, in->reg, &v) : EMULATE_UNHANDLED;
    if (r == EMULATE_OK)
        reg_write(ctx->regs, in->rm, size, true, v);
    return r;
}

static enum emulate_result msr(struct emulate_ctx *ctx, const struct insn *in)
{
    const struct emulate_ops *ops = ctx->ops;
    uint32_t number = ctx->regs->ecx;
    uint64_t v;
    if (in->opcode == 0x30)
        return ops->write_msr ? ops->write_msr(ctx, number, get_pair(ctx->regs))
                              : EMULATE_UNHANDLED;
    enum emulate_result r = ops->read_msr ? ops->read_msr(ctx, number, &v) : EMULATE_UNHANDLED;
    if (r == EMULATE_OK)
        set_pair(ctx->regs, v);
    return r;
}

static enum emulate_result clts(struct emulate_ctx *ctx)
{
    const uint64_t ts = 1UL << 3;
    uint64_t cr0;
    if (!ctx->ops->read_cr || !ctx->ops->write_cr)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->read_cr(ctx, 0, &cr0);
    return r == EMULATE_OK ? ctx->ops->write_cr(ctx, 0, cr0 & ~ts) : r;
}

static enum emulate_result cpuid_leaf(struct emulate_ctx *ctx)
{
    struct cpu_user_regs *regs = ctx->regs;
    uint32_t out[4];
    if (!ctx->ops->cpuid)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->cpuid(ctx, regs->eax, regs->ecx, out);
    if (r != EMULATE_OK)
        return r;
    regs->rax = out[0];
    regs->rbx = out[1];
    regs->rcx = out[2];
    regs->rdx = out[3];
    return EMULATE_OK;
}

static enum emulate_result time_stamp(struct emulate_ctx *ctx, bool with_aux)
{
    uint64_t tsc;
    uint32_t aux = 0;
    if (!ctx->ops->rdtsc)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->rdtsc(ctx, &tsc, &aux);
    if (r != EMULATE_OK)
        return r;
    set_pair(ctx->regs, tsc);
    if (with_aux)
        ctx->regs->rcx = aux;
    return EMULATE_OK;
}

static bool is_rdtscp(const struct insn *in)
{
    return in->opcode == 0x01 && in->mod == 3 && (in->reg & 7) == 7 && (in->rm & 7) == 1;
}

/* Opcode 0f 01: INVLPG with a memory operand; with registers each ModRM is its own instruction. */
static enum emulate_result group_0f01(struct emulate_ctx *ctx, const struct insn *in)
{
    uint64_t addr;
    if (in->is_mem && (in->reg & 7) == 7) {
        enum emulate_result r = linear_address(ctx, in->seg, in->ea, 1, false, &addr);
        if (r != EMULATE_OK) /* a non-canonical address flushes nothing (APM vol. 3, INVLPG) */
            return r == EMULATE_EXCEPTION ? EMULATE_OK : r;
        return ctx->ops->invlpg ? ctx->ops->invlpg(ctx, addr) : EMULATE_UNHANDLED;
    }
    if (in->mod == 3 && (in->reg & 7) == 2 && (in->rm & 7) == 1)
        return ctx->ops->xsetbv ? ctx->ops->xsetbv(ctx, ctx->regs->ecx, get_pair(ctx->regs))
                                : EMULATE_UNHANDLED;
    return EMULATE_UNHANDLED;
}

enum emulate_result privileged_execute(struct emulate_ctx *ctx, const struct insn *in)
{
    if (!in->two_byte && in->opcode >= 0xfa) /* by I/O privilege level, which the effect knows */
        return ctx->ops->set_if ? ctx->ops->set_if(ctx, in->opcode & 1) : EMULATE_UNHANDLED;
    if (!in->two_byte)
        return port(ctx, in);
    if (in->opcode == 0xa2)
        return cpuid_leaf(ctx);
    if (in->opcode == 0x31 || is_rdtscp(in))
        return time_stamp(ctx, in->opcode != 0x31);
    if (ctx->cpl != 0)
        return emulate_raise(ctx, VECTOR_GP, 0);
    switch (in->opcode) {
    case 0x01:
        return group_0f01(ctx, in);
    case 0x06:
        return clts(ctx);
    case 0x09:
        return ctx->ops->wbinvd ? ctx->ops->wbinvd(ctx) : EMULATE_UNHANDLED;
    case 0x20:
    case 0x22:
        return control_register(ctx, in);
    case 0x21:
    case 0x23:
        return debug_register(ctx, in);
    default:
        return msr(ctx, in);
    }
}
