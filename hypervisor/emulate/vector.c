/*
 * Moves between XMM registers and memory, as programs use them to fill and copy the memory of
 * displays (APM vol. 4). Nothing is computed; the wide AVX forms are not here. The mandatory prefix
 * belongs to the opcode.
 */
#include "emulate/internal.h"

#define STORE   1u
#define ALIGNED 2u
#define HIGH    4u  /* the upper eight bytes; the rest of the register stays */
#define LOW     8u  /* the lower eight bytes; the rest of the register stays */
#define GENERAL 16u /* of four bytes, or eight with REX.W */

static const struct form {
    uint8_t opcode;
    uint8_t prefix; /* 0, 0x66, 0xf3, 0xf2 */
    uint8_t bytes, flags;
} forms[] = {
    {0x10, 0, 16, 0},
    {0x10, 0x66, 16, 0},
    {0x10, 0xf3, 4, 0},
    {0x10, 0xf2, 8, 0},
    {0x11, 0, 16, STORE},
    {0x11, 0x66, 16, STORE},
    {0x11, 0xf3, 4, STORE},
    {0x11, 0xf2, 8, STORE},
    {0x12, 0, 8, LOW},
    {0x12, 0x66, 8, LOW},
    {0x13, 0, 8, LOW | STORE},
    {0x13, 0x66, 8, LOW | STORE},
    {0x16, 0, 8, HIGH},
    {0x16, 0x66, 8, HIGH},
    {0x17, 0, 8, HIGH | STORE},
    {0x17, 0x66, 8, HIGH | STORE},
    {0x28, 0, 16, ALIGNED},
    {0x28, 0x66, 16, ALIGNED},
    {0x29, 0, 16, ALIGNED | STORE},
    {0x29, 0x66, 16, ALIGNED | STORE},
    {0x2b, 0, 16, ALIGNED | STORE},
    {0x2b, 0x66, 16, ALIGNED | STORE},
    {0x6e, 0x66, 4, GENERAL},
    {0x6f, 0x66, 16, ALIGNED},
    {0x6f, 0xf3, 16, 0},
    {0x7e, 0x66, 4, GENERAL | STORE},
    {0x7e, 0xf3, 8, 0},
    {0x7f, 0x66, 16, ALIGNED | STORE},
    {0x7f, 0xf3, 16, STORE},
    {0xd6, 0x66, 8, STORE},
    {0xe7, 0x66, 16, ALIGNED | STORE},
    {0xf0, 0xf2, 16, 0},
};

static const struct form *form_of(const struct insn *in)
{
    uint8_t prefix = in->repne ? 0xf2 : in->rep ? 0xf3 : in->operand16 ? 0x66 : 0;
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (forms[i].opcode == in->opcode && forms[i].prefix == prefix)
            return &forms[i];
    return NULL;
}

static enum emulate_result load(struct emulate_ctx *ctx, const struct insn *in,
                                const struct form *f, uint64_t addr, unsigned n)
{
    uint8_t value[16] = {0}, part[16] = {0};
    enum emulate_result r = EMULATE_OK;
    if (!ctx->ops->read || !ctx->ops->write_xmm || !ctx->ops->read_xmm)
        return EMULATE_UNHANDLED;
    if (f->flags & (HIGH | LOW))
        r = ctx->ops->read_xmm(ctx, in->reg, value);
    if (r == EMULATE_OK)
        r = ctx->ops->read(ctx, addr, part, n);
    if (r != EMULATE_OK)
        return r;
    __builtin_memcpy(value + (f->flags & HIGH ? 8 : 0), part, n);
    return ctx->ops->write_xmm(ctx, in->reg, value);
}

static enum emulate_result store(struct emulate_ctx *ctx, const struct insn *in,
                                 const struct form *f, uint64_t addr, unsigned n)
{
    uint8_t value[16];
    if (!ctx->ops->write || !ctx->ops->read_xmm)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->read_xmm(ctx, in->reg, value);
    if (r != EMULATE_OK)
        return r;
    return ctx->ops->write(ctx, addr, value + (f->flags & HIGH ? 8 : 0), n);
}

enum emulate_result vector_execute(struct emulate_ctx *ctx, const struct insn *in)
{
    const struct form *f = form_of(in);
    uint64_t addr;
    if (!f || !in->is_mem)
        return EMULATE_UNHANDLED;
    unsigned n = (f->flags & GENERAL) && (in->rex & 8) ? 8 : f->bytes;
    enum emulate_result r = linear_address(ctx, in->seg, in->ea, n, f->flags & STORE, &addr);
    if (r != EMULATE_OK)
        return r;
    if ((f->flags & ALIGNED) && addr % 16)
        return emulate_raise(ctx, VECTOR_GP, 0);
    return f->flags & STORE ? store(ctx, in, f, addr, n) : load(ctx, in, f, addr, n);
}
