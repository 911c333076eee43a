/* SOURCES: emulate/decode.c emulate/execute.c emulate/alu.c emulate/string.c */
/* SOURCES: emulate/privileged.c */
/*
 * Any bytes as an instruction, any registers, any answer of memory, ports and MSRs: the emulator
 * asks for no more bytes than an instruction has, reads and writes in pieces that exist, and goes
 * on by 1 to 15 bytes, or does not go on.
 */
#include "fuzz.h"

#include "emulate/emulate.h"

static uint8_t code[16];
static uint64_t code_at;
static struct cpu_user_regs regs;

static enum emulate_result answer(struct emulate_ctx *ctx, uint64_t addr)
{
    switch (take8() & 15) {
    case 0:
        ctx->fault_addr = addr;
        return emulate_raise(ctx, 14, take8() & 31);
    case 1:
        return EMULATE_UNHANDLED;
    case 2:
        return EMULATE_RETRY;
    default:
        return EMULATE_OK;
    }
}

static enum emulate_result f_fetch(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                   unsigned *got)
{
    uint64_t offset = addr - code_at;
    CHECK(n && n <= 16 && offset <= 15);
    *got = n < 16 - offset ? n : (unsigned)(16 - offset);
    memcpy(buf, code + offset, *got);
    return answer(ctx, addr);
}

static enum emulate_result f_read(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n)
{
    CHECK(n && n <= 16);
    take(buf, n);
    return answer(ctx, addr);
}

static enum emulate_result f_write(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                   unsigned n)
{
    uint8_t copy[16];
    CHECK(n && n <= 16);
    memcpy(copy, buf, n);
    return answer(ctx, addr);
}

static enum emulate_result f_cmpxchg(struct emulate_ctx *ctx, uint64_t addr, void *expected,
                                     const void *desired, unsigned n)
{
    uint8_t copy[16];
    CHECK(n && n <= 16);
    memcpy(copy, desired, n);
    if (take8() & 1)
        take(expected, n);
    return answer(ctx, addr);
}

static enum emulate_result f_seg_base(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t *base)
{
    *base = take64();
    return EMULATE_OK;
}

static enum emulate_result f_io_read(struct emulate_ctx *ctx, uint16_t port, unsigned size,
                                     uint32_t *value)
{
    CHECK(size == 1 || size == 2 || size == 4);
    *value = take32();
    return answer(ctx, port);
}

static enum emulate_result f_io_write(struct emulate_ctx *ctx, uint16_t port, unsigned size,
                                      uint32_t value)
{
    CHECK(size == 1 || size == 2 || size == 4);
    return answer(ctx, port);
}

static enum emulate_result f_get(struct emulate_ctx *ctx, unsigned reg, uint64_t *value)
{
    CHECK(reg < 16);
    *value = take64();
    return answer(ctx, reg);
}

static enum emulate_result f_set(struct emulate_ctx *ctx, unsigned reg, uint64_t value)
{
    CHECK(reg < 16);
    return answer(ctx, reg);
}

static enum emulate_result f_read_msr(struct emulate_ctx *ctx, uint32_t msr, uint64_t *value)
{
    *value = take64();
    return answer(ctx, msr);
}

static enum emulate_result f_write_msr(struct emulate_ctx *ctx, uint32_t msr, uint64_t value)
{
    return answer(ctx, msr);
}

static enum emulate_result f_cpuid(struct emulate_ctx *ctx, uint32_t leaf, uint32_t sub,
                                   uint32_t out[4])
{
    take(out, 16);
    return answer(ctx, leaf);
}

static enum emulate_result f_address(struct emulate_ctx *ctx, uint64_t addr)
{
    return answer(ctx, addr);
}

static enum emulate_result f_nothing(struct emulate_ctx *ctx)
{
    return answer(ctx, 0);
}

static enum emulate_result f_xsetbv(struct emulate_ctx *ctx, uint32_t index, uint64_t value)
{
    return answer(ctx, index);
}

static enum emulate_result f_set_if(struct emulate_ctx *ctx, bool on)
{
    return answer(ctx, on);
}

static enum emulate_result f_rdtsc(struct emulate_ctx *ctx, uint64_t *tsc, uint32_t *aux)
{
    *tsc = take64();
    *aux = take32();
    return answer(ctx, 0);
}

static const struct emulate_ops ops = {
    .fetch = f_fetch,
    .read = f_read,
    .write = f_write,
    .cmpxchg = f_cmpxchg,
    .seg_base = f_seg_base,
    .io_read = f_io_read,
    .io_write = f_io_write,
    .read_cr = f_get,
    .write_cr = f_set,
    .read_dr = f_get,
    .write_dr = f_set,
    .read_msr = f_read_msr,
    .write_msr = f_write_msr,
    .cpuid = f_cpuid,
    .invlpg = f_address,
    .wbinvd = f_nothing,
    .xsetbv = f_xsetbv,
    .set_if = f_set_if,
    .rdtsc = f_rdtsc,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    take(code, sizeof(code));
    take(&regs, sizeof(regs));
    struct emulate_ctx ctx = {
        .ops = &ops,
        .regs = &regs,
        .allow = (take8() & 3) + 1,
        .cpl = take8() & 1 ? 3 : 0,
    };
    code_at = regs.rip;
    enum emulate_result result = emulate_one(&ctx);
    uint64_t length = regs.rip - code_at;
    if (result == EMULATE_OK)
        CHECK(length >= 1 && length <= 15);
    else
        CHECK(length == 0);
    if (result == EMULATE_EXCEPTION)
        CHECK(ctx.vector < 32);
    return 0;
}
