/* SOURCES: emulate/decode.c emulate/address.c emulate/execute.c emulate/alu.c emulate/string.c */
/* SOURCES: emulate/privileged.c emulate/vector.c */
/*
 * 16- and 32-bit code: sizes of operands and addresses, addressing forms, segments with their
 * limits and rights, strings that run into the end of a segment; and moves of XMM registers.
 */
#include "fake/emulate.h"

static struct emulate_segment segments[6];
static uint8_t xmm[16][16];

static enum emulate_result m_segment(struct emulate_ctx *c, enum emulate_seg seg,
                                     struct emulate_segment *out)
{
    *out = segments[seg];
    return EMULATE_OK;
}

static enum emulate_result m_read_xmm(struct emulate_ctx *c, unsigned n, uint8_t value[16])
{
    memcpy(value, xmm[n], 16);
    return EMULATE_OK;
}

static enum emulate_result m_write_xmm(struct emulate_ctx *c, unsigned n, const uint8_t value[16])
{
    memcpy(xmm[n], value, 16);
    return EMULATE_OK;
}

static uint64_t cr_written[16];
static enum emulate_result m_write_cr(struct emulate_ctx *c, unsigned n, uint64_t v)
{
    cr_written[n] = v;
    return EMULATE_OK;
}

/* CS is the code, the others the data, all of one page. */
static void fresh(void)
{
    memset(&regs, 0, sizeof(regs));
    memset(shadow, 0, AREA);
    memset(code, 0x90, 64);
    fault_write_at = 0;
    regs.rflags = 0x202;
    for (unsigned i = 0; i < 6; i++)
        segments[i] = (struct emulate_segment){.base = (uint32_t)(uint64_t)memory,
                                               .limit = AREA - 1,
                                               .readable = true,
                                               .writable = true};
    segments[SEG_CS].base = (uint32_t)(uint64_t)code;
    segments[SEG_CS].writable = false;
}

static enum emulate_result run(enum emulate_code mode, const char *bytes, unsigned n)
{
    memcpy(code + regs.rip, bytes, n);
    ctx = (struct emulate_ctx){
        .ops = &ops, .regs = &regs, .code = mode, .allow = EMULATE_MEMORY | EMULATE_PRIVILEGED};
    return emulate_one(&ctx);
}
#define RUN16(bytes) run(EMULATE_CODE16, bytes, sizeof(bytes) - 1)
#define RUN32(bytes) run(EMULATE_CODE32, bytes, sizeof(bytes) - 1)

static uint32_t at(unsigned offset)
{
    uint32_t v;
    memcpy(&v, shadow + offset, 4);
    return v;
}

static void assert_refused(enum emulate_result r, unsigned vector)
{
    assert_int_equal(r, EMULATE_EXCEPTION);
    assert_int_equal(ctx.vector, vector);
    assert_int_equal(ctx.error_code, 0);
    assert_int_equal(regs.rip, 0);
}

static void test_addresses_of_16_bits(void **state)
{
    static const struct {
        char rm;
        unsigned ea;
    } forms[] = {{0, 0x110}, {1, 0x120}, {2, 0x210}, {3, 0x220}, {4, 0x10}, {5, 0x20}, {7, 0x100}};
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        for (unsigned mod = 0; mod < 3; mod++) {
            char bytes[] = {(char)0x88, (char)(mod << 6 | forms[i].rm), 0x05, mod == 2 ? 3 : 0};
            unsigned ea = forms[i].ea + (mod ? 5 : 0) + (mod == 2 ? 0x300 : 0);
            fresh();
            regs.rbx = 0x55550100; /* only 16 bits of each count */
            regs.rbp = 0x55550200;
            regs.rsi = 0x55550010;
            regs.rdi = 0x55550020;
            regs.rax = 0x77;
            assert_int_equal(run(EMULATE_CODE16, bytes, 2 + mod), EMULATE_OK);
            assert_int_equal(ctx.length, 2 + mod);
            assert_int_equal(shadow[ea], 0x77);
        }
    fresh();
    assert_int_equal(RUN16("\xc6\x06\x34\x02\x99"), EMULATE_OK); /* movb $0x99, 0x234 */
    assert_int_equal(shadow[0x234], 0x99);
    fresh(); /* offsets wrap at 64 KiB */
    regs.rbx = 0xfff0;
    assert_int_equal(RUN16("\xc6\x47\x20\x98"), EMULATE_OK); /* movb $0x98, 0x20(%bx) */
    assert_int_equal(shadow[0x10], 0x98);
}

static void test_sizes(void **state)
{
    fresh();
    regs.rax = 0x11223344;
    assert_int_equal(RUN16("\xa3\x10\x00"), EMULATE_OK); /* mov %ax, 0x10 */
    assert_int_equal(at(0x10), 0x3344);
    assert_int_equal(RUN16("\x66\xa3\x20\x00"), EMULATE_OK); /* mov %eax */
    assert_int_equal(at(0x20), 0x11223344);
    assert_int_equal(RUN16("\x67\xc7\x05\x30\0\0\0\x34\x12"),
                     EMULATE_OK); /* movw, 32-bit address */
    assert_int_equal(at(0x30), 0x1234);
    assert_int_equal(regs.rip, 16);
    fresh();
    regs.rax = 0x11223344;
    assert_int_equal(RUN32("\xa3\x10\0\0\0"), EMULATE_OK);
    assert_int_equal(at(0x10), 0x11223344);
    assert_int_equal(RUN32("\x66\x67\xa3\x20\0"), EMULATE_OK);
    assert_int_equal(at(0x20), 0x3344);
    assert_int_equal(RUN32("\xc7\x05\x30\0\0\0\x78\x56\x34\x12"), EMULATE_OK); /* not from rip */
    assert_int_equal(at(0x30), 0x12345678);
    fresh(); /* 0x48 is DEC here, and 0x63 ARPL */
    assert_int_equal(RUN32("\x48\x89\x03"), EMULATE_UNHANDLED);
    assert_int_equal(RUN32("\x63\x03"), EMULATE_UNHANDLED);
    regs.rax = 0xffffffffffffffff; /* a word leaves the rest, a doubleword clears it */
    assert_int_equal(RUN16("\xa1\x40\x00"), EMULATE_OK);
    assert_true(regs.rax == 0xffffffffffff0000UL);
}

static void test_segments(void **state)
{
    fresh();
    segments[SEG_ES].base += 0x100;
    segments[SEG_SS].base += 0x200;
    regs.rax = 0x42;
    assert_int_equal(RUN32("\x26\xa2\x08\0\0\0"), EMULATE_OK);
    assert_int_equal(shadow[0x108], 0x42);
    assert_int_equal(RUN32("\x88\x45\x09"), EMULATE_OK); /* by ebp: SS */
    assert_int_equal(shadow[0x209], 0x42);
    assert_int_equal(RUN32("\x3e\x88\x45\x0a"), EMULATE_OK); /* DS all the same */
    assert_int_equal(shadow[0x00a], 0x42);
    fresh();
    regs.rdi = 0x10; /* a string's target is in ES whatever is said */
    segments[SEG_ES].base += 0x300;
    assert_int_equal(RUN32("\x64\xc6\x07\x01"), EMULATE_OK);
    assert_int_equal(shadow[0x10], 1);
    regs.rax = 0x43;
    assert_int_equal(RUN32("\x64\xaa"), EMULATE_OK);
    assert_int_equal(shadow[0x310], 0x43);
}

static void test_limits(void **state)
{
    fresh();
    segments[SEG_DS].limit = 0x1f;
    assert_int_equal(RUN32("\xa1\x1c\0\0\0"), EMULATE_OK);
    fresh();
    segments[SEG_DS].limit = 0x1f;
    assert_refused(RUN32("\xa1\x1d\0\0\0"), 13);
    segments[SEG_SS].limit = 0x1f;
    regs.rbp = 0x20;
    assert_refused(RUN32("\x8a\x45\0"), 12);
    segments[SEG_DS] = (struct emulate_segment){
        .base = segments[SEG_ES].base, .limit = 0x1f, .readable = true, .expand_down = true};
    assert_refused(RUN32("\xa1\x1f\0\0\0"), 13);
    assert_refused(RUN32("\xa3\x20\0\0\0"), 13);   /* not to be written */
    assert_refused(RUN32("\xa1\xfe\xff\0\0"), 13); /* beyond 64 KiB: not big */
    assert_int_equal(RUN32("\xa1\x20\0\0\0"), EMULATE_OK);
    fresh();
    segments[SEG_DS].limit = 0xffffffff; /* nothing wraps around at 4 GiB */
    assert_refused(RUN32("\xa1\xfe\xff\xff\xff"), 13);
    segments[SEG_CS].readable = false;
    assert_refused(RUN32("\x2e\xa1\0\0\0\0"), 13);
    fresh();
    assert_refused(RUN32("\x2e\xa3\0\0\0\0"), 13); /* code is not written */
    segments[SEG_CS].limit = 3;                    /* the instruction itself ends behind it */
    assert_refused(RUN32("\xa1\0\0\0\0"), 13);
    segments[SEG_CS].limit = 4;
    assert_int_equal(RUN32("\xa1\0\0\0\0"), EMULATE_OK);
}

static void test_strings(void **state)
{
    fresh();
    segments[SEG_ES].limit = 0x13;
    regs.rdi = 0xaaaa0010;
    regs.rcx = 0xbbbb0008;
    regs.rax = 0x66;
    assert_int_equal(RUN16("\xf3\xaa"), EMULATE_EXCEPTION); /* four fit */
    assert_int_equal(ctx.vector, 13);
    assert_int_equal(regs.rcx, 0xbbbb0004);
    assert_int_equal(regs.rdi, 0xaaaa0014);
    assert_int_equal(shadow[0x13], 0x66);
    assert_int_equal(shadow[0x14], 0);
    segments[SEG_ES].limit = AREA - 1; /* and it goes on */
    assert_int_equal(RUN16("\xf3\xaa"), EMULATE_OK);
    assert_int_equal(regs.rcx, 0xbbbb0000);
    assert_int_equal(shadow[0x17], 0x66);
    assert_int_equal(shadow[0x18], 0);
    fresh(); /* si wraps, rsi's other bits stay */
    regs.rsi = 0x1234ffff;
    segments[SEG_DS].limit = 0xffff;
    segments[SEG_DS].base -= 0xf000;
    regs.rip = 0;
    assert_int_equal(RUN16("\xac"), EMULATE_OK);
    assert_int_equal(regs.rsi, 0x12340000);
}

static void test_cr8_without_rex(void **state)
{
    fresh();
    regs.rax = 0xffffffff00000005UL;
    assert_int_equal(RUN32("\xf0\x0f\x22\xc0"), EMULATE_OK);
    assert_int_equal(cr_written[8], 5);
    fresh();
    assert_refused(RUN32("\xf0\x0f\x22\xd8"), 6); /* cr3 */
    regs.rip = 0;
    regs.rax = 0xffffffff00000007UL;
    assert_int_equal(RUN32("\x0f\x22\xd8"), EMULATE_OK);
    assert_true(cr_written[3] == 7);
}

/* In 64-bit code, where memory is by linear address. */
static enum emulate_result run_wide(const char *bytes, unsigned n)
{
    regs.rip = (uint64_t)code;
    memcpy(code, bytes, n);
    ctx = (struct emulate_ctx){.ops = &ops, .regs = &regs, .allow = EMULATE_MEMORY};
    return emulate_one(&ctx);
}
#define WIDE(bytes) run_wide(bytes, sizeof(bytes) - 1)

static void test_vectors(void **state)
{
    uint8_t *m = shadow + 64;
    fresh();
    regs.rbx = (uint64_t)memory + 64;
    for (unsigned i = 0; i < 16; i++) {
        m[i] = (uint8_t)(0x10 + i);
        xmm[3][i] = (uint8_t)(0xa0 + i);
        xmm[11][i] = 0xcc;
    }
    assert_int_equal(WIDE("\x44\x0f\x10\x1b"), EMULATE_OK); /* movups (%rbx), %xmm11 */
    assert_memory_equal(xmm[11], m, 16);
    assert_int_equal(WIDE("\xf3\x44\x0f\x10\x1b"), EMULATE_OK); /* movss clears the rest */
    assert_int_equal(xmm[11][3], 0x13);
    assert_int_equal(xmm[11][4], 0);
    assert_int_equal(WIDE("\x66\x44\x0f\x16\x1b"), EMULATE_OK); /* movhpd leaves it */
    assert_int_equal(xmm[11][0], 0x10);
    assert_int_equal(xmm[11][8], 0x10);
    assert_int_equal(WIDE("\x66\x0f\xe7\x1b"), EMULATE_OK); /* movntdq */
    assert_memory_equal(m, xmm[3], 16);
    memset(m, 0, 16);
    assert_int_equal(WIDE("\x66\x0f\x7e\x1b"), EMULATE_OK); /* movd */
    assert_int_equal(m[3], 0xa3);
    assert_int_equal(m[4], 0);
    assert_int_equal(WIDE("\x66\x48\x0f\x7e\x1b"), EMULATE_OK); /* movq */
    assert_int_equal(m[7], 0xa7);
    assert_int_equal(m[8], 0);
    regs.rbx++;
    assert_int_equal(WIDE("\x0f\x29\x1b"), EMULATE_EXCEPTION); /* movaps wants alignment */
    assert_int_equal(ctx.vector, 13);
    assert_int_equal(WIDE("\x0f\x11\x1b"), EMULATE_OK);
    assert_int_equal(m[1], 0xa0);
    assert_int_equal(WIDE("\x0f\x10\xd9"), EMULATE_UNHANDLED); /* between registers */
    assert_int_equal(WIDE("\xf2\x0f\x28\x1b"), EMULATE_UNHANDLED);
    assert_int_equal(WIDE("\xf0\x0f\x11\x1b"), EMULATE_EXCEPTION); /* lock */
    assert_int_equal(ctx.vector, 6);
    fault_write_at = 1;
    memcpy(xmm[4], xmm[3], 16);
    assert_int_equal(WIDE("\x0f\x11\x1b"), EMULATE_EXCEPTION);
    assert_int_equal(ctx.vector, 14);
}

static int start(void **state)
{
    ops.segment = m_segment;
    ops.read_xmm = m_read_xmm;
    ops.write_xmm = m_write_xmm;
    ops.write_cr = m_write_cr;
    return setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_of_16_bits),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_cr8_without_rex),
        cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
