/*
 * The PC around a guest's CPU: each timer interrupts by the 8259s and by the IO-APIC, is masked,
 * reprogrammed and stopped; messages, lines of events, the local APIC's LINT0; then every port and
 * register with every kind of value. Timing is only ever asked for as "it comes" and "in order".
 *
 * ARGS: dom0=pvh,platform
 */
#include "hvm.h"
#include "platform.h"

const char test_name[] = "hvm-platform";

volatile unsigned hits[256];

bool wait_hits(unsigned vector, unsigned n)
{
    uint64_t end = ns_now() + 3000000000;

    irqs_on();
    while (hits[vector] < n && ns_now() < end)
        cpu_relax();
    irqs_off();
    return hits[vector] >= n;
}

void run_for(unsigned ms)
{
    uint64_t end = ns_now() + ms * 1000000UL;

    irqs_on();
    while (ns_now() < end)
        cpu_relax();
    irqs_off();
}

bool hits_bounded(unsigned vector, unsigned ms)
{
    uint64_t from = ns_now();
    unsigned seen = hits[vector];

    run_for(ms);
    return wait_hits(vector, seen + 1) && hits[vector] - seen <= (ns_now() - from) / 100000 + 100;
}

static bool pic_hook(struct regs *r)
{
    unsigned irq = (unsigned)r->vector - PIC_BASE;

    hits[r->vector]++;
    if (irq == 8) {
        outb(0x70, 12);
        (void)inb(0x71);
    }
    if (irq >= 8)
        outb(0xa0, 0x20);
    outb(0x20, 0x20);
    return true;
}

static bool apic_hook(struct regs *r)
{
    hits[r->vector]++;
    *apic(0xb0) = 0;
    return true;
}

void pic_start(void)
{
    for (unsigned port = 0x20; port <= 0xa0; port += 0x80) {
        outb(port, 0x11);
        outb(port + 1, port == 0x20 ? PIC_BASE : PIC_BASE + 8);
        outb(port + 1, port == 0x20 ? 4 : 2);
        outb(port + 1, 1);
        outb(port + 1, 0xff);
    }
}

static void pic(void)
{
    section("8259");
    pic_start();
    CHECK_EQ(inb(0x21), 0xff);
    CHECK_EQ(inb(0xa1), 0xff);
    outb(0x21, 0x5a);
    CHECK_EQ(inb(0x21), 0x5a);
    outb(0x21, 0xff);
    outb(0x4d0, 0xff);
    outb(0x4d1, 0xff);
    CHECK_EQ(inb(0x4d0), 0xf8); /* the rest is edge-triggered for good */
    CHECK_EQ(inb(0x4d1), 0xde);
    CHECK_EQ(inw(0x4d0), 0xdef8); /* two at once */
    outb(0x4d0, 0);
    outb(0x4d1, 0);

    for (unsigned i = 0; i < 16; i++)
        trap_set_hook(PIC_BASE + i, pic_hook);
    for (unsigned i = VECTOR_FIRST; i < VECTOR_FIRST + 0x40; i++)
        trap_set_hook(i, apic_hook);
    apic_on();
    *apic(0x350) = 0x700; /* LINT0: ExtINT */
}

static void pit_rate(unsigned count)
{
    outb(0x43, 0x34);
    outb(0x40, count & 0xff);
    outb(0x40, count >> 8);
}

static void pit(void)
{
    uint8_t low, high;

    section("8254");
    outb(0x21, 0xfe);
    pit_rate(2386); /* 500 Hz */
    CHECK(wait_hits(PIC_BASE, 3));
    outb(0x43, 0); /* latched: it stays */
    low = inb(0x40);
    run_for(1);
    high = inb(0x40);
    CHECK((unsigned)(high << 8 | low) <= 2386);
    outb(0x43, 0xe2); /* status of channel 0 */
    CHECK_EQ(inb(0x40) & 0x3f, 0x34);

    unsigned seen = hits[PIC_BASE];
    for (unsigned i = 0; i < 3; i++) { /* and it ends a HLT */
        while (hits[PIC_BASE] == seen)
            wait_irq();
        seen = hits[PIC_BASE];
    }
    outb(0x21, 0xff);
    run_for(2); /* what was on its way */
    seen = hits[PIC_BASE];
    run_for(10);
    CHECK_EQ(hits[PIC_BASE], seen); /* masked */
    outb(0x43, 0x30);               /* once */
    outb(0x40, 0x00);
    outb(0x40, 0x10);
    outb(0x21, 0xfe);
    run_for(20);
    seen = hits[PIC_BASE]; /* one that had been waiting, and that */
    run_for(20);
    CHECK_EQ(hits[PIC_BASE], seen);

    pit_rate(1); /* nobody gets a million a second, and the machine goes on */
    CHECK(hits_bounded(PIC_BASE, 20));
    outb(0x43, 0x30);
    outb(0x21, 0xff);

    section("channel 2");
    outb(0x61, (inb(0x61) & ~2u) | 1);
    outb(0x43, 0xb0);
    outb(0x42, 0xff);
    outb(0x42, 0x2f);
    CHECK_EQ(inb(0x61) & 0x20, 0);
    uint64_t start = ns_now();
    while (!(inb(0x61) & 0x20) && ns_now() < start + 3000000000)
        ;
    uint64_t took = ns_now() - start;
    CHECK(took > 9000000); /* 12287 ticks are 10.3 ms */
    CHECK(inb(0x61) & 0x20);
    outb(0x61, 0); /* gate off: the count stands */
    outb(0x42, 0xff);
    outb(0x42, 0xff);
    run_for(2);
    CHECK_EQ(inb(0x61) & 0x20, 0);
}

static void extint(void)
{
    section("ExtINT and LINT0");
    unsigned seen = hits[PIC_BASE];
    outb(0x21, 0xfe);
    *apic(0x350) = 0x10700; /* masked */
    pit_rate(2386);
    run_for(10);
    CHECK_EQ(hits[PIC_BASE], seen);
    *apic(0x350) = 0x700;
    CHECK(wait_hits(PIC_BASE, seen + 2));
    *apic(0x350) = 0x10700;
    ioapic_write(0x10, 0x700); /* by the IO-APIC's input 0 */
    seen = hits[PIC_BASE];
    CHECK(wait_hits(PIC_BASE, seen + 2));
    ioapic_write(0x10, 0x10000);
    run_for(5);
    seen = hits[PIC_BASE];
    *apic(0x350) = VECTOR_LINT0; /* fixed: an edge is one interrupt, and nobody asks the 8259 */
    outb(0x20, 0x20);
    outb(0x21, 0xff);
    outb(0x20, 0x0c); /* polled: taken */
    (void)inb(0x20);
    outb(0x21, 0xfe);
    CHECK(wait_hits(VECTOR_LINT0, 1));
    CHECK_EQ(hits[PIC_BASE], seen);
    outb(0x43, 0x30);
    outb(0x21, 0xff);
    pic_start();
    *apic(0x350) = 0x10700;
}

static void by_ioapic(void)
{
    section("IO-APIC");
    CHECK_EQ(ioapic_read(1), 0x2f0011); /* 48 inputs */
    ioapic_write(0, 0xffffffff);
    CHECK_EQ(ioapic_read(0), 0x0f000000);
    ioapic_write(0, 0);
    CHECK_EQ(ioapic_read(0x10), 0x10000);
    ioapic_write(0x6e, 0xffffffff);
    CHECK_EQ(ioapic_read(0x6e), 0x1afff); /* no status, no remote IRR */
    ioapic_write(0x6e, 0x10000);
    CHECK_EQ(ioapic_read(0x70), 0); /* no such input */
    CHECK_EQ(ioapic_read(0xff), 0);

    ioapic_write(0x15, 0);
    ioapic_write(0x14, VECTOR_PIT);
    pit_rate(2386);
    CHECK(wait_hits(VECTOR_PIT, 3));
    ioapic_write(0x14, 0x10000 | VECTOR_PIT);
    unsigned seen = hits[VECTOR_PIT];
    run_for(10);
    CHECK(hits[VECTOR_PIT] <= seen + 1);    /* one may have been on its way */
    ioapic_write(0x14, 0x100 | VECTOR_PIT); /* lowest priority */
    CHECK(wait_hits(VECTOR_PIT, hits[VECTOR_PIT] + 2));
    ioapic_write(0x15, 0x0e000000); /* to a CPU that is not there */
    run_for(2);
    seen = hits[VECTOR_PIT];
    run_for(10);
    CHECK_EQ(hits[VECTOR_PIT], seen);
    ioapic_write(0x15, 0);
    ioapic_write(0x14, 5); /* no such vector */
    run_for(5);
    ioapic_write(0x14, 0x10000);
    outb(0x43, 0x30);
}

void test_main(void)
{
    pic();
    pit();
    extint();
    by_ioapic();
    clocks();
    lines();
    abuse();
}
