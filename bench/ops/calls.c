/* Entering and leaving the hypervisor: hypercalls, and what it bounces to the guest's kernel. */
#include "ops.h"

static void null_call(unsigned n)
{
    while (n--)
        MUST(HC(xen_version, XENVER_version, 0));
}

static void multicall_32(unsigned n)
{
    static struct multicall_entry calls[32];
    while (n--) {
        for (unsigned i = 0; i < 32; i++)
            calls[i] = (struct multicall_entry){.op = __HYPERVISOR_xen_version};
        MUST(HC(multicall, calls, 32));
        MUST(calls[31].result);
    }
}

/*
 * The shortest kernel: each entry goes straight back by the iret hypercall. A frame is rcx, r11,
 * (error code,) rip, cs, rflags, rsp, ss; struct iret_context wants rax, r11, rcx, flags, rip ...
 */
extern char quick_syscall[], quick_fault[], user_syscalls[], user_faults[];
asm(".text\n"
    "quick_syscall: pop %rcx\n pop %r11\n pushq $0x100\n" /* VGCF_in_syscall */
    "push %rcx\n push %r11\n push %rax\n mov $23, %eax\n syscall\n"
    "quick_fault: pop %rcx\n pop %r11\n add $8, %rsp\n addq $3, (%rsp)\n pushq $0\n"
    "push %rcx\n push %r11\n push %rax\n mov $23, %eax\n syscall\n"
    "user_syscalls: syscall\n dec %rbx\n jnz user_syscalls\n ud2\n"
    "user_faults: movq (%rdi), %rax\n dec %rbx\n jnz user_faults\n ud2\n");

static void to_user(const char *code, unsigned n)
{
    struct regs r;
    user_regs(&r, code);
    r.rbx = n;
    r.rdi = BAD_UNMAPPED;
    user_run(&r, 0);
    if (r.vector != T_UD)
        failed("user mode ended otherwise", (long)r.vector);
}

static void syscall_setup(void)
{
    user_setup();
    MUST(HC(set_callbacks, entry_event, entry_failsafe, quick_syscall));
}

static void syscalls(unsigned n)
{
    to_user(user_syscalls, n);
}

static void fault_setup(void)
{
    static struct trap_info table[2] = {{.vector = T_PF, .cs = FLAT_KERNEL_CS}};
    table[0].address = (uint64_t)quick_fault;
    MUST(HC(set_trap_table, table));
}

static void faults(unsigned n)
{
    to_user(user_faults, n);
}

/* Privileged instructions that the hypervisor executes for a PV kernel. */
static void cpuid_fault(unsigned n)
{
    while (n--) {
        uint32_t a = 0, b, c = 0, d;
        asm volatile("ud2; .ascii \"xen\"; cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    }
}

static void fs_base(unsigned n)
{
    while (n--)
        MUST(HC(set_segment_base, SEGBASE_FS, n));
}

const struct op call_ops[] = {
    {"hypercall_null", NULL, null_call, 10000, 1},
    {"multicall_32", NULL, multicall_32, 500, 32},
    {"set_fs_base", NULL, fs_base, 5000, 1},
    {"cpuid_forced", NULL, cpuid_fault, 2000, 1},
    {"syscall_bounce", syscall_setup, syscalls, 5000, 1},
    {"page_fault_bounce", fault_setup, faults, 5000, 1},
    {0},
};
