/* Events by an interrupt line; and what no guest should do. */
#include "platform.h"

static bool event_hook(struct regs *r)
{
    struct vcpu_info *info = vcpu_info(0);

    hits[r->vector]++;
    __atomic_store_n(&info->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    shared()->evtchn_pending[0] = 0;
    if (r->vector < PIC_BASE + 16) {
        if (r->vector >= PIC_BASE + 8)
            outb(0xa0, 0x20);
        outb(0x20, 0x20);
    } else {
        *apic(0xb0) = 0;
    }
    return true;
}

static long callback(uint64_t value)
{
    return hvm_param(HVMOP_set_param, HVM_PARAM_CALLBACK_IRQ, &value);
}

void lines(void)
{
    struct evtchn_bind_ipi ipi = {.vcpu = 0};

    section("events by a line");
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_ipi, &ipi), 0);
    struct evtchn_send send = {.port = ipi.port};
    CHECK_EQ(callback(48), -XEN_EINVAL);            /* no such input */
    CHECK_EQ(callback(1UL << 56 | 4), -XEN_EINVAL); /* nor such a line */
    CHECK_EQ(callback(5UL << 56 | 4), -XEN_EINVAL);
    trap_set_hook(VECTOR_LINE, event_hook);
    ioapic_write(0x10 + 2 * 28, 0x8000 | VECTOR_LINE);
    CHECK_EQ(callback(28), 0);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    CHECK(wait_hits(VECTOR_LINE, 1));
    run_for(2);
    CHECK_EQ(hits[VECTOR_LINE], 1); /* it fell when the event was taken */
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    CHECK(wait_hits(VECTOR_LINE, 2));
    ioapic_write(0x10 + 2 * 28, 0x10000);

    /* Device 3, INTA#: input 28 and link 3, which goes nowhere yet. */
    CHECK_EQ(callback(1UL << 56 | 3 << 11), 0);
    ioapic_write(0x10 + 2 * 28, 0x8000 | VECTOR_LINE);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    CHECK(wait_hits(VECTOR_LINE, 3));
    ioapic_write(0x10 + 2 * 28, 0x10000);

    /* ISA interrupt 5, level-triggered, by the 8259. */
    CHECK_EQ(callback(5), 0);
    trap_set_hook(PIC_BASE + 5, event_hook);
    *apic(0x350) = 0x700;
    outb(0x4d0, 0x20);
    outb(0x21, 0xdf);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    CHECK(wait_hits(PIC_BASE + 5, 1));
    run_for(2);
    CHECK_EQ(hits[PIC_BASE + 5], 1);
    irqs_off();
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &send), 0);
    wait_irq(); /* and it ends a HLT */
    CHECK_EQ(hits[PIC_BASE + 5], 2);
    outb(0x21, 0xff);
    outb(0x4d0, 0);
    CHECK_EQ(callback(0), 0);
}

/* --- abuse --- */

static uint32_t seed = 12345;

static uint32_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static const uint16_t ports[] = {0x20,   0x21,   0xa0,   0xa1,   0x40,  0x41,  0x42,
                                 0x43,   0x61,   0x70,   0x71,   0x4d0, 0x4d1, 0xb000,
                                 0xb001, 0xb002, 0xb003, 0xb008, 0xb00b};

static bool swallow(struct regs *r)
{
    hits[r->vector]++;
    return true;
}

void abuse(void)
{
    section("whatever comes");
    for (unsigned v = 16; v < 256; v++)
        if (v < PIC_BASE || v >= VECTOR_FIRST)
            trap_set_hook(v, swallow);
    for (unsigned v = PIC_BASE; v < VECTOR_FIRST; v++)
        trap_set_hook(v, swallow);
    trap_set_hook(T_NMI, swallow);
    for (unsigned i = 0; i < 6000; i++) {
        uint16_t port = ports[chance() % (sizeof(ports) / sizeof(ports[0]))];
        uint32_t v = chance();

        switch (chance() % 8) {
        case 0:
            (void)inb(port);
            break;
        case 1:
            (void)inw(port);
            break;
        case 2:
            (void)inl(port);
            break;
        case 3:
            outw(port, v);
            break;
        case 4:
            outl(port, v);
            break;
        case 5: /* any register, but no INIT for ourselves */
            if ((v >> 8 & 7) == 5)
                v &= ~0x700u;
            ioapic_write(chance() % 0x80, v);
            break;
        case 6:
            *hpet(chance() % 0x400 & ~7u) = (uint64_t)chance() << (chance() & 31);
            (void)*hpet(chance() % 0x400 & ~7u);
            break;
        default:
            outb(port, v);
            break;
        }
    }
    for (unsigned offset = 0; offset < 0x1000; offset += 13) { /* narrow and unaligned */
        (void)*(volatile uint8_t *)(0xfed00000UL + offset);
        *(volatile uint16_t *)(0xfed00000UL + (offset & 0xffe)) = (uint16_t)chance();
        (void)*(volatile uint32_t *)(0xfec00000UL + (offset & 0xffc));
        *(volatile uint8_t *)(0xfec00000UL + offset) = (uint8_t)chance();
    }
    CHECK(true); /* still here */
    irqs_on();
    for (unsigned i = 0; i < 1000; i++)
        cpu_relax();
    irqs_off();
    /* And all of it works again. */
    *hpet(0x10) = 0;
    for (unsigned pin = 0; pin < 48; pin++)
        ioapic_write(0x10 + 2 * pin, 0x10000);
    outb(0x43, 0x30);
    pic_start();
    CHECK_EQ(inb(0x21), 0xff);
    CHECK_EQ(ioapic_read(1), 0x2f0011);
}
