/*
 * Is every exception delivered to the kernel with the right frame? Faults of our own code with
 * their error codes and cr2, software interrupts by the privilege of their gate, nesting, the
 * event mask of a gate, what set_trap_table and callback_op refuse.
 */
#include "guest.h"
#include "traps.h"
#include <xen/callback.h>

const char test_name[] = "traps";

static uint8_t ro_page[PAGE_SIZE] __attribute__((aligned(4096)));

static void simple_faults(void)
{
    uint64_t x;
    struct trap *t = &this_cpu()->trap;

    section("faults of the kernel");
    TRY("ud2", ::);
    CHECK_TRAP(T_UD, 0);
    CHECK_EQ(t->regs.cs & 0xffff, FLAT_KERNEL_CS & ~3);
    CHECK_EQ(t->regs.ss & ~3UL, FLAT_KERNEL_SS & ~3);
    TRY("divl %%ecx", ::"a"(1), "d"(0), "c"(0));
    CHECK_TRAP(T_DE, 0);
    TRY("movq (%1), %0", : "=r"(x) : "r"(BAD_NONCANONICAL));
    CHECK_TRAP(T_GP, 0);
    TRY("movw %w0, %%es", ::"r"(0x1234));
    CHECK_TRAP(T_GP, 0x1234);
    TRY("movw %w0, %%fs", ::"r"(FIRST_RESERVED_GDT_BYTE + 8 * 100 + 3));
    CHECK_TRAP(T_GP, (FIRST_RESERVED_GDT_BYTE + 8 * 100) & 0xfffc);
    /* Privileged instructions that are not emulated. */
    TRY("lgdt %0", ::"m"(x));
    CHECK_TRAP(T_GP, 0);
    TRY("lidt %0", ::"m"(x));
    CHECK_TRAP(T_GP, 0);
    TRY("ltr %w0", ::"r"(0));
    CHECK_TRAP(T_GP, 0);
}

static void page_faults(void)
{
    struct trap *t = &this_cpu()->trap;
    uint64_t x;

    section("page faults of the kernel");
    CHECK(!try_read((void *)BAD_UNMAPPED, &x));
    CHECK_TRAP(T_PF, 0);
    CHECK_EQ(t->cr2, BAD_UNMAPPED);
    CHECK(!try_write((void *)(BAD_UNMAPPED + 5), x));
    CHECK_TRAP(T_PF, PF_W);
    CHECK_EQ(t->cr2, BAD_UNMAPPED + 5);
    CHECK_EQ(map_ro(ro_page), 0);
    CHECK(try_read(ro_page, &x));
    CHECK(!try_write(ro_page + 24, 1));
    CHECK_TRAP(T_PF, PF_P | PF_W);
    CHECK_EQ(t->cr2, ro_page + 24);
    CHECK_EQ(va_map(ro_page, MAKE_PTE(mfn_of(ro_page), PTE_KERN | PTE_NX)), 0);
    CHECK(!try_call((void (*)(void *))(uint64_t)ro_page, NULL));
    CHECK_TRAP(T_PF, PF_P | PF_I);
    CHECK_EQ(t->cr2, ro_page);
    CHECK_EQ(t->regs.rip, ro_page);
    CHECK_EQ(va_map(ro_page, 0), 0);
    CHECK(!try_read(ro_page, &x));
    CHECK_TRAP(T_PF, 0);
    CHECK_EQ(map_rw(ro_page), 0);
    CHECK(try_write(ro_page, 1));
    /* The hypervisor's own: whether its page is present is its secret, so bit 0 is left open. */
    CHECK(!try_read((void *)BAD_HYPERVISOR, &x));
    CHECK_EQ(t->vector, T_PF);
    CHECK_EQ(t->error & ~1UL, 0);
    CHECK_EQ(t->cr2, BAD_HYPERVISOR);
    CHECK(!try_write((void *)BAD_HYPERVISOR, 0));
    CHECK_EQ(t->vector, T_PF);
    CHECK_EQ(t->error & ~1UL, PF_W);
    CHECK(try_read(machine_to_phys_mapping, &x));
    CHECK(!try_write(machine_to_phys_mapping, 0));
    CHECK_EQ(t->vector, T_PF);
}

static void numeric_faults(void)
{
    uint16_t cw = 0x37f & ~4; /* unmask zero divide */
    uint32_t mxcsr = 0x1f80 & ~0x200, normal = 0x1f80;

    section("numeric faults");
    TRY("fwait", ::);
    CHECK_EQ(trapped(), 0);
    asm volatile("fninit; fldcw %0; fldz; fld1; fdiv %%st(1), %%st" ::"m"(cw));
    TRY("fwait", ::);
    CHECK_TRAP(T_MF, 0);
    asm volatile("fninit");
    asm volatile(
        "ldmxcsr %0; pxor %%xmm0, %%xmm0; movl $0x3f800000, %%eax; movd %%eax, %%xmm1" ::"m"(mxcsr)
        : "rax");
    TRY("divss %%xmm0, %%xmm1", ::);
    if (trapped())
        CHECK_TRAP(T_XM, 0);
    else
        print("  no #XM: this machine (QEMU TCG) does not raise it\n");
    asm volatile("ldmxcsr %0" ::"m"(normal));

    CHECK_EQ(HC(fpu_taskswitch, 1), 0);
    TRY("fnop", ::);
    CHECK_TRAP(T_NM, 0);
    TRY("movaps %%xmm0, %%xmm1", ::);
    /* Stock clears TS when it delivers #NM; Linux's handler clears it itself. */
    CHECK_EQ(HC(fpu_taskswitch, 0), 0);
    TRY("fnop", ::);
    CHECK_EQ(trapped(), 0);
}

/* --- software interrupts --- */
static volatile unsigned soft_vector;
static volatile uint64_t soft_rip, soft_cs, soft_flags;
static volatile bool soft_masked;

static bool soft_hook(struct regs *r)
{
    soft_vector = (unsigned)r->vector;
    soft_rip = r->rip;
    soft_cs = r->cs;
    soft_flags = r->rflags;
    soft_masked = vcpu_info(0)->evtchn_upcall_mask;
    return true;
}

static void soft_set(unsigned vector, unsigned flags)
{
    struct trap_info t[2] = {{.vector = (uint8_t)vector,
                              .flags = (uint8_t)flags,
                              .cs = FLAT_KERNEL_CS,
                              .address = (uint64_t)trap_entry_soft + (vector - 32) * SOFT_SIZE}};

    CHECK_EQ(HC(set_trap_table, t), 0);
    trap_set_hook(vector, soft_hook);
}

#define SOFT(n) (soft_vector = 0, soft_rip = 0, ({ TRY("int %0", ::"i"(n)); }))

static volatile unsigned int3_count;
static volatile uint64_t int3_rip;
static bool int3_hook(struct regs *r)
{
    int3_count++;
    int3_rip = r->rip;
    return true;
}

static void breakpoints(void)
{
    uint64_t after;

    section("int3, int n and their gates");
    trap_set_hook(T_BP, int3_hook);
    asm volatile("int3; 1: lea 1b(%%rip), %0" : "=r"(after));
    CHECK_EQ(int3_count, 1);
    CHECK_EQ(int3_rip, after);
    asm volatile("int $3; 1: lea 1b(%%rip), %0" : "=r"(after));
    CHECK_EQ(int3_count, 2);
    CHECK_EQ(int3_rip, after);

    /*
     * The gate of vectors from 32 is the hypervisor's, so #GP tells it the vector. QEMU before 10
     * doubles that vector (platform.md): both get a handler, either answer passes.
     */
    soft_set(0x21, 1);
    soft_set(0x42, 1);
    SOFT(0x21);
    CHECK_EQ(trapped(), 0);
    CHECK_IN(soft_vector, 0x21, 0x42);
    CHECK_EQ(soft_cs & 3, 0);
    soft_set(0x21, 3 | 4);
    soft_set(0x42, 3 | 4);
    events_on();
    SOFT(0x21);
    CHECK_IN(soft_vector, 0x21, 0x42);
    CHECK_EQ(soft_masked, 1);                      /* inside: masked by the gate's flag */
    CHECK_EQ(soft_flags & 0x200, 0x200);           /* in the frame: IF as before */
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_mask, 0); /* after: iret restored it */
    soft_set(0x21, 3);
    soft_set(0x42, 3);
    SOFT(0x21);
    CHECK_EQ(soft_masked, 0);
    events_off();
    SOFT(0x21);
    CHECK_EQ(soft_masked, 1);
    CHECK_EQ(soft_flags & 0x200, 0);
    /* Level 0: no one may enter by a software interrupt. */
    soft_set(0x21, 0);
    soft_set(0x42, 0);
    SOFT(0x21);
    CHECK_EQ(soft_vector, 0);
    CHECK_EQ(trapped(), 1);
    CHECK_EQ(this_cpu()->trap.vector, T_GP);
    CHECK_IN(this_cpu()->trap.error, 0x21 * 8 + 2, 0x21 * 16 + 2);
    /* No handler at all. */
    SOFT(0x22);
    CHECK_EQ(trapped(), 1);
    CHECK_EQ(this_cpu()->trap.vector, T_GP);
    soft_set(0x80, 3);
    SOFT(0x80);
    CHECK_EQ(soft_vector, 0x80);
}

/* --- nesting: a handler that faults itself --- */
static volatile unsigned nested_depth;

static bool nesting_hook(struct regs *r)
{
    if (nested_depth < 8) {
        nested_depth++;
        asm volatile("ud2");
    }
    r->rip += 2;
    return true;
}

static void nested(void)
{
    section("nested faults");
    trap_set_hook(T_UD, nesting_hook);
    asm volatile("ud2");
    CHECK_EQ(nested_depth, 8);
    trap_set_hook(T_UD, NULL);
}

static volatile uint64_t seen_dr6, seen_flags;
static volatile unsigned db_count;

static bool db_hook(struct regs *r)
{
    uint64_t flags;

    db_count++;
    seen_dr6 = (uint64_t)HC(get_debugreg, 6);
    asm volatile("pushf; pop %0" : "=r"(flags));
    seen_flags = flags;
    r->rflags &= ~0x100UL;
    return true;
}

static void single_step(void)
{
    section("single step");
    trap_set_hook(T_DB, db_hook);
    HC(set_debugreg, 6, 0);
    asm volatile("pushf; orl $0x100, (%%rsp); popf; nop; nop" ::: "cc", "memory");
    CHECK_EQ(db_count, 1);
    CHECK_EQ(seen_dr6 & 0x4000, 0x4000);
    CHECK_EQ(seen_flags & 0x100, 0); /* the handler itself is not stepped */
    trap_set_hook(T_DB, NULL);
}

static void table_refusals(void)
{
    struct trap_info t[3] = {{.vector = 0x23, .flags = 3, .cs = FLAT_KERNEL_CS, .address = 0}};

    section("set_trap_table and callback_op refusals");
    CHECK_EQ(HC(set_trap_table, t), 0);
    t[0].address = BAD_NONCANONICAL;
    CHECK_EQ(HC(set_trap_table, t), -XEN_EINVAL);
    CHECK_EQ(HC(set_trap_table, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(set_trap_table, BAD_HYPERVISOR), -XEN_EFAULT);
    CHECK_EQ(HC(set_trap_table, BAD_NONCANONICAL), -XEN_EFAULT);

    struct callback_register cb = {.type = 200, .address = (uint64_t)entry_event};
    struct callback_unregister un = {.type = CALLBACKTYPE_event};

    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), -XEN_ENOSYS);
    cb.type = CALLBACKTYPE_event;
    cb.address = BAD_NONCANONICAL;
    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), -XEN_EINVAL);
    CHECK_EQ(HC(callback_op, CALLBACKOP_register, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(callback_op, CALLBACKOP_unregister, &un), -XEN_EINVAL);
    un.type = 200;
    CHECK_EQ(HC(callback_op, CALLBACKOP_unregister, &un), -XEN_ENOSYS);
    un.type = CALLBACKTYPE_nmi;
    CHECK_EQ(HC(callback_op, CALLBACKOP_unregister, &un), 0);
    CHECK_EQ(HC(callback_op, 7, &un), -XEN_ENOSYS);
    CHECK_EQ(HC(set_callbacks, entry_event, entry_failsafe, entry_syscall), 0);
}

static volatile unsigned nmi_count;
static bool nmi_hook(struct regs *r)
{
    (void)r;
    nmi_count++;
    return true;
}

static void nmi(void)
{
    struct callback_register cb = {.type = CALLBACKTYPE_nmi, .address = (uint64_t)entry_nmi};

    section("NMI by vcpu_op");
    trap_set_hook(ENTRY_NMI, nmi_hook);
    CHECK_EQ(HC(callback_op, CALLBACKOP_register, &cb), 0);
    CHECK_EQ(HC(vcpu_op, VCPUOP_send_nmi, 0, 0), 0);
    CHECK_EQ(nmi_count, 1);
    CHECK_EQ(HC(vcpu_op, VCPUOP_send_nmi, 0, 0), 0);
    CHECK_EQ(nmi_count, 2);
}

void test_main(void)
{
    simple_faults();
    page_faults();
    numeric_faults();
    breakpoints();
    nested();
    single_step();
    table_refusals();
    nmi();
    user_mode();
}
