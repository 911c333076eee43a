/* SOURCES: emulate/decode.c emulate/address.c emulate/execute.c emulate/alu.c emulate/string.c */
/* SOURCES: emulate/privileged.c emulate/vector.c */
/*
 * The emulator against the processor that runs the test: random instructions with random operands,
 * executed natively on a buffer and emulated on a copy of it; registers, defined flags and memory
 * must agree.
 */
#include "fake/emulate.h"

/* --- native execution --- */

struct native {
    uint64_t r[16]; /* by number: rax rcx rdx rbx rsp rbp rsi rdi r8.. */
    uint64_t flags;
};
struct native native_state __attribute__((used));
uint64_t native_host_rsp __attribute__((used)), native_tmp __attribute__((used));
void *native_code __attribute__((used));
void native_run(void);
void native_back(void);
__asm__(".text\n"
        "native_run:\n"
        "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "  mov %rsp, native_host_rsp(%rip)\n"
        "  push 128+native_state(%rip); popfq\n"
        "  mov 0+native_state(%rip), %rax\n  mov 8+native_state(%rip), %rcx\n"
        "  mov 16+native_state(%rip), %rdx\n  mov 24+native_state(%rip), %rbx\n"
        "  mov 32+native_state(%rip), %rsp\n  mov 40+native_state(%rip), %rbp\n"
        "  mov 48+native_state(%rip), %rsi\n  mov 56+native_state(%rip), %rdi\n"
        "  mov 64+native_state(%rip), %r8\n  mov 72+native_state(%rip), %r9\n"
        "  mov 80+native_state(%rip), %r10\n  mov 88+native_state(%rip), %r11\n"
        "  mov 96+native_state(%rip), %r12\n  mov 104+native_state(%rip), %r13\n"
        "  mov 112+native_state(%rip), %r14\n  mov 120+native_state(%rip), %r15\n"
        "  jmp *native_code(%rip)\n"
        "native_back:\n"
        "  mov %rsp, 32+native_state(%rip)\n"
        "  mov native_host_rsp(%rip), %rsp\n"
        "  pushfq; pop 128+native_state(%rip)\n"
        "  mov %rax, 0+native_state(%rip)\n  mov %rcx, 8+native_state(%rip)\n"
        "  mov %rdx, 16+native_state(%rip)\n  mov %rbx, 24+native_state(%rip)\n"
        "  mov %rbp, 40+native_state(%rip)\n"
        "  mov %rsi, 48+native_state(%rip)\n  mov %rdi, 56+native_state(%rip)\n"
        "  mov %r8, 64+native_state(%rip)\n  mov %r9, 72+native_state(%rip)\n"
        "  mov %r10, 80+native_state(%rip)\n  mov %r11, 88+native_state(%rip)\n"
        "  mov %r12, 96+native_state(%rip)\n  mov %r13, 104+native_state(%rip)\n"
        "  mov %r14, 112+native_state(%rip)\n  mov %r15, 120+native_state(%rip)\n"
        "  cld\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "  ret\n");

static uint8_t before[AREA]; /* the data as it was, for messages */

/* Values at which carries and signs turn are as likely as any. */
static uint64_t interesting(void)
{
    static const uint64_t v[] = {0,
                                 1,
                                 ~0UL,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0x8000,
                                 0xffff,
                                 0x7fffffff,
                                 0x80000000,
                                 0xffffffff,
                                 0x7fffffffffffffffUL,
                                 0x8000000000000000UL};
    return rnd() % 2 ? v[rnd() % (sizeof(v) / sizeof(v[0]))] : rnd();
}

#define M      1u
#define BYTE   2u
#define I8     4u
#define IZ     8u
#define LOCK   16u /* may be locked on memory */
#define MEM    32u /* memory only */
#define OFFS   64u
#define DIGITS 128u /* digit of the group in `digits` */
#define BITS   256u /* bit number in a register */
#define TWO    512u
#define ROW    1024u /* sixteen opcodes */

struct form {
    uint8_t opcode;
    unsigned attr;
    uint8_t digits; /* bit d: digit d */
    uint8_t lockable;
    uint64_t undefined;
};

static const struct form forms[] = {
    {0x63, M, 0, 0, 0},
    {0x80, M | BYTE | I8 | DIGITS | LOCK, 0xff, 0x7f, 0},
    {0x81, M | IZ | DIGITS | LOCK, 0xff, 0x7f, 0},
    {0x83, M | I8 | DIGITS | LOCK, 0xff, 0x7f, 0},
    {0x84, M | BYTE, 0, 0, 0},
    {0x85, M, 0, 0, 0},
    {0x86, M | BYTE | LOCK, 0, 0, 0},
    {0x87, M | LOCK, 0, 0, 0},
    {0x88, M | BYTE, 0, 0, 0},
    {0x89, M, 0, 0, 0},
    {0x8a, M | BYTE, 0, 0, 0},
    {0x8b, M, 0, 0, 0},
    {0xa0, BYTE | OFFS, 0, 0, 0},
    {0xa1, OFFS, 0, 0, 0},
    {0xa2, BYTE | OFFS, 0, 0, 0},
    {0xa3, OFFS, 0, 0, 0},
    {0xa8, BYTE | I8, 0, 0, 0},
    {0xa9, IZ, 0, 0, 0},
    {0xc6, M | BYTE | I8 | DIGITS, 1, 0, 0},
    {0xc7, M | IZ | DIGITS, 1, 0, 0},
    {0xf6, M | BYTE | I8 | DIGITS, 3, 0, 0},
    {0xf7, M | IZ | DIGITS, 3, 0, 0},
    {0xf6, M | BYTE | DIGITS | LOCK, 0xc, 0xc, 0},
    {0xf7, M | DIGITS | LOCK, 0xc, 0xc, 0},
    {0xfe, M | BYTE | DIGITS | LOCK, 3, 3, 0},
    {0xff, M | DIGITS | LOCK, 3, 3, 0},
    {0xa3, TWO | M | BITS, 0, 0, OF | SF | AF | PF},
    {0xab, TWO | M | BITS | LOCK, 0, 0, OF | SF | AF | PF},
    {0xb3, TWO | M | BITS | LOCK, 0, 0, OF | SF | AF | PF},
    {0xbb, TWO | M | BITS | LOCK, 0, 0, OF | SF | AF | PF},
    {0xba, TWO | M | I8 | DIGITS, 0x10, 0, OF | SF | AF | PF},
    {0xba, TWO | M | I8 | DIGITS | LOCK, 0xe0, 0xe0, OF | SF | AF | PF},
    {0xb0, TWO | M | BYTE | LOCK, 0, 0, 0},
    {0xb1, TWO | M | LOCK, 0, 0, 0},
    {0xb6, TWO | M, 0, 0, 0},
    {0xb7, TWO | M, 0, 0, 0},
    {0xbe, TWO | M, 0, 0, 0},
    {0xbf, TWO | M, 0, 0, 0},
    {0xc0, TWO | M | BYTE | LOCK, 0, 0, 0},
    {0xc1, TWO | M | LOCK, 0, 0, 0},
    {0xc3, TWO | M | MEM, 0, 0, 0},
    {0x40, TWO | M | ROW, 0, 0, 0},
    {0x90, TWO | M | BYTE | ROW, 0, 0, 0},
    {0xc0, M | BYTE | I8 | DIGITS, 0xff, 0, CF | OF | AF},
    {0xc1, M | I8 | DIGITS, 0xff, 0, CF | OF | AF},
    {0xd0, M | BYTE | DIGITS, 0xff, 0, AF},
    {0xd1, M | DIGITS, 0xff, 0, AF},
    {0xd2, M | BYTE | DIGITS, 0xff, 0, CF | OF | AF},
    {0xd3, M | DIGITS, 0xff, 0, CF | OF | AF},
};
/* And the eight rows of arithmetic, six forms each: number 0 to 47. */

static struct form form_of(unsigned n)
{
    static const unsigned attrs[6] = {M | BYTE | LOCK, M | LOCK, M | BYTE, M, BYTE | I8, IZ};
    if (n >= 48) {
        struct form row = forms[n - 48];
        if (row.attr & ROW)
            row.opcode += rnd() % 16;
        return row;
    }
    struct form f = {.opcode = n / 6 * 8 + n % 6, .attr = attrs[n % 6]};
    if (n / 6 == 7)
        f.attr &= ~LOCK; /* cmp */
    if (n / 6 == 1 || n / 6 == 4 || n / 6 == 6)
        f.undefined = AF;
    return f;
}

struct built {
    uint8_t bytes[32];
    unsigned n, reg;
    bool is_mem;
};

static void put(struct built *b, uint64_t v, unsigned n)
{
    memcpy(b->bytes + b->n, &v, n);
    b->n += n;
}

/*
 * ModRM and what follows. Memory operands stay within the buffer: rbx and r13 point into its
 * middle, rsi to its beginning, rdi and r12 are small numbers. Returns where a rip-relative
 * displacement stands, to be finished when the length is known; 0 otherwise.
 */
static unsigned put_modrm(struct built *b, unsigned reg, bool mem, uint8_t *rex, unsigned rex_at)
{
    unsigned r = (reg & 7) << 3, disp = rnd() % 2 ? 8 + rnd() % 32 : -(8 + rnd() % 32);
    b->is_mem = mem;
    if (!mem) {
        put(b, 0xc0 | r | rnd() % 8, 1);
        return 0;
    }
    switch (rnd() % 6) {
    case 0: /* disp8(rbx) */
        *rex &= ~1;
        put(b, 0x40 | r | 3, 1);
        put(b, disp, 1);
        return 0;
    case 1: /* (rbx) */
        *rex &= ~1;
        put(b, r | 3, 1);
        return 0;
    case 2: /* disp32(rsi, rdi, scale), or r12 as index */
        *rex &= ~1;
        put(b, 0x80 | r | 4, 1);
        put(b, (rnd() % 4) << 6 | ((*rex & 2 ? 4 : 7) << 3) | 6, 1);
        put(b, 1024 + rnd() % 64, 4);
        return 0;
    case 3: /* disp8(r13) needs REX.B */
        if (!rex_at)
            break;
        *rex |= 1;
        put(b, 0x40 | r | 5, 1);
        put(b, disp, 1);
        return 0;
    case 4: /* an absolute address: SIB without base or index */
        *rex &= ~2;
        put(b, r | 4, 1);
        put(b, 0x25, 1);
        put(b, (uint64_t)memory + 1536 + rnd() % 64, 4);
        return 0;
    }
    put(b, r | 5, 1); /* rip-relative */
    put(b, 0, 4);
    return b->n - 4;
}

/* Registers that random_state() makes addresses and indices. */
static bool is_pointer(unsigned reg)
{
    return reg == 3 || reg == 13 || reg == 6 || reg == 7 || reg == 12;
}

static bool build(struct built *b, const struct form *f)
{
    bool mem = (f->attr & MEM) || ((f->attr & M) && rnd() % 3);
    unsigned reg = rnd() % 16, relative = 0, rex_at = 0;
    uint8_t rex = 0;
    bool op16 = rnd() % 4 == 0;
    *b = (struct built){.n = 0};
    if (f->attr & DIGITS)
        do
            reg = rnd() % 8;
        while (!(f->digits >> reg & 1));
    while ((f->attr & BITS) && mem && is_pointer(reg))
        reg = rnd() % 16;
    b->reg = reg;
    if (f->opcode == 0xc3 && (f->attr & TWO))
        op16 = false;
    if (op16)
        put(b, 0x66, 1);
    if (rnd() % 8 == 0)
        put(b, 0x3e, 1);
    if ((f->attr & LOCK) && mem && (!(f->attr & DIGITS) || (f->lockable >> reg & 1)) && rnd() % 2)
        put(b, 0xf0, 1);
    if (rnd() % 2 || reg >= 8) {
        rex = 0x40 | rnd() % 16;
        rex = reg >= 8 ? rex | 4 : rex & ~4;
        rex_at = b->n + 1;
        put(b, rex, 1);
    }
    if (f->attr & TWO)
        put(b, 0x0f, 1);
    put(b, f->opcode, 1);
    if (f->attr & M)
        relative = put_modrm(b, reg, mem, &rex, rex_at);
    if (f->attr & OFFS) {
        put(b, (uint64_t)memory + 700 + rnd() % 64, 8);
        b->is_mem = true;
    }
    if (rex_at)
        b->bytes[rex_at - 1] = rex;
    if (f->attr & I8)
        put(b, interesting(), 1);
    if (f->attr & IZ) {
        unsigned size = f->attr & BYTE ? 1 : (rex & 8) ? 4 : op16 ? 2 : 4;
        put(b, interesting(), size);
    }
    if (relative) {
        int32_t d = (int32_t)(memory + 800 + rnd() % 64 - (code + b->n));
        memcpy(b->bytes + relative, &d, 4);
    }
    return b->n <= 15;
}

static void random_state(struct native *s)
{
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = interesting();
    s->r[3] = (uint64_t)memory + 2048 + rnd() % 64; /* rbx */
    s->r[13] = (uint64_t)memory + 2048 + rnd() % 64;
    s->r[6] = (uint64_t)memory + rnd() % 64; /* rsi */
    s->r[7] = rnd() % 16;
    s->r[12] = rnd() % 16;
    s->flags = 0x202 | (rnd() & ARITH);
    for (unsigned i = 0; i < AREA; i += 8)
        *(uint64_t *)(memory + i) = rnd() % 4 ? rnd() : 0;
}

static void bound_bit_number(struct native *s, const struct built *b, const struct form *f)
{
    if ((f->attr & BITS) && b->is_mem)
        for (unsigned i = 0; i < 16; i++)
            if (!is_pointer(i))
                s->r[i] = (uint64_t)((int64_t)(rnd() % 2048) - 1024);
}

static void run_native(const struct built *b, struct native *s)
{
    static const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};
    uint64_t back = (uint64_t)native_back;
    memset(code, 0xcc, 64);
    memcpy(code, b->bytes, b->n);
    memcpy(code + b->n, jump, sizeof(jump));
    memcpy(code + b->n + sizeof(jump), &back, sizeof(back));
    native_state = *s;
    native_code = code;
    native_run();
    *s = native_state;
}

static const char *hex(const struct built *b)
{
    static char text[64];
    for (unsigned i = 0; i < b->n; i++)
        snprintf(text + 3 * i, 4, "%02x ", b->bytes[i]);
    return text;
}

static void compare(const struct built *b, const struct native *was, const struct native *is,
                    uint64_t undefined)
{
    ready();
    for (unsigned i = 0; i < 16; i++)
        *slot(&regs, i) = was->r[i];
    regs.rflags = was->flags;
    enum emulate_result r = emulate_one(&ctx);
    if (r != EMULATE_OK)
        fail_msg("%s: result %d vector %d", hex(b), r, ctx.vector);
    if (ctx.length != b->n || regs.rip != (uint64_t)code + b->n)
        fail_msg("%s: length %u", hex(b), ctx.length);
    for (unsigned i = 0; i < 16; i++)
        if (*slot(&regs, i) != is->r[i])
            fail_msg("%s: register %u is %lx, should be %lx, was %lx", hex(b), i, *slot(&regs, i),
                     is->r[i], was->r[i]);
    if ((regs.rflags ^ is->flags) & (ARITH | DF) & ~undefined)
        fail_msg("%s: flags %lx, should be %lx, were %lx", hex(b), regs.rflags & (ARITH | DF),
                 is->flags & (ARITH | DF), was->flags & ARITH);
    for (unsigned i = 0; i < AREA; i++)
        if (shadow[i] != memory[i])
            fail_msg("%s: memory at %u is %02x, should be %02x, was %02x", hex(b), i, shadow[i],
                     memory[i], before[i]);
}

/* AF after or, and, xor, test is left open by the manual. */
static uint64_t undefined_flags(const struct form *f, const struct built *b)
{
    static const uint8_t logic_digits = 1 << 1 | 1 << 4 | 1 << 6;
    if (f->attr & TWO)
        return f->undefined;
    switch (f->opcode) {
    case 0x80 ... 0x83:
        return logic_digits >> b->reg & 1 ? AF : 0;
    case 0x84:
    case 0x85:
    case 0xa8:
    case 0xa9:
        return AF;
    case 0xf6:
    case 0xf7:
        return b->reg < 2 ? AF : 0;
    default:
        return f->undefined;
    }
}

static void differential(unsigned rounds)
{
    unsigned kinds = 48 + sizeof(forms) / sizeof(forms[0]);
    for (unsigned i = 0; i < rounds; i++) {
        struct form f = form_of(i % kinds);
        struct native was, is;
        struct built b;
        if (!build(&b, &f))
            continue;
        random_state(&was);
        bound_bit_number(&was, &b, &f);
        if ((f.attr & TWO) && (f.opcode & 0xfe) == 0xb0 && rnd() % 2) { /* cmpxchg: equal */
            uint64_t same = rnd() % 2 ? ~0UL : 0;
            memset(memory, (int)same, AREA);
            was.r[0] = same;
        }
        memcpy(before, memory, AREA);
        memcpy(shadow, memory, AREA);
        is = was;
        run_native(&b, &is);
        compare(&b, &was, &is, undefined_flags(&f, &b));
    }
}

static void test_against_cpu(void **state)
{
    with_cmpxchg = true;
    differential(300000);
}

/* Memory written by plain writes: nothing is locked then, for want of the effect. */
static void test_against_cpu_without_cmpxchg(void **state)
{
    with_cmpxchg = false;
    for (unsigned i = 0; i < 20000; i++) {
        struct form f = form_of(i % 48);
        struct native was, is;
        struct built b;
        f.attr &= ~LOCK;
        if (!build(&b, &f))
            continue;
        random_state(&was);
        memcpy(shadow, memory, AREA);
        is = was;
        run_native(&b, &is);
        compare(&b, &was, &is, undefined_flags(&f, &b));
    }
    with_cmpxchg = true;
}

static void test_wide_cmpxchg(void **state)
{
    for (unsigned i = 0; i < 4000; i++) {
        struct native was, is;
        struct built b = {.n = 0};
        bool wide = i & 1;
        if (i & 2)
            put(&b, 0xf0, 1);
        if (wide)
            put(&b, 0x48, 1);
        put(&b, 0x0bc70f, 3); /* (rbx) */
        random_state(&was);
        was.r[3] = (uint64_t)memory + 2048;
        if (i & 4) {
            memcpy(&was.r[0], memory + 2048, 8);
            memcpy(&was.r[2], memory + 2056, 8);
            if (!wide) {
                was.r[2] = rnd() << 32 | was.r[0] >> 32;
                was.r[0] = rnd() << 32 | (uint32_t)was.r[0];
            }
        }
        memcpy(before, memory, AREA);
        memcpy(shadow, memory, AREA);
        is = was;
        run_native(&b, &is);
        compare(&b, &was, &is, 0);
    }
}

static void test_strings_against_cpu(void **state)
{
    static const uint8_t ops_[] = {0xa4, 0xa5, 0xaa, 0xab, 0xa6, 0xa7, 0xac, 0xad, 0xae, 0xaf};
    for (unsigned i = 0; i < 20000; i++) {
        struct native was, is;
        struct built b = {.n = 0};
        bool rep = rnd() % 2;
        if (rnd() % 4 == 0)
            put(&b, 0x66, 1);
        if (rnd() % 4 == 0)
            put(&b, 0x67, 1);
        if (rep)
            put(&b, rnd() % 2 ? 0xf3 : 0xf2, 1);
        if (rnd() % 3 == 0)
            put(&b, 0x48, 1);
        put(&b, ops_[rnd() % sizeof(ops_)], 1);
        random_state(&was);
        was.r[1] = rep ? rnd() % 40 : interesting();
        was.r[6] = (uint64_t)memory + 1024 + rnd() % 512;
        was.r[7] = (uint64_t)memory + 1024 + rnd() % 512;
        was.flags = 0x202 | (rnd() & (ARITH | DF));
        if (rnd() % 2) { /* comparisons find something now and then */
            memset(memory, 0x11, AREA);
            memory[1024 + rnd() % 512] = 0x22;
            was.r[0] = 0x1111111111111111UL;
        }
        memcpy(before, memory, AREA);
        memcpy(shadow, memory, AREA);
        is = was;
        run_native(&b, &is);
        compare(&b, &was, &is, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_cpu),
        cmocka_unit_test(test_against_cpu_without_cmpxchg),
        cmocka_unit_test(test_wide_cmpxchg),
        cmocka_unit_test(test_strings_against_cpu),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
