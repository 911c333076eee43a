/*
 * Hostile CPU state at the hypervisor's doors: flags that a careless entry would keep (NT, DF, TF,
 * AC), breakpoints on what it touches for us, the delayed trap behind a load of SS, GS bases
 * that point into the hypervisor, every software interrupt, system call instructions of all kinds.
 * What counts is that hypervisor and guest go on as if nothing had happened.
 */
#include "guest.h"

const char test_name[] = "tricks";

static volatile unsigned db_count;
static volatile uint64_t db_rip;

static bool db_hook(struct regs *r)
{
    db_count++;
    db_rip = r->rip;
    r->rflags &= ~0x100UL;
    return true;
}

static bool alive(void)
{
    struct xen_feature_info f = {.submap_idx = 0};

    return HC(xen_version, XENVER_version, 0) == (4 << 16 | 17) &&
           HC(xen_version, XENVER_get_features, &f) == 0 && f.submap;
}

/* A hypercall by the instruction itself with @set in the flags. */
static long call_with_flags(uint64_t set, uint64_t nr, uint64_t a, void *b)
{
    long ret;
    uint64_t save;

    asm volatile("pushfq; pop %[save]\n"
                 "mov %[save], %%r8; or %[set], %%r8; push %%r8; popfq\n"
                 "syscall\n"
                 "push %[save]; popfq\n"
                 : "=a"(ret), [save] "=&b"(save), "+D"(a), "+S"(b)
                 : "0"(nr), [set] "r"(set)
                 : "rcx", "r11", "r8", "r9", "r10", "rdx", "memory", "cc");
    return ret;
}

static void flags(void)
{
    static char text[2][1024];
    static const uint64_t sets[] = {1UL << 14 /* NT */, 1UL << 10 /* DF */, 1UL << 18 /* AC */,
                                    1UL << 21 /* ID */, 1UL << 14 | 1UL << 10 | 1UL << 18};

    section("hypercalls with odd flags");
    CHECK_EQ(HC(xen_version, XENVER_capabilities, text[0]), 0);
    for (unsigned i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
        memset(text[1], 0x55, sizeof(text[1]));
        CHECK_EQ(call_with_flags(sets[i], __HYPERVISOR_xen_version, XENVER_capabilities, text[1]),
                 0);
        CHECK_EQ(memcmp(text[0], text[1], 16), 0);
        CHECK(alive());
    }
    section("a hypercall stepped through");
    trap_set_hook(T_DB, db_hook);
    db_count = 0;
    CHECK_EQ(call_with_flags(1UL << 8, __HYPERVISOR_xen_version, XENVER_version, NULL),
             4 << 16 | 17);
    CHECK(db_count <= 1); /* once at most: the hook ends it */
    CHECK(alive());

    section("traps with odd flags");
    for (unsigned i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
        /* Loading flags and trapping at once. */
        TRY("ud2", ::);
        CHECK_TRAP(T_UD, 0);
        uint64_t set = sets[i] | 2;

        trap_forget();
        asm volatile("pushfq; push %0; popfq\n1: ud2\n2: popfq\n"
                     ".pushsection .extable, \"a\"\n.quad 1b, 2b\n.popsection" ::"r"(set)
                     : "memory", "cc");
        CHECK_EQ(this_cpu()->trap.count, 1);
        CHECK_EQ(this_cpu()->trap.vector, T_UD);
        CHECK(alive());
    }
}

static void breakpoints(void)
{
    static volatile uint64_t buffer[128] __attribute__((aligned(64)));
    static volatile uint16_t selector = FLAT_KERNEL_SS;
    uint64_t stack_at;

    section("breakpoints on what the hypervisor touches for us");
    trap_set_hook(T_DB, db_hook);
    /* A buffer that it writes, one that it reads. */
    CHECK_EQ(HC(set_debugreg, 0, &buffer[0]), 0);
    CHECK_EQ(HC(set_debugreg, 7, 0x000f0001), 0); /* reads and writes of eight bytes */
    CHECK_EQ(HC(xen_version, XENVER_capabilities, buffer), 0);
    HC(xen_version, XENVER_get_features, buffer);
    CHECK_EQ(HC(set_debugreg, 7, 0), 0);
    CHECK(alive());
    /* The stack that a trap is bounced onto. */
    asm volatile("mov %%rsp, %0" : "=r"(stack_at));
    CHECK_EQ(HC(set_debugreg, 0, (stack_at - 64) & ~7UL), 0);
    CHECK_EQ(HC(set_debugreg, 1, (stack_at - 96) & ~7UL), 0);
    CHECK_EQ(HC(set_debugreg, 7, 0x00dd0005), 0); /* writes */
    for (int i = 0; i < 4; i++)
        TRY("ud2", ::);
    CHECK_EQ(HC(set_debugreg, 7, 0), 0);
    CHECK(alive());

    section("a trap held back by a load of SS");
    CHECK_EQ(HC(set_debugreg, 0, &selector), 0);
    for (int i = 0; i < 3; i++) {
        long ret = -1;

        CHECK_EQ(HC(set_debugreg, 7, 0x00070001), 0); /* reads and writes of two bytes */
        switch (i) {
        case 0:
            asm volatile("movw %1, %%ss\n syscall"
                         : "=a"(ret)
                         : "m"(selector), "0"((long)__HYPERVISOR_xen_version), "D"(0L), "S"(0L)
                         : "rcx", "r11", "memory");
            CHECK_EQ(ret, 4 << 16 | 17);
            break;
        case 1:
            trap_forget();
            asm volatile("movw %0, %%ss\n1: ud2\n2:\n"
                         ".pushsection .extable, \"a\"\n.quad 1b, 2b\n.popsection" ::"m"(selector)
                         : "memory");
            CHECK_EQ(trapped(), 1);
            break;
        default:
            TRY("movw %0, %%ss\n nop", ::"m"(selector) : "memory");
        }
        CHECK_EQ(HC(set_debugreg, 7, 0), 0);
        CHECK(alive());
    }
    asm volatile("mov %0, %%ss" ::"r"(FLAT_KERNEL_SS));
    section("icebp");
    db_count = 0;
    TRY(".byte 0xf1", ::); /* QEMU's TCG does not know it: #UD */
    CHECK(db_count == 1 || (trapped() && this_cpu()->trap.vector == T_UD));
    CHECK(alive());
}

static void bases(void)
{
    section("segment bases inside the hypervisor");
    static const uint64_t where[] = {BAD_HYPERVISOR, HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END - 8,
                                     ~0UL,           0x7fffffffffff,        0};

    for (unsigned i = 0; i < sizeof(where) / sizeof(*where); i++) {
        HC(set_segment_base, SEGBASE_GS_KERNEL, where[i]);
        HC(set_segment_base, SEGBASE_GS_USER, where[i]);
        HC(set_segment_base, SEGBASE_FS, where[i]);
        TRY("ud2", ::);
        CHECK_TRAP(T_UD, 0);
        CHECK(alive());
        HC(sched_op, SCHEDOP_yield, 0);
        time_spin(5000000); /* the machine's interrupts come meanwhile */
        CHECK(alive());
    }
}

/* --- user mode --- */
extern char u_sysenter[], u_ss[], u_flags_syscall[], u_gs[], u_end[];
asm(".text\n"
    "u_sysenter: sysenter\n syscall\n"
    "u_ss: mov (%rdi), %ss\n syscall\n"
    "u_flags_syscall: push %rdi\n popfq\n syscall\n"
    "u_gs: mov %edi, %gs\n mov %edi, %fs\n mov %edi, %es\n mov %edi, %ds\n syscall\nu_end:\n");

static void of_user(void)
{
    static volatile uint16_t selector = FLAT_USER_SS;
    uint8_t *code = page_alloc();
    struct regs r;
    unsigned gp = 0, other = 0;

    section("every software interrupt of user mode");
    user_setup();
    trap_set_hook(T_DB, NULL);
    for (unsigned n = 0; n < 256; n++) {
        memcpy(code, (uint8_t[]){0xcd, (uint8_t)n, 0x0f, 0x05}, 4);
        user_regs(&r, code);
        user_run(&r, 0);
        if (r.vector == T_GP && r.rip == (uint64_t)code) {
            gp++;
            continue;
        }
        /* Breakpoint and overflow have open gates; what else returns is a plain trap behind it. */
        other++;
        /* QEMU 7.2 tells the hypervisor vector 2n (platform.md): 2 and 0x82 seem to be 4. */
        if (n != 3 && n != 4 && r.vector != ENTRY_SYSCALL && r.vector != (n * 2 & 0xff)) {
            print("  int 0x%x: vector %lu error 0x%lx\n", n, r.vector, r.error);
            CHECK(!"only open gates are entered");
        }
    }
    CHECK(gp >= 252);
    print("  %u refused, %u entered\n", gp, other);
    memcpy(code, (uint8_t[]){0xf1, 0x0f, 0x05}, 3);
    user_regs(&r, code);
    user_run(&r, 0);
    CHECK_IN(r.vector, T_DB, T_UD);

    section("system call instructions and selectors of user mode");
    user_regs(&r, u_sysenter);
    user_run(&r, 0);
    CHECK(r.vector == T_UD || r.vector == T_GP || r.vector == ENTRY_SYSENTER);
    static const uint64_t sets[] = {0x4202, 0x602, 0x40202, 0x200202, 0x302, 0xfffffffffffff};

    for (unsigned i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
        user_regs(&r, u_flags_syscall);
        r.rdi = sets[i];
        user_run(&r, 0);
        CHECK(r.vector == ENTRY_SYSCALL || r.vector == T_DB || r.vector == T_AC);
        CHECK_EQ(r.rflags & 0x3000, 0);
        CHECK(alive());
    }
    for (unsigned sel = 0; sel < 0x10000; sel += sel < 0x100 ? 1 : sel < 0xe000 ? 0x1001 : 8 + 3) {
        user_regs(&r, u_gs);
        r.rdi = sel;
        user_run(&r, 0);
        if (r.vector != ENTRY_SYSCALL && r.vector != T_GP && r.vector != T_NP) {
            print("  selector 0x%x: vector %lu\n", sel, r.vector);
            CHECK(!"a selector loads or faults");
        }
    }
    checks_passed++;
    CHECK(alive());

    section("a trap held back by a load of SS, of user mode");
    CHECK_EQ(HC(set_debugreg, 0, &selector), 0);
    CHECK_EQ(HC(set_debugreg, 7, 0x00070001), 0);
    user_regs(&r, u_ss);
    r.rdi = (uint64_t)&selector;
    user_run(&r, 0);
    CHECK_EQ(HC(set_debugreg, 7, 0), 0);
    CHECK(r.vector == ENTRY_SYSCALL || r.vector == T_DB);
    CHECK(alive());
    /* Stepping into a system call. */
    user_regs(&r, u_flags_syscall + 2);
    r.rflags = 0x302;
    user_run(&r, 0);
    CHECK(r.vector == ENTRY_SYSCALL || r.vector == T_DB);
    CHECK(alive());
}

void test_main(void)
{
    flags();
    breakpoints();
    bases();
    of_user();
    TRY("ud2", ::);
    CHECK_TRAP(T_UD, 0);
}
