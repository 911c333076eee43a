/*
 * Instructions that need ring 0, which a PV kernel does not have: those that are emulated give
 * what the guest may see, the others fault; user mode gets none of them. Ports, MSRs, CPUID,
 * control and debug registers, the I/O privilege level.
 */
#include "guest.h"
#include <xen/arch-x86/cpuid.h>
#include <xen/physdev.h>

const char test_name[] = "privileged";

static uint8_t inb(uint16_t port)
{
    uint8_t v = 0;

    TRY("inb %w1, %b0", : "+a"(v) : "d"(port));
    return v;
}

static uint32_t inl(uint16_t port)
{
    uint32_t v = 0;

    TRY("inl %w1, %0", : "+a"(v) : "d"(port));
    return v;
}

static void outl(uint16_t port, uint32_t v)
{
    TRY("outl %0, %w1", ::"a"(v), "d"(port));
}

static long set_iopl(unsigned level)
{
    struct physdev_set_iopl p = {.iopl = level};

    return HC(physdev_op, PHYSDEVOP_set_iopl, &p);
}

static void ports(void)
{
    static uint8_t buffer[16] = {0xff};
    uint16_t w;
    void *at = buffer;
    uint64_t n = 4;
    uint32_t id;

    section("ports");
    CHECK_EQ(set_iopl(1), 0);
    /* PCI configuration by its two ports: the host bridge is there. */
    outl(0xcf8, 0x80000000);
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(inl(0xcf8), 0x80000000);
    id = inl(0xcfc);
    CHECK_EQ(trapped(), 0);
    print("  PCI 00:00.0 is %x\n", id);
    CHECK(id != 0 && id != 0xffffffff);
    TRY("inw %w1, %w0", : "=a"(w) : "d"(0xcfe));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(w, id >> 16);
    CHECK_EQ(inb(0xcfd), id >> 8 & 0xff);
    TRY("outb %%al, $0x80", ::"a"(0)); /* the delay port, by an immediate */
    CHECK_EQ(trapped(), 0);
    inb(0x61);
    CHECK_EQ(trapped(), 0);
    /* The clock chip's index and data. */
    TRY("outb %%al, $0x70", ::"a"(0x0a));
    CHECK_EQ(trapped(), 0);
    inb(0x71);
    CHECK_EQ(trapped(), 0);
    /* Strings. */
    buffer[4] = 0xee;
    TRY("rep insb", : "+D"(at), "+c"(n) : "d"(0x71) : "memory");
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(n, 0);
    CHECK_EQ(at, buffer + 4);
    CHECK_EQ(buffer[4], 0xee);
    at = (void *)BAD_HYPERVISOR;
    n = 1;
    TRY("rep insb", : "+D"(at), "+c"(n) : "d"(0x71) : "memory");
    CHECK_EQ(trapped(), 1);
    CHECK_IN(this_cpu()->trap.vector, T_PF, T_GP);
    /* The hypervisor's devices: interrupt controllers, its timer. Reads are empty, writes lost. */
    inb(0x21);
    CHECK_EQ(trapped(), 0);
    TRY("outb %%al, $0x21", ::"a"(0xff));
    CHECK_EQ(trapped(), 0);
    TRY("outb %%al, $0x43", ::"a"(0x34));
    CHECK_EQ(trapped(), 0);
    uint64_t t = time_now();

    time_spin(20000000);
    CHECK(time_now() - t >= 20000000);

    section("iopl");
    CHECK_EQ(set_iopl(4), -XEN_EINVAL);
    CHECK_EQ(set_iopl(0), 0);
    inb(0x61);
    CHECK_IN(trapped(), 0, 1); /* a kernel at ring 1 needs 1, one at ring 3 counts as 0 or 1 */
    CHECK_EQ(set_iopl(1), 0);
    inb(0x61);
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(HC(physdev_op, PHYSDEVOP_set_iopl, BAD_UNMAPPED), -XEN_EFAULT);
}

extern char u_in[], u_in80[];
asm(".text\nu_in: inb $0x61, %al; syscall\nu_in80: inb $0x80, %al; syscall\n");

static void user_ports(void)
{
    static uint8_t bitmap[8192];
    struct physdev_set_iobitmap b = {.nr_ports = 65536};
    struct regs r;

    section("ports of user mode");
    user_setup();
    user_regs(&r, u_in);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_GP);
    CHECK_EQ(r.rip, u_in);
    CHECK_EQ(set_iopl(3), 0);
    user_regs(&r, u_in);
    user_run(&r, 0);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    CHECK_EQ(set_iopl(1), 0);
    /* Or port by port. */
    memset(bitmap, 0xff, sizeof(bitmap));
    bitmap[0x61 / 8] = (uint8_t) ~(1 << (0x61 % 8));
    b.bitmap.p = bitmap;
    CHECK_EQ(HC(physdev_op, PHYSDEVOP_set_iobitmap, &b), 0);
    user_regs(&r, u_in);
    user_run(&r, 0);
    CHECK_EQ(r.vector, ENTRY_SYSCALL);
    user_regs(&r, u_in80);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_GP);
    b.bitmap.p = NULL;
    b.nr_ports = 0;
    CHECK_EQ(HC(physdev_op, PHYSDEVOP_set_iobitmap, &b), 0);
    user_regs(&r, u_in);
    user_run(&r, 0);
    CHECK_EQ(r.vector, T_GP);
    b.nr_ports = 70000;
    CHECK_EQ(HC(physdev_op, PHYSDEVOP_set_iobitmap, &b), -XEN_EINVAL);
}

static bool rdmsr(uint32_t msr, uint64_t *v)
{
    uint32_t lo = 0, hi = 0;

    TRY("rdmsr", : "+a"(lo), "+d"(hi) : "c"(msr));
    *v = (uint64_t)hi << 32 | lo;
    return !trapped();
}

static bool wrmsr(uint32_t msr, uint64_t v)
{
    TRY("wrmsr", ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
    return !trapped();
}

static void msrs(void)
{
    uint64_t v, efer;

    section("model-specific registers");
    CHECK(rdmsr(0xc0000080, &efer)); /* EFER: syscall and long mode on, no virtualization */
    CHECK_EQ(efer & 0x501, 0x501);
    CHECK_EQ(efer & 0x1000, 0);
    CHECK(rdmsr(0x1b, &v)); /* APIC base: enabled */
    CHECK(rdmsr(0x10, &v));
    CHECK(!rdmsr(0xdead0000, &v));
    CHECK_TRAP(T_GP, 0);
    CHECK(!wrmsr(0xdead0000, 0));
    CHECK_TRAP(T_GP, 0);
    /* System call entry and the like are not the guest's: no harm from writing them. */
    wrmsr(0xc0000081, 0x1234567800000000);
    wrmsr(0xc0000082, (uint64_t)hypercall_page);
    wrmsr(0xc0000084, 0);
    wrmsr(0xc0000080, efer & ~1UL);
    wrmsr(0xc0000080, efer | 0x1000);
    wrmsr(0x1b, 0);
    wrmsr(0x277, 0x0007040600070406); /* PAT */
    wrmsr(0x174, 0);
    CHECK(HC(xen_version, XENVER_version, 0) > 0);
    CHECK(rdmsr(0xc0000080, &v));
    CHECK_EQ(v & 0x1501, efer & 0x1501);
}

static void xen_cpuid(uint32_t leaf, uint32_t sub, uint32_t *r)
{
    r[0] = leaf;
    r[2] = sub;
    TRY(XEN_CPUID, : "+a"(r[0]), "=b"(r[1]), "+c"(r[2]), "=d"(r[3]));
}

static void cpuid(void)
{
    uint32_t r[4], name[4];

    section("cpuid by the forced prefix");
    xen_cpuid(XEN_CPUID_LEAF(0), 0, r);
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(r[1], XEN_CPUID_SIGNATURE_EBX);
    CHECK_EQ(r[2], XEN_CPUID_SIGNATURE_ECX);
    CHECK_EQ(r[3], XEN_CPUID_SIGNATURE_EDX);
    CHECK(r[0] >= XEN_CPUID_LEAF(3));
    xen_cpuid(XEN_CPUID_LEAF(1), 0, r);
    CHECK_EQ(r[0], 4 << 16 | 17);
    xen_cpuid(XEN_CPUID_LEAF(2), 0, r);
    CHECK_EQ(r[0], 1); /* pages of hypercalls */
    CHECK_EQ(r[1] >> 16, 0x4000);
    xen_cpuid(XEN_CPUID_LEAF(3), 0, r); /* time: what scales the TSC */
    CHECK_EQ(trapped(), 0);
    xen_cpuid(0, 0, name);
    print("  cpuid 0: max %x %.4s%.4s%.4s\n", name[0], (char *)&name[1], (char *)&name[3],
          (char *)&name[2]);
    xen_cpuid(1, 0, r);
    CHECK(r[3] & 1u << 24);    /* FXSR */
    CHECK(r[3] & 1u << 26);    /* SSE2 */
    CHECK(!(r[2] & 1u << 5));  /* no VMX */
    CHECK(!(r[3] & 1u << 3));  /* no large pages */
    CHECK(!(r[3] & 1u << 17)); /* nor those of 36 bits */
    CHECK(!(r[2] & 1u << 17)); /* no PCID */
    xen_cpuid(0x80000001, 0, r);
    CHECK(r[3] & 1u << 29);    /* long mode */
    CHECK(r[3] & 1u << 20);    /* NX */
    CHECK(!(r[2] & 1u << 2));  /* no SVM */
    CHECK(!(r[3] & 1u << 26)); /* no 1 GiB pages */
    xen_cpuid(7, 0, r);
    CHECK(!(r[1] & 1u << 7)); /* no SMEP, SMAP: they are the hypervisor's */
    CHECK(!(r[1] & 1u << 20));
    CHECK(!(r[1] & 1u << 10)); /* no INVPCID */
    xen_cpuid(0x12345678, 0, r);
    CHECK_EQ(trapped(), 0);
    /* The bare signature is an invalid opcode. */
    TRY(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; nop", ::);
    CHECK_EQ(trapped(), 1);
    CHECK_EQ(this_cpu()->trap.vector, T_UD);
}

static void control_registers(void)
{
    uint64_t cr0, cr3, cr4, v;
    uint8_t *page = page_alloc();

    section("control registers");
    TRY("mov %%cr0, %0", : "=r"(cr0));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(cr0 & 0x80000001, 0x80000001);
    TRY("mov %%cr3, %0", : "=r"(cr3));
    CHECK_EQ(cr3 >> 12, cr3_mfn());
    TRY("mov %%cr4, %0", : "=r"(cr4));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(cr4 & 0x20, 0x20);   /* PAE */
    CHECK_EQ(cr4 & (1 << 13), 0); /* VMXE */
    /* TS is the guest's. */
    TRY("mov %0, %%cr0", ::"r"(cr0 | 8));
    CHECK_EQ(trapped(), 0);
    TRY("fnop", ::);
    CHECK_TRAP(T_NM, 0);
    TRY("clts", ::);
    CHECK_EQ(trapped(), 0);
    TRY("fnop", ::);
    CHECK_EQ(trapped(), 0);
    TRY("mov %%cr0, %0", : "=r"(v));
    CHECK_EQ(v & 8, 0);
    /* The rest of cr0 is not. */
    TRY("mov %0, %%cr0", ::"r"(cr0 & ~0x80000000UL));
    TRY("mov %0, %%cr0", ::"r"(cr0 & ~1UL));
    TRY("mov %0, %%cr0", ::"r"(cr0));
    TRY("mov %%cr0, %0", : "=r"(v));
    CHECK_EQ(v & 0x80000001, 0x80000001);
    TRY("mov %0, %%cr4", ::"r"(cr4));
    CHECK_EQ(trapped(), 0);
    TRY("mov %0, %%cr4", ::"r"(0UL));
    TRY("mov %0, %%cr4", ::"r"(~0UL));
    TRY("mov %0, %%cr4", ::"r"(cr4));
    TRY("mov %%cr4, %0", : "=r"(v));
    CHECK_EQ(v & 0x20, 0x20);
    CHECK_EQ(v & (1 << 13), 0);
    TRY("mov %0, %%cr3", ::"r"(mfn_of(page) << 12)); /* no page table */
    CHECK_EQ(trapped(), 1);
    TRY("mov %%cr3, %0", : "=r"(v));
    CHECK_EQ(v, cr3);
    TRY("mov %0, %%cr2", ::"r"(0x1234UL));
    CHECK_EQ(trapped(), 0);
    TRY("mov %%cr2, %0", : "=r"(v));
    CHECK_EQ(v, 0x1234);
    TRY("smsw %0", : "=r"(v));
    CHECK_IN(trapped(), 0, 1); /* UMIP may hide it */
    /* Guests use the hypercall; emulated or refused, never more than asked. */
    TRY("invlpg (%0)", ::"r"(page));
    CHECK_IN(trapped(), 0, 1);
    TRY("invlpg (%0)", ::"r"(BAD_HYPERVISOR));
    CHECK_IN(trapped(), 0, 1);
    TRY("wbinvd", ::);
    CHECK_EQ(trapped(), 0);
    CHECK(try_read(page, &v));
    page_free(page);
}

static void others(void)
{
    uint64_t a, b;

    section("instructions that fault, or need nothing");
    a = rdtsc();
    b = rdtsc();
    CHECK(b > a);
    TRY("invd", ::);
    CHECK_IN(trapped(), 0, 1);
    TRY("rdpmc", ::"c"(0x12345) : "rax", "rdx");
    CHECK_EQ(trapped(), 1);
    TRY("sysretq", ::);
    CHECK_TRAP(T_GP, 0);
    TRY("sysexitl", ::);
    CHECK_EQ(trapped(), 1);
    TRY("vmcall", ::);
    CHECK_EQ(trapped(), 1);
    TRY("vmmcall", ::);
    CHECK_EQ(trapped(), 1);
    TRY("vmrun", ::"a"(0));
    CHECK_EQ(trapped(), 1);
    TRY("clgi", ::);
    CHECK_EQ(trapped(), 1);
    TRY("stgi", ::);
    CHECK_EQ(trapped(), 1);
    TRY("vmload", ::"a"(0));
    CHECK_EQ(trapped(), 1);
    TRY("clac", ::);
    CHECK_EQ(trapped(), 1);
    TRY("cli", ::); /* not the guest's to mask: faults or does nothing */
    CHECK_IN(trapped(), 0, 1);
    a = time_now();
    time_spin(50000000); /* the machine's interrupts go on */
    TRY("sti", ::);
    CHECK_IN(trapped(), 0, 1);
}

static void debug_registers(void)
{
    static volatile uint64_t watched;
    uint64_t v;

    section("debug registers");
    CHECK_EQ(HC(set_debugreg, 0, &watched), 0);
    CHECK_EQ(HC(get_debugreg, 0), &watched);
    CHECK_EQ(HC(set_debugreg, 6, 0), 0);
    CHECK_EQ(HC(set_debugreg, 7, 0x000d0001), 0); /* address 0, writes of eight bytes, local */
    TRY("movq $5, %0; nop", : "=m"(watched));
    CHECK_EQ(HC(set_debugreg, 7, 0), 0);
    CHECK_EQ(watched, 5);
    /* A trap: reported behind the instruction, so no fixup there: by the hook below. */
    TRY("mov %%dr7, %0", : "=r"(v));
    CHECK_EQ(trapped(), 0);
    CHECK_EQ(v & 0xff, 0);
    TRY("mov %0, %%dr1", ::"r"(0x1000UL));
    CHECK_EQ(trapped(), 0);
    TRY("mov %%dr1, %0", : "=r"(v));
    CHECK_EQ(v, 0x1000);
    CHECK_REFUSED(HC(set_debugreg, 0, BAD_HYPERVISOR));
    CHECK_REFUSED(HC(set_debugreg, 3, HYPERVISOR_VIRT_START));
    CHECK_REFUSED(HC(set_debugreg, 1, BAD_NONCANONICAL));
    CHECK_REFUSED(HC(set_debugreg, 7, 0x2000)); /* general detect */
    CHECK_REFUSED(HC(set_debugreg, 8, 0));
    CHECK_IN(HC(get_debugreg, 8), -XEN_EINVAL, -XEN_ENODEV); /* stock: the latter */
    CHECK_EQ(HC(get_debugreg, 0), &watched);
}

static volatile unsigned watch_hits;
static volatile uint64_t watch_dr6;

static bool watch_hook(struct regs *r)
{
    (void)r;
    watch_hits++;
    watch_dr6 = (uint64_t)HC(get_debugreg, 6);
    return true;
}

void test_main(void)
{
    ports();
    user_ports();
    msrs();
    cpuid();
    control_registers();
    others();
    trap_set_hook(T_DB, watch_hook);
    debug_registers();
    CHECK_EQ(watch_hits, 1);
    CHECK_EQ(watch_dr6 & 0xf, 1);
}
