/*
 * What stops a hardware-virtualized guest: CPUID with prefixes, MSRs good and bad, I/O ports, its
 * own page faults, memory that is not there, the local APIC by page and by MSR, timers, IPIs, NMIs,
 * the start of a second CPU, instructions of the machine's owner.
 *
 * ARGS: dom0=pvh
 */
#include "hvm.h"

const char test_name[] = "hvm-exits";

static volatile unsigned hits[256];

static bool count_and_eoi(struct regs *r)
{
    hits[r->vector]++;
    *apic(0xb0) = 0;
    return true;
}

static bool count_only(struct regs *r)
{
    hits[r->vector]++;
    return true;
}

static bool wait_hits(unsigned vector, unsigned n)
{
    uint64_t end = ns_now() + 2000000000;

    irqs_on();
    while (hits[vector] < n && ns_now() < end)
        cpu_relax();
    irqs_off();
    return hits[vector] >= n;
}

/* TF counts for instructions that stop the guest, too; a HLT with interrupts off comes back. */
static uint64_t step_end;

static bool step(struct regs *r)
{
    uint64_t dr6;

    asm volatile("mov %%db6, %0" : "=r"(dr6));
    hits[r->vector] += dr6 >> 14 & 1;
    if (r->rip == step_end)
        r->rflags &= ~0x100UL;
    return true;
}

static void single_step(void)
{
    trap_set_hook(T_DB, step);
    asm volatile("lea 1f(%%rip), %%rax; mov %%rax, %0\n"
                 "pushfq; orl $0x100, (%%rsp); popfq\n"
                 "xor %%eax, %%eax; cpuid; inb $0x80, %%al; hlt\n"
                 "movl 0xfee00020, %%eax\n"
                 "1: nop"
                 : "=m"(step_end)::"rax", "rbx", "rcx", "rdx", "memory");
    CHECK_EQ(hits[T_DB], 5);
}

static void instructions(void)
{
    uint32_t a = 0x40000000, b, c = 0, d;
    uint64_t f;

    section("instructions");
    asm volatile(".byte 0x66, 0x48; cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)); /* prefixes */
    CHECK_EQ(b, 0x566e6558);
    CHECK_EQ(c, 0x65584d4d);
    TRY("vmrun", ::"a"(0UL) : "memory");
    CHECK_TRAP(T_UD, 0);
    TRY("vmload", ::"a"(0UL) : "memory");
    CHECK_TRAP(T_UD, 0);
    TRY("clgi", ::: "memory");
    CHECK_TRAP(T_UD, 0);
    TRY("stgi", ::: "memory");
    CHECK_TRAP(T_UD, 0);
    TRY("monitor", ::"a"(&f), "c"(0), "d"(0) : "memory");
    CHECK_TRAP(T_UD, 0);
    TRY("rdpmc", : "=a"(a), "=d"(d) : "c"(0));
    CHECK_TRAP(T_GP, 0);
    TRY("wbinvd", ::: "memory");
    CHECK_EQ(trapped(), 0);
    single_step();
    TRY("int3", ::: "memory");
    CHECK_EQ(trapped(), 0); /* its rip is behind it: the hook below */
}

static bool skip_int3(struct regs *r)
{
    hits[r->vector]++;
    return true;
}

/* Intel SDM vol. 3 section 12.11: kept as written, checked as a CPU does. */
static void memory_types(void)
{
    uint32_t r[4];
    uint64_t v;

    cpuid(1, 0, r);
    CHECK(r[3] >> 12 & 1);
    CHECK(try_rdmsr(0xfe, &v));
    CHECK_EQ(v, 0x508);
    CHECK(!try_wrmsr(0xfe, v));
    CHECK(try_rdmsr(0x2ff, &v));
    CHECK_EQ(v, 0x806); /* on, write-back: else Linux leaves the PAT alone */
    CHECK(try_wrmsr(0x2ff, 0xc06));
    CHECK(try_rdmsr(0x2ff, &v) && v == 0xc06);
    CHECK(!try_wrmsr(0x2ff, 0xc02));
    CHECK(!try_wrmsr(0x2ff, 0x1c06));
    CHECK(try_rdmsr(0x2ff, &v) && v == 0xc06);
    cpuid(0x80000008, 0, r);
    uint64_t end = 1UL << (r[0] & 0xff);
    CHECK(try_wrmsr(0x20e, 0xc0000001));
    CHECK(try_wrmsr(0x20f, (end - 0x1000000) | 1 << 11));
    CHECK(try_rdmsr(0x20e, &v) && v == 0xc0000001);
    CHECK(try_rdmsr(0x20f, &v) && v == ((end - 0x1000000) | 1 << 11));
    CHECK(!try_wrmsr(0x20e, 0xc0000007));
    CHECK(!try_wrmsr(0x20e, end | 6));
    CHECK(!try_wrmsr(0x20f, end));
    CHECK(!try_rdmsr(0x210, &v));
    CHECK(try_wrmsr(0x20f, 0));
    CHECK(try_wrmsr(0x26f, 0x0504060100000000UL));
    CHECK(try_rdmsr(0x26f, &v) && v == 0x0504060100000000UL);
    CHECK(!try_wrmsr(0x26f, 0x0304060100000000UL));
    CHECK(!try_rdmsr(0x251, &v));
}

static void msrs(void)
{
    uint64_t v;

    section("MSRs");
    CHECK(try_rdmsr(0xc0010055, &v) && v == 0); /* what Linux asks about C1E */
    CHECK(try_rdmsr(0xc0000080, &v));
    CHECK_EQ(v & 0x1d01, 0xd00);                /* LME LMA NXE, no SVME */
    CHECK(!try_wrmsr(0xc0000080, v | 1 << 12)); /* SVME */
    CHECK_TRAP(T_GP, 0);
    CHECK(!try_wrmsr(0xc0000080, v & ~0x100UL)); /* LME while paging */
    CHECK(try_wrmsr(0xc0000080, v | 1));
    CHECK(try_rdmsr(0xc0000080, &v) && (v & 1));
    CHECK(!try_rdmsr(0x12345, &v));
    CHECK_TRAP(T_GP, 0);
    CHECK(!try_rdmsr(0xc0010117, &v)); /* the host's save area */
    CHECK(!try_wrmsr(0xc0010117, 0));
    CHECK(!try_wrmsr(0xdeadbeef, 0));
    CHECK(!try_wrmsr(0x277, 0x0202020202020202UL)); /* no such memory type */
    CHECK(try_wrmsr(0x277, 0x0007040600070406UL));
    memory_types();
    CHECK(!try_wrmsr(0x40000000, 0x1234));          /* not a page */
    CHECK(!try_wrmsr(0x40000000, 0xf0000000000UL)); /* no memory */
    CHECK(try_wrmsr(0xc0000101, 0x1234567890UL));
    CHECK(try_rdmsr(0xc0000101, &v) && v == 0x1234567890UL);
    HC(xen_version, XENVER_version, 0);
    HC(sched_op, SCHEDOP_yield, 0);
    CHECK(try_rdmsr(0xc0000101, &v) && v == 0x1234567890UL);
    CHECK(try_wrmsr(0xc0000103, 77));
    CHECK(try_rdmsr(0xc0000103, &v) && v == 77);
}

static void ports(void)
{
    uint32_t v;
    uint8_t b;

    section("ports");
    asm volatile("inl %w1, %0" : "=a"(v) : "d"(0x40)); /* the hypervisor's */
    CHECK_EQ(v, 0xffffffff);
    asm volatile("inb $0x43, %0" : "=a"(b));
    CHECK_EQ(b, 0xff);
    v = 0x12345678;
    asm volatile("inb $0x21, %b0" : "+a"(v));
    CHECK_EQ(v, 0x123456ff);
    asm volatile("outb %0, $0x80" ::"a"((uint8_t)1));
    asm volatile("outl %0, %w1" ::"a"(0), "d"(0xcfc));
}

static void page_faults(void)
{
    uint64_t v, *e = &pd[0x30000000UL >> 21];
    uint64_t was = *e;

    section("page faults");
    *e = 0;
    asm volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(v)::"memory");
    CHECK(!try_read((void *)0x30000000UL, &v));
    CHECK_TRAP(T_PF, 0);
    CHECK_EQ(this_cpu()->trap.cr2, 0x30000000);
    CHECK(!try_write((void *)0x30000008UL, 1));
    CHECK_TRAP(T_PF, PF_W);
    *e = was;
    CHECK(!try_read((void *)0x123456789000UL, &v));
    CHECK_EQ(this_cpu()->trap.cr2, 0x123456789000UL);
}

static void nowhere(void)
{
    volatile uint32_t *hole = (uint32_t *)0x200000UL;
    uint64_t v;

    section("no memory");
    CHECK_EQ(*hole, 0xffffffff);
    *hole = 5;
    CHECK_EQ(*hole, 0xffffffff);
    CHECK_EQ(*(volatile uint8_t *)hole, 0xff);
    CHECK(try_read((void *)0x200ffcUL, &v)); /* across two pages */
    CHECK_EQ(v, -1);
    asm volatile("orl $1, %0" : "+m"(*hole));
    uint32_t was = 3;
    asm volatile("xchgl %0, %1" : "+r"(was), "+m"(*hole));
    CHECK_EQ(was, 0xffffffff);
}

static void local_apic(void)
{
    section("local APIC");
    apic_on();
    CHECK_EQ(*apic(0x20) >> 24, 0);
    CHECK_EQ(*apic(0x30) & 0xff, 0x14);
    *apic(0x80) = 0x20;
    CHECK_EQ(*apic(0x80), 0x20);
    uint64_t cr8;
    asm volatile("mov %%cr8, %0" : "=r"(cr8));
    CHECK_EQ(cr8, 2);
    asm volatile("mov %0, %%cr8" ::"r"(5UL));
    CHECK_EQ(*apic(0x80), 0x50);
    trap_set_hook(VECTOR_IPI, count_and_eoi);
    apic_ipi(0, 0x4000 | VECTOR_IPI); /* below the task priority: waits */
    CHECK_EQ(*apic(0x200 + VECTOR_IPI / 32 * 16) >> VECTOR_IPI % 32 & 1, 1);
    irqs_on();
    asm volatile("nop");
    irqs_off();
    CHECK_EQ(hits[VECTOR_IPI], 0);
    asm volatile("mov %0, %%cr8" ::"r"(0UL));
    CHECK(wait_hits(VECTOR_IPI, 1));
    apic_ipi(0, 0x44000 | VECTOR_IPI); /* self */
    CHECK(wait_hits(VECTOR_IPI, 2));
    apic_ipi(0, 0x4000 | 5); /* no such vector */
    *apic(0x280) = 0;
    CHECK_EQ(*apic(0x280), 0x20);

    section("APIC timer");
    trap_set_hook(VECTOR_TIMER, count_and_eoi);
    *apic(0x3e0) = 0xb;
    *apic(0x320) = VECTOR_TIMER;
    *apic(0x380) = 100000; /* 1 ms */
    CHECK(wait_hits(VECTOR_TIMER, 1));
    *apic(0x320) = 0x20000 | VECTOR_TIMER;
    *apic(0x380) = 500000;
    CHECK(wait_hits(VECTOR_TIMER, 4));
    *apic(0x380) = 0;
    *apic(0x320) = VECTOR_TIMER;
    *apic(0x380) = 300000; /* and by HLT */
    unsigned before = hits[VECTOR_TIMER];
    while (hits[VECTOR_TIMER] == before)
        wait_irq();
    CHECK_EQ(hits[VECTOR_TIMER], before + 1);
}

static void nmi(void)
{
    section("NMI");
    trap_set_hook(T_NMI, count_only);
    CHECK_EQ(HC(vcpu_op, VCPUOP_send_nmi, 0, 0), 0);
    CHECK_EQ(hits[T_NMI], 1);
    apic_ipi(0, 0x4400); /* to ourselves */
    CHECK_EQ(hits[T_NMI], 2);
}

static volatile unsigned ap_state, ap_release;

static void second(void *arg)
{
    uint32_t r[4];
    uint64_t end = ns_now() + 1000000000;

    cpuid(1, 0, r);
    ap_state = r[1] >> 24;
    apic_on();
    apic_ipi(0, 0x4000 | VECTOR_IPI);
    irqs_on();
    while (!ap_release && ns_now() < end)
        cpu_relax();
    irqs_off();
    *(volatile unsigned *)arg = 1;
}

static void smp(void)
{
    volatile unsigned done = 0;
    unsigned before = hits[VECTOR_IPI];

    section("second CPU");
    CHECK(ap_run(1, second, (void *)&done));
    CHECK(wait_hits(VECTOR_IPI, before + 1));
    CHECK_EQ(ap_state, 2);
    apic_ipi(2, 0x4000 | VECTOR_IPI);
    CHECK(wait_hits(VECTOR_IPI, before + 2)); /* taken there */
    ap_release = 1;
    uint64_t end = ns_now() + 2000000000;
    while (!cpu_get(1)->done && ns_now() < end)
        cpu_relax();
    CHECK_EQ(done, 1);
    CHECK(ap_run(1, second, (void *)&done)); /* once more, from a halt for good */
    end = ns_now() + 2000000000;
    while (!cpu_get(1)->done && ns_now() < end)
        cpu_relax();
    CHECK(cpu_get(1)->done);
}

static bool x2apic_eoi(struct regs *r)
{
    hits[r->vector]++;
    wrmsr(0x80b, 0);
    return true;
}

static void x2apic(void)
{
    uint64_t v = rdmsr(0x1b);

    section("x2APIC");
    CHECK(v & 1 << 11);
    CHECK(!try_rdmsr(0x802, &v)); /* not in that mode yet */
    v = rdmsr(0x1b);
    CHECK(!try_wrmsr(0x1b, (v & ~(1UL << 11)) | 1 << 10));
    CHECK(!try_wrmsr(0x1b, v + 0x1000)); /* the page does not move */
    CHECK(try_wrmsr(0x1b, v | 1 << 10));
    CHECK(!try_wrmsr(0x1b, v)); /* no way back but off */
    CHECK_EQ(rdmsr(0x802), 0);
    wrmsr(0x80f, 0x1ff);
    trap_set_hook(VECTOR_IPI, x2apic_eoi);
    unsigned before = hits[VECTOR_IPI];
    wrmsr(0x83f, VECTOR_IPI);
    CHECK(wait_hits(VECTOR_IPI, before + 1));
    wrmsr(0x830, 0x4000 | VECTOR_IPI);
    CHECK(wait_hits(VECTOR_IPI, before + 2));
    CHECK(!try_wrmsr(0x80b, 1));
    CHECK(!try_rdmsr(0x80b, &v));
    CHECK(!try_wrmsr(0x8ff, 0));
    trap_set_hook(VECTOR_TIMER, x2apic_eoi);
    wrmsr(0x832, 0x40000 | VECTOR_TIMER); /* by TSC deadline */
    before = hits[VECTOR_TIMER];
    wrmsr(0x6e0, rdtsc() + 3000000);
    CHECK(wait_hits(VECTOR_TIMER, before + 1));
    CHECK_EQ(rdmsr(0x6e0), 0);
}

static bool upcall(struct regs *r)
{
    hits[r->vector]++;
    vcpu_info(0)->evtchn_upcall_pending = 0;
    wrmsr(0x80b, 0);
    return true;
}

static void upcall_vector(void)
{
    struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 0, .vector = 0x55};
    struct evtchn_bind_ipi ipi = {.vcpu = 0};

    section("upcall vector");
    CHECK_EQ(callback_on(), 0);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_ipi, &ipi), 0);
    u.vector = 5;
    CHECK_EQ(HC(hvm_op, HVMOP_set_evtchn_upcall_vector, &u), -XEN_EINVAL);
    u.vector = 0x55;
    u.vcpu = 77;
    CHECK_EQ(HC(hvm_op, HVMOP_set_evtchn_upcall_vector, &u), -XEN_ENOENT);
    u.vcpu = 0;
    CHECK_EQ(HC(hvm_op, HVMOP_set_evtchn_upcall_vector, &u), 0);
    trap_set_hook(0x55, upcall);
    struct evtchn_send send = {.port = ipi.port};
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    CHECK(wait_hits(0x55, 1));
    CHECK_EQ(event_count[ipi.port], 0); /* not by the callback */
    CHECK_EQ(HC(hvm_op, HVMOP_flush_tlbs, 0), 0);
    CHECK_EQ(HC(hvm_op, HVMOP_flush_tlbs, 1), -XEN_EINVAL);
    CHECK_EQ(HC(hvm_op, 77, 0), -XEN_ENOSYS);
}

void test_main(void)
{
    trap_set_hook(T_BP, skip_int3);
    instructions();
    CHECK_EQ(hits[T_BP], 1);
    msrs();
    ports();
    page_faults();
    nowhere();
    local_apic();
    nmi();
    smp();
    x2apic();
    upcall_vector();
}
