/* RTC, HPET and ACPI's timer. */
#include "platform.h"

static uint8_t cmos(unsigned reg)
{
    outb(0x70, reg);
    return inb(0x71);
}

static void cmos_write(unsigned reg, unsigned v)
{
    outb(0x70, reg);
    outb(0x71, v);
}

static bool rtc_hook(struct regs *r)
{
    hits[r->vector]++;
    (void)cmos(12);
    *apic(0xb0) = 0;
    return true;
}

static void rtc(void)
{
    section("RTC by the 8259");
    CHECK_EQ(cmos(13), 0x80);
    cmos_write(11, 0x02);
    uint8_t month = cmos(8), day = cmos(7);
    CHECK(month >= 1 && month <= 0x12 && day >= 1 && day <= 0x31);
    outb(0x21, 0xfb);
    outb(0xa1, 0xfe);
    *apic(0x350) = 0x700;
    cmos_write(10, 0x27); /* 512 Hz */
    cmos_write(11, 0x42);
    CHECK(wait_hits(PIC_BASE + 8, 5));
    cmos_write(11, 0x02);
    run_for(3);
    unsigned seen = hits[PIC_BASE + 8];
    run_for(10);
    CHECK_EQ(hits[PIC_BASE + 8], seen);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);

    section("RTC by the IO-APIC");
    trap_set_hook(VECTOR_RTC, rtc_hook);
    (void)cmos(12);
    ioapic_write(0x20, VECTOR_RTC);
    cmos_write(11, 0x82); /* set: the clock stands */
    cmos_write(0, 0x58);
    cmos_write(2, 0x59);
    cmos_write(4, 0x23);
    cmos_write(7, 0x31);
    cmos_write(8, 0x12);
    cmos_write(9, 0x99);
    cmos_write(1, 0xff); /* alarm: at midnight, any second */
    cmos_write(3, 0x00);
    cmos_write(5, 0x00);
    cmos_write(11, 0x22);
    CHECK_EQ(cmos(9), 0x99);
    CHECK(wait_hits(VECTOR_RTC, 1));
    CHECK_EQ(cmos(4), 0);
    CHECK_EQ(cmos(7), 1);
    CHECK_EQ(cmos(8), 1);
    CHECK_EQ(cmos(9), 0);
    cmos_write(11, 0x12); /* at each second */
    seen = hits[VECTOR_RTC];
    CHECK(wait_hits(VECTOR_RTC, seen + 1));
    cmos_write(11, 0x02);
    (void)cmos(12);
    CHECK_EQ(cmos(14), 0xff); /* the memory behind is the device model's */
}

static bool level_hook(struct regs *r)
{
    if (++hits[r->vector] >= 3)
        *hpet(0x20) = 2; /* else it would come for ever */
    *apic(0xb0) = 0;
    return true;
}

/* In ticks of the HPET, 100 ms: it must not be over before it is written. */
#define SOON 6250000

static void level(void)
{
    /* Level-triggered, input 20: it comes until the status is cleared. */
    section("HPET, by level");
    trap_set_hook(VECTOR_LEVEL, level_hook);
    ioapic_write(0x10 + 2 * 20, 0x8000 | VECTOR_LEVEL);
    *hpet(0x120) = 20 << 9 | 1 << 2 | 1 << 1;
    *hpet(0x128) = *hpet(0xf0) + SOON;
    CHECK(wait_hits(VECTOR_LEVEL, 3));
    run_for(3);
    CHECK_EQ(hits[VECTOR_LEVEL], 3);
    CHECK_EQ(*hpet(0x20), 0);
    *hpet(0x120) = 0;
    ioapic_write(0x10 + 2 * 20, 0x10000);
}

static void high_precision(void)
{
    section("HPET");
    uint64_t capability = *hpet(0), was;
    CHECK_EQ(capability & 0xffff, 0xa201);
    CHECK_EQ(capability >> 32, 16000000); /* 62.5 MHz */
    CHECK_EQ(*hpet(0x100) >> 32, 0xf00000);
    was = *hpet(0xf0);
    CHECK_EQ(*hpet(0xf0), was); /* stands */
    *hpet(0x10) = 1;
    while (*hpet(0xf0) == was)
        ;
    CHECK((uint32_t)*hpet(0xf0) == *(volatile uint32_t *)hpet(0xf0) || *hpet(0xf0) > was);
    ioapic_write(0x10 + 2 * 21, VECTOR_HPET);
    *hpet(0x100) = 21 << 9 | 1 << 6 | 1 << 3 | 1 << 2; /* repeats, by edge */
    *hpet(0x108) = *hpet(0xf0) + SOON;
    *hpet(0x108) = 125000; /* 2 ms */
    CHECK(wait_hits(VECTOR_HPET, 5));
    *hpet(0x108) = 1; /* as often as it may */
    CHECK(hits_bounded(VECTOR_HPET, 10));
    *hpet(0x100) = 21 << 9;
    run_for(5);
    unsigned seen = hits[VECTOR_HPET];
    run_for(5);
    CHECK_EQ(hits[VECTOR_HPET], seen);
    *hpet(0x140) = 21 << 9 | 1 << 8 | 1 << 2; /* once, 32 bits */
    *hpet(0x148) = *hpet(0xf0) + SOON;
    CHECK(wait_hits(VECTOR_HPET, seen + 1));
    *hpet(0x140) = 0;
    level();

    section("legacy replacement");
    ioapic_write(0x14, VECTOR_PIT);
    ioapic_write(0x20, VECTOR_RTC);
    *hpet(0x10) = 3;
    outb(0x43, 0x34); /* the 8254 is not heard now */
    outb(0x40, 0);
    outb(0x40, 1);
    run_for(3);
    unsigned pit = hits[VECTOR_PIT], rtc_hits = hits[VECTOR_RTC];
    run_for(5);
    CHECK_EQ(hits[VECTOR_PIT], pit);
    *hpet(0x100) = 1 << 2; /* timer 0 is its interrupt, timer 1 the RTC's */
    *hpet(0x108) = *hpet(0xf0) + SOON;
    CHECK(wait_hits(VECTOR_PIT, pit + 1));
    *hpet(0x120) = 1 << 2;
    *hpet(0x128) = *hpet(0xf0) + SOON;
    CHECK(wait_hits(VECTOR_RTC, rtc_hits + 1));
    *hpet(0x100) = *hpet(0x120) = 0;
    *hpet(0x10) = 0;
    CHECK(wait_hits(VECTOR_PIT, pit + 3)); /* the 8254 again */
    outb(0x43, 0x30);
    ioapic_write(0x14, 0x10000);
    ioapic_write(0x20, 0x10000);
}

static void acpi(void)
{
    uint64_t v = 1;

    section("ACPI timer");
    uint32_t first = inl(0x1f48), then;
    CHECK_EQ(hvm_param(HVMOP_set_param, HVM_PARAM_ACPI_IOPORTS_LOCATION, &v), 0);
    CHECK_EQ(inl(0x1f48), 0xffffffff); /* has moved */
    then = inl(0xb008);
    CHECK(then != first);
    run_for(5);
    CHECK(inl(0xb008) - then > 10000); /* 5 ms are 17898 */
    outl(0xb008, 0);
    CHECK(inl(0xb008) - then > 10000);
    CHECK_EQ(inw(0xb000) & ~1u, 0);
    outw(0xb002, 0xffff);
    CHECK_EQ(inw(0xb002), 0x721);
    outw(0xb000, 0xffff);
    outw(0xb002, 0);
    CHECK_EQ(inb(0xb004), 0xff); /* PM1a control is the device model's */
}

void clocks(void)
{
    rtc();
    high_precision();
    acpi();
}
