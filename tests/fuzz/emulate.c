/* SOURCES: emulate/decode.c emulate/execute.c emulate/alu.c emulate/string.c */
/* SOURCES: emulate/privileged.c emulate/address.c emulate/vector.c */
/*
 * Any bytes as an instruction of 64-, 32- or 16-bit code, any registers, any segments, any answer
 * of memory, ports and MSRs: the emulator asks for no more bytes than an instruction has, reads and
 * writes in pieces that exist and that some segment allows, and goes on by 1 to 15 bytes, or does
 * not go on.
 */
#include "fuzz.h"

#include "emulate/emulate.h"

static uint8_t code[16];
static uint64_t code_at;
static struct cpu_user_regs regs;
static struct emulate_segment segments[6];
static enum emulate_code mode;

/* In 16- and 32-bit code each byte is one that a segment reaches with that right. */
static void check_access(uint64_t addr, unsigned n, bool write)
{
    CHECK(n && (n <= 16 || n <= 4096 - addr % 4096));
    if (mode == EMULATE_CODE64)
        return;
    for (unsigned i = 0; i < 6; i++) {
        const struct emulate_segment *s = &segments[i];
        uint64_t first = (uint32_t)(addr - s->base), last = first + n - 1;
        bool inside = s->expand_down ? first > s->limit && last <= (s->big ? 0xffffffff : 0xffff)
                                     : last <= s->limit;
        if (inside && (write ? s->writable : s->readable))
            return;
    }
    CHECK(!"an access outside all segments");
}

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
    if (mode != EMULATE_CODE64)
        offset = (uint32_t)(addr - segments[SEG_CS].base - (uint32_t)code_at);
    CHECK(n && n <= 16 && offset <= 15);
    *got = n < 16 - offset ? n : (unsigned)(16 - offset);
    memcpy(buf, code + offset, *got);
    return answer(ctx, addr);
}

static enum emulate_result f_read(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n)
{
    check_access(addr, n, false);
    take(buf, n);
    return answer(ctx, addr);
}

static enum emulate_result f_write(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                   unsigned n)
{
    uint8_t copy[16];
    check_access(addr, n, true);
    memcpy(copy, buf, n);
    return answer(ctx, addr);
}

static enum emulate_result f_cmpxchg(struct emulate_ctx *ctx, uint64_t addr, void *expected,
                                     const void *desired, unsigned n)
{
    uint8_t copy[16];
    check_access(addr, n, true);
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

static enum emulate_result f_segment(struct emulate_ctx *ctx, enum emulate_seg seg,
                                     struct emulate_segment *out)
{
    CHECK(mode != EMULATE_CODE64);
    *out = segments[seg];
    return EMULATE_OK;
}

static enum emulate_result f_read_xmm(struct emulate_ctx *ctx, unsigned n, uint8_t value[16])
{
    CHECK(n < (mode == EMULATE_CODE64 ? 16 : 8));
    take(value, 16);
    return answer(ctx, n);
}

static enum emulate_result f_write_xmm(struct emulate_ctx *ctx, unsigned n, const uint8_t value[16])
{
    uint8_t copy[16];
    CHECK(n < (mode == EMULATE_CODE64 ? 16 : 8));
    memcpy(copy, value, 16);
    return answer(ctx, n);
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

static enum emulate_result f_io_block(struct emulate_ctx *ctx, uint16_t port, unsigned size,
                                      bool in, uint64_t addr, unsigned *count)
{
    CHECK(size == 1 || size == 2 || size == 4);
    CHECK(*count > 1 && addr % 4096 + (uint64_t)*count * size <= 4096);
    check_access(addr, *count * size, in);
    if (take8() & 1)
        *count = take8() % (*count + 1);
    return answer(ctx, addr);
}

static enum emulate_result f_mem_block(struct emulate_ctx *ctx, uint64_t to, const uint64_t *from,
                                       uint64_t value, unsigned size, unsigned *count)
{
    CHECK(size == 1 || size == 2 || size == 4 || size == 8);
    CHECK(*count > 1 && to % 4096 + (uint64_t)*count * size <= 4096);
    check_access(to, *count * size, true);
    if (from) {
        CHECK(*from % 4096 + (uint64_t)*count * size <= 4096);
        check_access(*from, *count * size, false);
    }
    if (take8() & 1)
        *count = take8() % (*count + 1);
    return answer(ctx, to);
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
    .segment = f_segment,
    .read_xmm = f_read_xmm,
    .write_xmm = f_write_xmm,
    .io_read = f_io_read,
    .io_write = f_io_write,
    .io_block = f_io_block,
    .mem_block = f_mem_block,
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
    mode = take8() % 3;
    for (unsigned i = 0; i < 6; i++) {
        uint8_t bits = take8();
        segments[i] =
            (struct emulate_segment){.base = take32(),
                                     .limit = take8() & 1 ? take32() : ~0u,
                                     .readable = bits & 3, /* what can be written can be read */
                                     .writable = bits & 2,
                                     .expand_down = bits & 4,
                                     .big = bits & 8};
    }
    struct emulate_ctx ctx = {
        .ops = &ops,
        .regs = &regs,
        .code = mode,
        .allow = (take8() & 3) + 1,
        .cpl = take8() & 1 ? 3 : 0,
    };
    code_at = regs.rip;
    enum emulate_result result = emulate_one(&ctx);
    uint64_t length = mode == EMULATE_CODE64 ? regs.rip - code_at : (uint32_t)(regs.rip - code_at);
    if (result == EMULATE_OK)
        CHECK(length >= 1 && length <= 15);
    else
        CHECK(length == 0);
    if (result == EMULATE_EXCEPTION)
        CHECK(ctx.vector < 32);
    return 0;
}
