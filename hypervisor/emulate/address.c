/*
 * From segment and offset to a linear address. In 64-bit code only FS and GS have bases and the
 * address must be canonical; elsewhere a segment has a base, a limit and rights (APM vol. 2
 * chapter 4), and addresses have 32 bits.
 */
#include "emulate/internal.h"

static enum emulate_result out_of_segment(struct emulate_ctx *ctx, enum emulate_seg seg)
{
    return emulate_raise(ctx, seg == SEG_SS ? VECTOR_SS : VECTOR_GP, 0);
}

static bool is_canonical(uint64_t addr)
{
    return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

static enum emulate_result long_address(struct emulate_ctx *ctx, enum emulate_seg seg,
                                        uint64_t offset, unsigned n, uint64_t *addr)
{
    uint64_t base = 0;
    if (seg == SEG_FS || seg == SEG_GS) {
        if (!ctx->ops->seg_base)
            return EMULATE_UNHANDLED;
        enum emulate_result r = ctx->ops->seg_base(ctx, seg, &base);
        if (r != EMULATE_OK)
            return r;
    }
    uint64_t first = base + offset;
    if (!is_canonical(first) || !is_canonical(first + n - 1))
        return out_of_segment(ctx, seg);
    *addr = first;
    return EMULATE_OK;
}

/* @first to @last may be beyond 4 GiB, where no segment reaches. */
static bool within(const struct emulate_segment *s, uint64_t first, uint64_t last)
{
    if (!s->expand_down)
        return last <= s->limit;
    return first > s->limit && last <= (s->big ? 0xffffffff : 0xffff);
}

enum emulate_result linear_address(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t offset,
                                   unsigned n, bool write, uint64_t *addr)
{
    struct emulate_segment s;
    if (ctx->code == EMULATE_CODE64)
        return long_address(ctx, seg, offset, n, addr);
    if (!ctx->ops->segment)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->segment(ctx, seg, &s);
    if (r != EMULATE_OK)
        return r;
    if (!(write ? s.writable : s.readable))
        return emulate_raise(ctx, VECTOR_GP, 0);
    if (!within(&s, offset, offset + n - 1))
        return out_of_segment(ctx, seg);
    *addr = (uint32_t)(s.base + offset);
    return EMULATE_OK;
}

enum emulate_result code_address(struct emulate_ctx *ctx, unsigned offset, uint64_t *addr,
                                 unsigned *n)
{
    struct emulate_segment s;
    uint64_t rip = ctx->regs->rip + offset;
    *addr = rip;
    if (ctx->code == EMULATE_CODE64)
        return EMULATE_OK;
    if (!ctx->ops->segment)
        return EMULATE_UNHANDLED;
    enum emulate_result r = ctx->ops->segment(ctx, SEG_CS, &s);
    if (r != EMULATE_OK)
        return r;
    rip = (uint32_t)ctx->regs->rip + (uint64_t)offset;
    if (rip > s.limit)
        return emulate_raise(ctx, VECTOR_GP, 0);
    if (s.limit - rip < *n)
        *n = (unsigned)(s.limit - rip) + 1;
    *addr = (uint32_t)(s.base + rip);
    return EMULATE_OK;
}
