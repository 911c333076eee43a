/* SOURCES: hvm/platform.c hvm/wires.c hvm/records.c hvm/apic.c hvm/dev/pic.c hvm/dev/pit.c */
/* SOURCES: hvm/dev/rtc.c hvm/dev/hpet.c hvm/dev/ioapic.c hvm/dev/pmtimer.c hvm/dev/lapic.c */
/* SOURCES: lib/spinlock.c fake/cpu.c */
/*
 * A whole PC with two local APICs in the hands of a guest and a device model: ports, registers,
 * wires, messages, time that passes, interrupts taken and ended, records saved and loaded, in any
 * order with any values. Whatever is done, no timer fires for ever or more often than it may, no
 * vector below 16 is pending, wires add up, and each device can be saved as a record that would be
 * loaded again and is the same then.
 */
#include "hvm.h"

enum { OPERATIONS = 400 };

/* --- what is always so --- */

static void check_vectors(const uint32_t *bits)
{
    CHECK(!(bits[0] & 0xffff));
}

static void check_lapic(struct vcpu *v)
{
    struct lapic *l = &v->hvm->lapic;
    int n = lapic_pending(l), next = lapic_next(l);
    check_vectors(l->irr);
    check_vectors(l->isr);
    CHECK(n == -1 || (n >= 16 && n <= 255));
    CHECK(n == -1 || n == next);
    CHECK(n == -1 || ((unsigned)n >> 4 > (l->tpr >> 4 & 15) && (l->irr[n / 32] >> n % 32 & 1)));
    CHECK(l->owed <= 1000);
    uint64_t mode = l->base & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC);
    CHECK(mode != LAPIC_BASE_X2APIC);
}

static void check_wires(const struct platform *p)
{
    unsigned wires = 0, lines = 0, links = 0;
    bool by_pci = p->callback_level && p->callback >> 56 == HVM_PARAM_CALLBACK_TYPE_PCI_INTX;
    uint64_t all = 0;
    for (unsigned i = 0; i < PCI_DEVICES * PCI_PINS; i++)
        wires += p->pci_wires[i / 64] >> i % 64 & 1;
    for (unsigned i = 0; i < sizeof(p->pci_count); i++)
        lines += p->pci_count[i];
    for (unsigned i = 0; i < PCI_LINKS; i++)
        links += p->link_count[i];
    CHECK(lines == wires + by_pci && links == lines);
    for (unsigned i = 0; i < SOURCES; i++)
        all |= p->level[i];
    CHECK(!(all >> IOAPIC_PINS));
    CHECK(p->ioapic.lines == all);
    uint16_t isa = p->pic.lines[0] | p->pic.lines[1] << 8;
    CHECK(isa == ((all & 0xfffa) | (all >> 2 & 1)));
}

static void check_all(void)
{
    struct platform *p = d->hvm->platform;
    CHECK(cpu0.locks_held == 0);
    CHECK(p->extint == (pic_pending(&p->pic) >= 0));
    for (unsigned i = 0; i < TICKERS; i++)
        CHECK(p->owed[i] <= 1000);
    CHECK(p->rtc.owed <= 1000);
    check_wires(p);
    for (unsigned i = 0; i < VCPUS; i++)
        check_lapic(d->vcpu[i]);
}

/* --- operations --- */

/* What is due fires, in order; a device that asks for the same moment again would never end. */
static void advance(uint64_t by)
{
    uint64_t end = now + by;
    unsigned fires = 0;
    for (;;) {
        struct timer *first = NULL;
        for (unsigned i = 0; i < TIMERS; i++)
            if (timers[i]->active && timers[i]->expires <= end &&
                (!first || timers[i]->expires < first->expires))
                first = timers[i];
        if (!first || fires > 2000)
            break;
        if (first->expires > now)
            now = first->expires;
        first->active = false;
        first->fn(first->data);
        fires++;
    }
    /* One per DEV_PERIOD_LEAST and timer, and what is due at once: a first time, a late one. */
    CHECK(fires <= TIMERS * (by / DEV_PERIOD_LEAST + 3));
    now = end;
}

static const uint16_t ports[] = {0x20,   0x21,   0xa0,   0xa1,   0x4d0,  0x4d1,  0x40,
                                 0x41,   0x42,   0x43,   0x61,   0x70,   0x71,   0x80,
                                 0xffff, 0x1f40, 0x1f42, 0x1f48, 0xb000, 0xb002, 0xb008};

static void port(struct vcpu *v)
{
    static const uint8_t sizes[] = {1, 1, 2, 4};
    uint8_t which = take8(), how = take8();
    uint16_t number = ports[which % ARRAY_SIZE(ports)] + (how >> 6);
    unsigned size = sizes[how & 3];
    bool write = how & 4;
    uint32_t value = write ? (how & 8 ? take32() : take8()) : 0;
    if (!platform_port(v, number, size, write, &value) || write)
        return;
    CHECK(size == 4 || !(value >> 8 * size));
}

static void memory(struct vcpu *v)
{
    static const uint8_t sizes[] = {4, 8, 1, 2};
    uint8_t how = take8();
    unsigned size = sizes[how & 3], at = how & 4 ? take8() << 4 | (how >> 4) : take8();
    uint64_t gpa = (how & 8 ? HPET_PAGE : IOAPIC_PAGE) + at, value = 0;
    bool write = take8() & 1;
    if (write)
        value = how & 16 ? take64() : take32();
    if (!platform_mem(v, gpa, size, write, &value) || write)
        return;
    CHECK(size == 8 || !(value >> 8 * size));
}

/* An entry of the IO-APIC in one go, which single accesses seldom make. */
static void entry(struct vcpu *v)
{
    uint64_t pin = take8() % IOAPIC_PINS, low = take32() & 0x1ffff, high = (uint32_t)take8() << 24;
    uint64_t select[2] = {0x10 + pin * 2 + 1, 0x10 + pin * 2}, value[2] = {high, low};
    for (unsigned i = 0; i < 2; i++) {
        CHECK(platform_mem(v, IOAPIC_PAGE, 4, true, &select[i]));
        CHECK(platform_mem(v, IOAPIC_PAGE + 0x10, 4, true, &value[i]));
    }
}

static void lapic(struct vcpu *v)
{
    struct lapic *l = &v->hvm->lapic;
    uint8_t how = take8(), reg = take8();
    uint64_t value;
    if (how & 1) {
        static const uint32_t others[] = {0x1b, 0x6e0};
        uint32_t msr = how & 2 ? others[reg & 1] : 0x800 + reg;
        if (how & 4)
            (void)!lapic_msr_write(l, msr, how & 8 ? take64() : take32());
        else
            (void)!lapic_msr_read(l, msr, &value);
        if (how & 0x10) { /* kernels keep what is there */
            CHECK(lapic_msr_read(l, 0x1b, &value) == 0);
            (void)!lapic_msr_write(l, 0x1b, value ^ (uint64_t)(how >> 5 & 3) << 10);
        }
    } else if (hvm_apic_page(v, LAPIC_PAGE)) {
        if (how & 4)
            lapic_write(l, reg & 0x3f, how & 8 ? take32() : take8());
        else
            (void)lapic_read(l, reg & 0x3f);
    }
}

/* As hvm/inject.c and the vCPU's own loop do. */
static void run(struct vcpu *v)
{
    struct lapic *l = &v->hvm->lapic;
    unsigned irq;
    platform_sync(v);
    if (v->hvm->signals & HVM_SIGNAL_INIT)
        lapic_init_signal(l);
    v->hvm->signals = 0;
    int vector = lapic_pending(l);
    if (vector >= 0) {
        lapic_accept(l, vector);
        CHECK(l->isr[vector / 32] >> vector % 32 & 1);
    } else if (platform_extint(v) && platform_peek_extint(v, &irq) >= 0) {
        CHECK(irq < 16);
        platform_accept(v, irq);
    }
    platform_sync(v);
}

static void end_interrupt(struct vcpu *v)
{
    if (lapic_x2apic(&v->hvm->lapic))
        (void)!lapic_msr_write(&v->hvm->lapic, 0x80b, 0);
    else
        lapic_write(&v->hvm->lapic, LAPIC_EOI, 0);
}

static void outside(void)
{
    uint8_t what = take8(), a = take8(), b = take8();
    switch (what % 8) {
    case 0:
        platform_isa_line(d, a & 31, b & 1);
        break;
    case 1:
        platform_pci_line(d, a & 63, b & 7, b & 8);
        break;
    case 2:
        CHECK(platform_pci_link(d, a & 7, b & 31) ==
              ((a & 7) < 4 && (b & 31) < 16 ? 0 : -XEN_EINVAL));
        break;
    case 3:
        (void)!platform_msi(d, b & 1 ? take64() : 0xfee00000UL | a << 12 | (b & 0xc), take32());
        break;
    case 4:
        (void)!platform_button(d, a & 1);
        break;
    case 5:
        (void)!platform_set_callback(d, (uint64_t)(b & 3) << 56 | (a & 0x80 ? take32() : a));
        break;
    case 6:
        d->vcpu[0]->info->evtchn_upcall_pending = b & 1;
        break;
    case 7:
        d->hvm->params[HVM_PARAM_TIMER_MODE] = a & 3;
        d->hvm->params[HVM_PARAM_ACPI_IOPORTS_LOCATION] = b & 1;
        d->hvm->params[HVM_PARAM_HPET_ENABLED] = !(b & 14);
        d->time_offset = (int8_t)take8() * 1000;
        break;
    }
}

/* --- records --- */

static uint8_t record[2][2048];

static void read_record(uint16_t type, unsigned instance, uint8_t *body)
{
    int rc = platform_record_get(d, type, instance, body);
    CHECK(!rc);
    CHECK(!platform_record_check(d, type, instance, body));
}

/* Time stands still, so what was loaded is what is saved; the RTC's flags may rise by looking. */
static void platform_records(void)
{
    uint16_t type = HVM_SAVE_CODE(PIC) + take8() % 11;
    uint32_t size;
    unsigned instances, at = take8(), bit = take8();
    if (!platform_record(type, &size, &instances))
        return;
    unsigned instance = at % instances;
    read_record(type, instance, record[0]);
    for (unsigned n = take8() & 3; n; n--) { /* some bits are others */
        record[0][(at = take8() | take8() << 8) % size] ^= 1u << (bit & 7);
        bit = take8();
    }
    if (platform_record_check(d, type, instance, record[0]))
        return;
    platform_record_load(d, type, instance, record[0]);
    read_record(type, instance, record[1]);
    platform_record_load(d, type, instance, record[1]);
    read_record(type, instance, record[0]);
    CHECK(!memcmp(record[0], record[1], size));
}

static void lapic_records(struct vcpu *v)
{
    struct hvm_hw_lapic base;
    struct hvm_hw_lapic_regs regs, again;
    struct lapic *l = &v->hvm->lapic;
    lapic_save_base(l, &base);
    lapic_save_regs(l, &regs);
    CHECK(!lapic_check(l, &base) && !lapic_check_regs(&regs));
    for (unsigned n = take8() & 3; n; n--)
        regs.data[(take8() | take8() << 8) % sizeof(regs.data)] ^= take8();
    base.tdt_msr ^= take8();
    if (lapic_check(l, &base) || lapic_check_regs(&regs))
        return;
    lapic_load(l, &base);
    lapic_load_regs(l, &regs);
    lapic_save_regs(l, &regs);
    CHECK(!lapic_check_regs(&regs));
    lapic_load_regs(l, &regs);
    lapic_save_regs(l, &again);
    CHECK(!memcmp(&regs, &again, sizeof(regs)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_left = size;
    make();
    for (unsigned i = 0; input_left && i < OPERATIONS; i++) {
        uint8_t what = take8();
        struct vcpu *v = d->vcpu[what >> 7];
        cpu0.current = v;
        switch (what % 11) {
        case 0:
        case 1:
            port(v);
            break;
        case 2:
            memory(v);
            break;
        case 3:
            entry(v);
            break;
        case 4:
            lapic(v);
            break;
        case 5:
            run(v);
            break;
        case 6:
            end_interrupt(v);
            break;
        case 7:
            outside();
            break;
        case 8:
            advance((uint64_t)take8() << (take8() & 15));
            break;
        case 9:
            platform_records();
            break;
        case 10:
            lapic_records(v);
            break;
        }
        check_all();
    }
    unmake();
    return 0;
}
