/* SOURCES: emulate/decode.c emulate/address.c emulate/execute.c emulate/alu.c emulate/string.c */
/* SOURCES: emulate/privileged.c emulate/vector.c */
/*
 * What the emulator decides by itself: refusals, exceptions, REP slices, contention, and which
 * effects privileged instructions have. Results of arithmetic: emulate_cpu_test.c.
 */
#include "fake/emulate.h"

/* --- what is not executed, and what goes wrong --- */

static enum emulate_result run_bytes(const char *bytes, unsigned n)
{
    memset(code, 0x90, 64);
    memcpy(code, bytes, n);
    ready();
    return emulate_one(&ctx);
}
#define RUN(bytes) run_bytes(bytes, sizeof(bytes) - 1)

static void fresh(void)
{
    memset(&regs, 0, sizeof(regs));
    memset(shadow, 0, AREA);
    regs.rbx = (uint64_t)memory + 256;
    regs.rflags = 0x202;
    fault_write_at = cmpxchg_disturb = fetch_limit = fetch_end = 0;
}

/* Nothing but what the call itself is told may have changed. */
#define assert_unchanged(call)                                                                     \
    do {                                                                                           \
        struct cpu_user_regs was_ = regs;                                                          \
        was_.rip = (uint64_t)code;                                                                 \
        call;                                                                                      \
        assert_memory_equal(&was_, &regs, sizeof(regs));                                           \
    } while (0)

static void test_unhandled(void **state)
{
    fresh();
    assert_unchanged(assert_int_equal(RUN("\x90"), EMULATE_UNHANDLED));         /* nop */
    assert_unchanged(assert_int_equal(RUN("\xf4"), EMULATE_UNHANDLED));         /* hlt */
    assert_unchanged(assert_int_equal(RUN("\xff\x13"), EMULATE_UNHANDLED));     /* call *(rbx) */
    assert_unchanged(assert_int_equal(RUN("\xc6\x0b\x01"), EMULATE_UNHANDLED)); /* c6 /1 */
    assert_unchanged(assert_int_equal(RUN("\xf6\x23"), EMULATE_UNHANDLED));     /* mul */
    assert_unchanged(assert_int_equal(RUN("\x0f\xba\x1b\x01"), EMULATE_UNHANDLED));
    assert_unchanged(assert_int_equal(RUN("\x0f\xc7\x33"), EMULATE_UNHANDLED)); /* rdrand/vmptrld */
    assert_unchanged(assert_int_equal(RUN("\x0f\xc7\xcb"), EMULATE_UNHANDLED)); /* c7 /1 register */
    assert_unchanged(assert_int_equal(RUN("\x0f\x01\xc1"), EMULATE_UNHANDLED)); /* vmcall */
    assert_unchanged(assert_int_equal(RUN("\x0f\x10\x03"), EMULATE_UNHANDLED)); /* movups */
    /* Effects that the caller does not have. */
    assert_unchanged(assert_int_equal(RUN("\xe4\x61"), EMULATE_UNHANDLED));
    assert_unchanged(assert_int_equal(RUN("\x0f\x20\xc0"), EMULATE_UNHANDLED));
    assert_unchanged(assert_int_equal(RUN("\x0f\x32"), EMULATE_UNHANDLED));
    with_cmpxchg = false;
    assert_unchanged(assert_int_equal(RUN("\xf0\x01\x03"), EMULATE_UNHANDLED));
    with_cmpxchg = true;
}

static void test_classes(void **state)
{
    fresh();
    memcpy(code, "\x89\x03", 2);
    ready();
    ctx.allow = EMULATE_PRIVILEGED;
    assert_int_equal(emulate_one(&ctx), EMULATE_UNHANDLED);
    memcpy(code, "\x0f\xa2", 2);
    ready();
    ctx.allow = EMULATE_MEMORY;
    assert_int_equal(emulate_one(&ctx), EMULATE_UNHANDLED);
}

static void test_lock_misuse(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } bad[] = {
        {"\xf0\x89\x03", 3},         /* mov */
        {"\xf0\x01\xc3", 3},         /* add to a register */
        {"\xf0\x03\x03", 3},         /* add from memory */
        {"\xf0\x39\x03", 3},         /* cmp */
        {"\xf0\x83\x3b\x01", 4},     /* cmp by immediate */
        {"\xf0\x85\x03", 3},         /* test */
        {"\xf0\x0f\xa3\x03", 4},     /* bt */
        {"\xf0\x0f\xba\x23\x01", 5}, /* bt by immediate */
        {"\xf0\xf7\x03\x01\0\0\0", 7}, {"\xf0\x0f\xb6\x03", 4}, {"\xf0\xaa", 2},
        {"\xf0\x0f\x20\xc0", 4},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fresh();
        assert_unchanged(assert_int_equal(run_bytes(bad[i].bytes, bad[i].n), EMULATE_EXCEPTION));
        assert_int_equal(ctx.vector, 6);
    }
}

static void test_length(void **state)
{
    char bytes[20];
    fresh();
    memset(bytes, 0x66, sizeof(bytes));
    memcpy(bytes + 13, "\x89\x03", 2);
    regs.rax = 0x1234;
    assert_int_equal(run_bytes(bytes, 15), EMULATE_OK); /* fifteen bytes are allowed */
    assert_int_equal(ctx.length, 15);
    fresh();
    memset(bytes, 0x66, sizeof(bytes));
    memcpy(bytes + 14, "\x89\x03", 2);
    assert_unchanged(assert_int_equal(run_bytes(bytes, 16), EMULATE_EXCEPTION));
    assert_int_equal(ctx.vector, 13);
    assert_int_equal(ctx.error_code, 0);
}

static void test_fetch_pieces(void **state)
{
    fresh();
    fetch_limit = 1;
    regs.rax = 0x55;
    assert_int_equal(RUN("\x48\x89\x43\x08"), EMULATE_OK);
    assert_int_equal(ctx.length, 4);
    assert_int_equal(shadow[264], 0x55);
    /* The code ends within the instruction: the fault is that of its next byte. */
    fresh();
    fetch_end = 3;
    assert_unchanged(assert_int_equal(RUN("\x48\x89\x43\x08"), EMULATE_EXCEPTION));
    assert_int_equal(ctx.vector, 14);
    assert_int_equal(ctx.fault_addr, (uint64_t)code + 3);
    /* Or right behind it: nothing is missing. */
    fresh();
    fetch_end = 4;
    assert_int_equal(RUN("\x48\x89\x43\x08"), EMULATE_OK);
}

static void test_addresses(void **state)
{
    fresh();
    regs.rbx = 0x8000000000000000UL;
    assert_unchanged(assert_int_equal(RUN("\x89\x03"), EMULATE_EXCEPTION));
    assert_int_equal(ctx.vector, 13);
    regs.rbp = 0x8000000000000000UL; /* the stack segment has its own exception */
    assert_unchanged(assert_int_equal(RUN("\x89\x45\x00"), EMULATE_EXCEPTION));
    assert_int_equal(ctx.vector, 12);
    assert_unchanged(assert_int_equal(RUN("\x64\x89\x45\x00"), EMULATE_EXCEPTION));
    assert_int_equal(ctx.vector, 13);
    regs.rbx = 0x7ffffffffffd; /* the last byte counts too */
    assert_unchanged(assert_int_equal(RUN("\x89\x03"), EMULATE_EXCEPTION));
    fresh();
    fs_base = (uint64_t)memory;
    regs.rbx = 16;
    regs.rax = 0xabcd;
    assert_int_equal(RUN("\x64\x66\x89\x03"), EMULATE_OK);
    assert_int_equal(shadow[16], 0xcd);
    assert_int_equal(shadow[17], 0xab);
    /* 32-bit addressing wraps within 4 GiB. */
    fresh();
    regs.rbx = 0xffffffff00000000UL + (uint64_t)memory + 8;
    regs.rax = 0x77;
    assert_int_equal(RUN("\x67\x88\x03"), EMULATE_OK);
    assert_int_equal(shadow[8], 0x77);
    fresh(); /* cmpxchg16b unaligned */
    regs.rbx = (uint64_t)memory + 8;
    assert_unchanged(assert_int_equal(RUN("\x48\x0f\xc7\x0b"), EMULATE_EXCEPTION));
    assert_int_equal(ctx.vector, 13);
}

static void test_write_fault_changes_nothing(void **state)
{
    static const char *const bytes[] = {"\x89\x03",         "\x01\x03",         "\x87\x03",
                                        "\xff\x03",         "\xf0\x0f\xab\x03", "\xf0\x0f\xb1\x03",
                                        "\xf0\x0f\xc1\x03", "\x0f\xc7\x0b",     "\xaa"};
    static const unsigned length[] = {2, 2, 2, 2, 4, 4, 4, 3, 1};
    for (unsigned i = 0; i < 9; i++) {
        fresh();
        regs.rdi = regs.rbx;
        regs.rcx = regs.rdx = 0x5a5a;
        fault_write_at = 1;
        assert_unchanged(assert_int_equal(run_bytes(bytes[i], length[i]), EMULATE_EXCEPTION));
        assert_int_equal(ctx.vector, 14);
        assert_int_equal(ctx.fault_addr, regs.rbx);
    }
}

static void test_contention(void **state)
{
    fresh();
    cmpxchg_disturb = 3;
    shadow[256] = 10;
    assert_int_equal(RUN("\xf0\x83\x03\x01"), EMULATE_OK); /* lock add $1, (rbx) */
    assert_int_equal(shadow[256], 14);
    assert_false(regs.rflags & ZF);
    fresh();
    cmpxchg_disturb = 1000;
    assert_unchanged(assert_int_equal(RUN("\xf0\x83\x03\x01"), EMULATE_RETRY));
}

static void test_rep_slices(void **state)
{
    unsigned calls = 0;
    fresh();
    regs.rdi = (uint64_t)memory;
    regs.rcx = 1000;
    regs.rax = 0xee;
    enum emulate_result r;
    while ((r = RUN("\xf3\xaa")) == EMULATE_RETRY) {
        assert_int_equal(regs.rip, (uint64_t)code);
        assert_int_equal(regs.rdi - (uint64_t)memory, 1000 - regs.rcx);
        calls++;
    }
    assert_int_equal(r, EMULATE_OK);
    assert_true(calls > 2);
    assert_int_equal(regs.rcx, 0);
    assert_int_equal(shadow[999], 0xee);
    assert_int_equal(shadow[1000], 0);
    /* A fault on the third element: two are done. */
    fresh();
    regs.rdi = (uint64_t)memory;
    regs.rcx = 5;
    fault_write_at = 3;
    assert_int_equal(RUN("\xf3\x48\xab"), EMULATE_EXCEPTION);
    assert_int_equal(regs.rcx, 3);
    assert_int_equal(regs.rdi, (uint64_t)memory + 16);
    assert_int_equal(regs.rip, (uint64_t)code);
}

/* --- privileged --- */

static struct {
    uint64_t cr[16], dr[8], msr_value, xcr0, invlpg;
    uint32_t msr, port, size, out, in, leaf, sub, xcr;
    unsigned calls, wbinvd;
    bool interrupts;
    enum emulate_result result;
} seen;

static enum emulate_result answer(void)
{
    seen.calls++;
    return seen.result;
}
static enum emulate_result p_io_read(struct emulate_ctx *c, uint16_t port, unsigned n, uint32_t *v)
{
    seen.port = port;
    seen.size = n;
    *v = seen.in;
    return answer();
}
static enum emulate_result p_io_write(struct emulate_ctx *c, uint16_t port, unsigned n, uint32_t v)
{
    seen.port = port;
    seen.size = n;
    seen.out = v;
    return answer();
}
static enum emulate_result p_read_cr(struct emulate_ctx *c, unsigned n, uint64_t *v)
{
    *v = seen.cr[n];
    return answer();
}
static enum emulate_result p_write_cr(struct emulate_ctx *c, unsigned n, uint64_t v)
{
    seen.cr[n] = v;
    return answer();
}
static enum emulate_result p_read_dr(struct emulate_ctx *c, unsigned n, uint64_t *v)
{
    *v = seen.dr[n];
    return answer();
}
static enum emulate_result p_write_dr(struct emulate_ctx *c, unsigned n, uint64_t v)
{
    seen.dr[n] = v;
    return answer();
}
static enum emulate_result p_read_msr(struct emulate_ctx *c, uint32_t msr, uint64_t *v)
{
    seen.msr = msr;
    *v = seen.msr_value;
    return answer();
}
static enum emulate_result p_write_msr(struct emulate_ctx *c, uint32_t msr, uint64_t v)
{
    seen.msr = msr;
    seen.msr_value = v;
    return answer();
}
static enum emulate_result p_cpuid(struct emulate_ctx *c, uint32_t leaf, uint32_t sub,
                                   uint32_t out[4])
{
    seen.leaf = leaf;
    seen.sub = sub;
    for (unsigned i = 0; i < 4; i++)
        out[i] = 0xf0000000 + i;
    return answer();
}
static enum emulate_result p_invlpg(struct emulate_ctx *c, uint64_t addr)
{
    seen.invlpg = addr;
    return answer();
}
static enum emulate_result p_wbinvd(struct emulate_ctx *c)
{
    seen.wbinvd++;
    return answer();
}
static enum emulate_result p_xsetbv(struct emulate_ctx *c, uint32_t n, uint64_t v)
{
    seen.xcr = n;
    seen.xcr0 = v;
    return answer();
}
static enum emulate_result p_rdtsc(struct emulate_ctx *c, uint64_t *tsc, uint32_t *aux)
{
    *tsc = 0x1122334455667788;
    *aux = 0x99;
    return answer();
}

static enum emulate_result p_set_if(struct emulate_ctx *c, bool on)
{
    seen.interrupts = on;
    return answer();
}

static const struct emulate_ops privileged_ops = {.fetch = t_fetch,
                                                  .read = t_read,
                                                  .write = t_write,
                                                  .seg_base = t_seg_base,
                                                  .io_read = p_io_read,
                                                  .io_write = p_io_write,
                                                  .read_cr = p_read_cr,
                                                  .write_cr = p_write_cr,
                                                  .read_dr = p_read_dr,
                                                  .write_dr = p_write_dr,
                                                  .read_msr = p_read_msr,
                                                  .write_msr = p_write_msr,
                                                  .cpuid = p_cpuid,
                                                  .invlpg = p_invlpg,
                                                  .wbinvd = p_wbinvd,
                                                  .xsetbv = p_xsetbv,
                                                  .set_if = p_set_if,
                                                  .rdtsc = p_rdtsc};

static unsigned cpl;
static enum emulate_result run_privileged(const char *bytes, unsigned n)
{
    memset(code, 0x90, 64);
    memcpy(code, bytes, n);
    ready();
    ctx.ops = &privileged_ops;
    ctx.allow = EMULATE_PRIVILEGED;
    ctx.cpl = cpl;
    seen.calls = 0;
    return emulate_one(&ctx);
}
#define PRIV(bytes) run_privileged(bytes, sizeof(bytes) - 1)

static void fresh_privileged(void)
{
    fresh();
    memset(&seen, 0, sizeof(seen));
    cpl = 0;
}

static void test_ports(void **state)
{
    fresh_privileged();
    seen.in = 0x11223344;
    regs.rax = ~0UL;
    assert_int_equal(PRIV("\xe4\x61"), EMULATE_OK); /* in $0x61, %al */
    assert_int_equal(seen.port, 0x61);
    assert_int_equal(seen.size, 1);
    assert_true(regs.rax == 0xffffffffffffff44UL);
    regs.rdx = 0x12340cfc;
    assert_int_equal(PRIV("\x66\xed"), EMULATE_OK);
    assert_int_equal(seen.port, 0xcfc);
    assert_int_equal(seen.size, 2);
    assert_true(regs.rax == 0xffffffffffff3344UL);
    assert_int_equal(PRIV("\x48\xed"), EMULATE_OK); /* REX.W changes nothing */
    assert_int_equal(seen.size, 4);
    assert_true(regs.rax == 0x11223344);
    assert_int_equal(PRIV("\xe7\xfe"), EMULATE_OK); /* an immediate port is not signed */
    assert_int_equal(seen.port, 0xfe);
    assert_int_equal(seen.out, 0x11223344);
    cpl = 3; /* ports are decided by the effects */
    assert_int_equal(PRIV("\xee"), EMULATE_OK);
    assert_int_equal(seen.size, 1);
    seen.result = EMULATE_EXCEPTION;
    assert_unchanged(assert_int_equal(PRIV("\xec"), EMULATE_EXCEPTION));
    seen.result = EMULATE_OK;
    /* Strings. */
    regs.rdi = (uint64_t)memory;
    regs.rcx = 3;
    assert_int_equal(PRIV("\xf3\x6d"), EMULATE_OK);
    assert_int_equal(seen.calls, 3);
    assert_int_equal(shadow[8], 0x44);
    assert_int_equal(regs.rdi, (uint64_t)memory + 12);
    regs.rsi = (uint64_t)memory;
    regs.rcx = 2;
    assert_int_equal(PRIV("\xf3\x66\x6f"), EMULATE_OK);
    assert_int_equal(seen.out, 0x1122);
    assert_int_equal(regs.rsi, (uint64_t)memory + 4);
}

static unsigned block_most; /* elements that test_block's effect does at once */
static enum emulate_result p_io_block(struct emulate_ctx *c, uint16_t port, unsigned n, bool in,
                                      uint64_t addr, unsigned *count)
{
    seen.port = port;
    seen.size = n;
    seen.in = in;
    seen.out = *count;
    seen.invlpg = addr;
    if (*count > block_most)
        *count = block_most;
    return answer();
}

static enum emulate_result p_mem_block(struct emulate_ctx *c, uint64_t to, const uint64_t *from,
                                       uint64_t value, unsigned n, unsigned *count)
{
    seen.size = n;
    seen.out = *count;
    seen.invlpg = to;
    seen.msr_value = from ? *from : value;
    seen.in = from != NULL;
    if (*count > block_most)
        *count = block_most;
    return answer();
}

static enum emulate_result run_block(const char *bytes, unsigned n, unsigned most)
{
    struct emulate_ops with = privileged_ops;
    with.io_block = p_io_block;
    with.mem_block = p_mem_block;
    memset(code, 0x90, 64);
    memcpy(code, bytes, n);
    ready();
    ctx.ops = &with;
    ctx.allow = EMULATE_PRIVILEGED | EMULATE_MEMORY;
    ctx.cpl = 0;
    seen.calls = 0;
    block_most = most;
    return emulate_one(&ctx);
}
#define BLOCK(bytes, most) run_block(bytes, sizeof(bytes) - 1, most)

static void test_block(void **state)
{
    fresh_privileged();
    uint64_t start = regs.rdi = (uint64_t)memory;
    uint64_t left = 4096 - start % 4096;
    regs.rdx = 0x1f0;
    regs.rcx = 10;
    assert_int_equal(BLOCK("\xf3\x66\x6d", 4096), EMULATE_OK); /* rep insw */
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.out, 10);
    assert_int_equal(seen.in, 1);
    assert_int_equal(seen.port, 0x1f0);
    assert_true(seen.invlpg == start);
    assert_true(regs.rdi == start + 20);
    assert_int_equal(regs.rcx, 0);
    assert_true(regs.rip == (uint64_t)code + 3);
    /* Not beyond the page; some were done: the rest is a slice of its own. */
    regs.rsi = start;
    regs.rcx = 10000;
    assert_int_equal(BLOCK("\xf3\x6e", 7), EMULATE_RETRY);
    assert_int_equal(seen.out, left);
    assert_int_equal(seen.in, 0);
    assert_true(regs.rsi == start + 7);
    assert_int_equal(regs.rcx, 9993);
    assert_true(regs.rip == (uint64_t)code);
    /* It cannot: one by one. Downwards and single ones are not asked for. */
    regs.rsi = start;
    regs.rcx = 3;
    assert_int_equal(BLOCK("\xf3\x6e", 0), EMULATE_OK);
    assert_int_equal(seen.calls, 4);
    regs.rcx = 3;
    regs.rdi = start + 8;
    regs.rflags |= 1 << 10;
    assert_int_equal(BLOCK("\xf3\x6c", 4096), EMULATE_OK);
    assert_int_equal(seen.calls, 3);
    regs.rflags &= ~(1UL << 10);
    regs.rcx = 1;
    assert_int_equal(BLOCK("\xf3\x6c", 4096), EMULATE_OK);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.size, 1);
    /* Memory. */
    regs.rdi = start;
    regs.rsi = start + 64;
    regs.rcx = 6;
    assert_int_equal(BLOCK("\xf3\x48\xa5", 4096), EMULATE_OK); /* rep movsq */
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.out, 6);
    assert_int_equal(seen.size, 8);
    assert_true(seen.invlpg == start && seen.msr_value == start + 64);
    assert_true(regs.rdi == start + 48 && regs.rsi == start + 112 && !regs.rcx);
    regs.rax = 0x1234567;
    regs.rcx = 9;
    assert_int_equal(BLOCK("\xf3\x66\xab", 5), EMULATE_RETRY); /* rep stosw */
    assert_false(seen.in);
    assert_int_equal(seen.msr_value, 0x4567);
    assert_true(regs.rdi == start + 58 && regs.rsi == start + 112 && regs.rcx == 4);
    /* What compares or loads is done one by one. */
    regs.rcx = 2;
    assert_int_equal(BLOCK("\xf3\xac", 4096), EMULATE_OK);
    assert_int_equal(seen.calls, 0);
    regs.rdi = start;
    /* A fault of the first element changes nothing. */
    regs.rcx = 5;
    seen.result = EMULATE_EXCEPTION;
    assert_unchanged(assert_int_equal(BLOCK("\xf3\x6c", 4096), EMULATE_EXCEPTION));
}

static void test_registers(void **state)
{
    fresh_privileged();
    seen.cr[0] = 0x8005003b;
    assert_int_equal(PRIV("\x0f\x20\xc3"), EMULATE_OK); /* mov %cr0, %rbx */
    assert_int_equal(regs.rbx, 0x8005003b);
    /* The mod bits mean nothing: still a register, and no displacement. */
    assert_int_equal(PRIV("\x0f\x20\x43\x08"), EMULATE_OK);
    assert_int_equal(ctx.length, 3);
    regs.r9 = 0x12345000;
    assert_int_equal(PRIV("\x41\x0f\x22\xd9"), EMULATE_OK); /* mov %r9, %cr3 */
    assert_int_equal(seen.cr[3], 0x12345000);
    assert_int_equal(PRIV("\x45\x0f\x22\xc1"), EMULATE_OK); /* cr8 */
    assert_int_equal(seen.cr[8], 0x12345000);
    assert_int_equal(PRIV("\x0f\x20\xc8"), EMULATE_EXCEPTION); /* cr1 */
    assert_int_equal(ctx.vector, 6);
    assert_int_equal(PRIV("\x44\x0f\x20\xc8"), EMULATE_EXCEPTION); /* cr9 */
    assert_int_equal(PRIV("\x44\x0f\x21\xc0"), EMULATE_EXCEPTION); /* dr8 */
    seen.dr[7] = 0x455;
    assert_int_equal(PRIV("\x0f\x21\xf8"), EMULATE_OK);
    assert_int_equal(regs.rax, 0x455);
    assert_int_equal(PRIV("\x0f\x06"), EMULATE_OK); /* clts */
    assert_int_equal(seen.cr[0], 0x80050033);
    regs.rcx = 0xffffffffc0000100;
    regs.rax = 0xffffffff00000001;
    regs.rdx = 0xffffffff00000002;
    assert_int_equal(PRIV("\x0f\x30"), EMULATE_OK);
    assert_int_equal(seen.msr, 0xc0000100);
    assert_true(seen.msr_value == 0x200000001UL);
    assert_int_equal(PRIV("\x0f\x32"), EMULATE_OK);
    assert_int_equal(regs.rax, 1);
    assert_int_equal(regs.rdx, 2);
    seen.result = EMULATE_EXCEPTION;
    assert_unchanged(assert_int_equal(PRIV("\x0f\x32"), EMULATE_EXCEPTION));
}

static void test_others(void **state)
{
    fresh_privileged();
    regs.rax = 0x40000000;
    regs.rcx = 5;
    cpl = 3;
    assert_int_equal(PRIV("\x0f\xa2"), EMULATE_OK);
    assert_int_equal(seen.leaf, 0x40000000);
    assert_int_equal(seen.sub, 5);
    assert_int_equal(regs.rcx, 0xf0000002);
    assert_int_equal(PRIV("\x0f\x31"), EMULATE_OK);
    assert_int_equal(regs.rax, 0x55667788);
    assert_int_equal(regs.rdx, 0x11223344);
    assert_int_equal(PRIV("\x0f\x01\xf9"), EMULATE_OK);
    assert_int_equal(regs.rcx, 0x99);
    cpl = 0;
    regs.rbx = (uint64_t)memory;
    assert_int_equal(PRIV("\x0f\x01\x7b\x10"), EMULATE_OK);
    assert_true(seen.invlpg == (uint64_t)memory + 16);
    regs.rbx = 0x8000000000000000;
    assert_int_equal(PRIV("\x0f\x01\x3b"), EMULATE_OK); /* nothing to flush */
    assert_int_equal(seen.calls, 0);
    assert_int_equal(PRIV("\x0f\x09"), EMULATE_OK);
    assert_int_equal(seen.wbinvd, 1);
    regs.rcx = 0;
    regs.rax = 7;
    regs.rdx = 1;
    assert_int_equal(PRIV("\x0f\x01\xd1"), EMULATE_OK);
    assert_true(seen.xcr0 == 0x100000007UL);
    assert_int_equal(PRIV("\xfb"), EMULATE_OK);
    assert_true(seen.interrupts);
    assert_int_equal(PRIV("\xfa"), EMULATE_OK);
    assert_false(seen.interrupts);
}

static void test_privilege_level(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } insns[] = {{"\x0f\x20\xc0", 3}, {"\x0f\x22\xc0", 3}, {"\x0f\x21\xc0", 3}, {"\x0f\x23\xc0", 3},
                 {"\x0f\x06", 2},     {"\x0f\x09", 2},     {"\x0f\x30", 2},     {"\x0f\x32", 2},
                 {"\x0f\x01\x3b", 3}, {"\x0f\x01\xd1", 3}};
    for (unsigned i = 0; i < sizeof(insns) / sizeof(insns[0]); i++) {
        fresh_privileged();
        cpl = 3;
        assert_unchanged(
            assert_int_equal(run_privileged(insns[i].bytes, insns[i].n), EMULATE_EXCEPTION));
        assert_int_equal(ctx.vector, 13);
        assert_int_equal(ctx.error_code, 0);
        assert_int_equal(seen.calls, 0);
    }
}

/* Any bytes whatever: no crash, no endless loop, and rip moves only when it should. */
static void test_noise(void **state)
{
    static const uint8_t common[] = {0x66, 0xf0, 0x0f, 0x48, 0x89, 0x03, 0x04, 0x05};
    for (unsigned i = 0; i < 300000; i++) {
        fresh_privileged();
        for (unsigned j = 0; j < 16; j++)
            *slot(&regs, j) = (uint64_t)memory + 1024 + rnd() % 64;
        regs.rcx = rnd() % 8;
        regs.rflags = 0x202;
        for (unsigned j = 0; j < 20; j++)
            code[j] = rnd() % 3 ? rnd() : common[rnd() % sizeof(common)];
        ready();
        struct emulate_ops quiet = privileged_ops;
        quiet.read = NULL;
        quiet.write = NULL;
        ctx.ops = &quiet;
        ctx.cpl = rnd() % 2 ? 0 : 3;
        enum emulate_result r = emulate_one(&ctx);
        if (r == EMULATE_OK) {
            assert_true(ctx.length > 0 && ctx.length <= 15);
            assert_int_equal(regs.rip, (uint64_t)code + ctx.length);
        } else {
            assert_int_equal(regs.rip, (uint64_t)code);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unhandled),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_lock_misuse),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_fetch_pieces),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_write_fault_changes_nothing),
        cmocka_unit_test(test_contention),
        cmocka_unit_test(test_rep_slices),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_block),
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_privilege_level),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
