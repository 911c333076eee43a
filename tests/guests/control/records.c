/*
 * What a domain's vCPUs and devices keep, as records: all of them are there, go back in as they
 * came out, change what they say and nothing else, and are refused as a whole when one has a bad
 * bit.
 */
#include "control.h"
#include <xen/hvm/save.h>

#define WHOLE_PC (XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI)

static uint8_t stream[32768] __attribute__((aligned(8)));
static uint32_t length;

static long get(uint16_t d)
{
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.hvmcontext.buffer.p = stream;
    dc.u.hvmcontext.size = sizeof(stream);
    long rc = domctl(XEN_DOMCTL_gethvmcontext, d);
    length = dc.u.hvmcontext.size;
    return rc;
}

static long set(uint16_t d)
{
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.hvmcontext.buffer.p = stream;
    dc.u.hvmcontext.size = length;
    return domctl(XEN_DOMCTL_sethvmcontext, d);
}

static struct hvm_save_descriptor *descriptor(unsigned type, unsigned instance)
{
    for (uint32_t at = 0; at < length;) {
        struct hvm_save_descriptor *h = (void *)(stream + at);

        if (h->typecode == type && h->instance == instance)
            return h;
        at += sizeof(*h) + h->length;
    }
    return NULL;
}

/* @at: of a byte in the body of a record of the stream. */
static uint8_t *body(unsigned type, unsigned instance, unsigned at)
{
    static uint8_t none[4096];
    struct hvm_save_descriptor *h = descriptor(type, instance);

    CHECK(h);
    return h ? (uint8_t *)(h + 1) + at : none;
}
#define FIELD(name, instance, s, field)                                                            \
    ((__typeof__(((s *)0)->field) *)body(HVM_SAVE_CODE(name), instance, offsetof(s, field)))

static long partial(uint16_t d, unsigned type, unsigned instance, void *to, unsigned size)
{
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.hvmcontext_partial.type = type;
    dc.u.hvmcontext_partial.instance = instance;
    dc.u.hvmcontext_partial.bufsz = size;
    dc.u.hvmcontext_partial.buffer.p = to;
    return domctl(XEN_DOMCTL_gethvmcontext_partial, d);
}

static void all_there(uint16_t d)
{
    static const struct {
        unsigned type, instances, size;
    } want[] = {
        {HVM_SAVE_CODE(CPU), 1, sizeof(struct hvm_hw_cpu)},
        {HVM_SAVE_CODE(PIC), 2, sizeof(struct hvm_hw_vpic)},
        {HVM_SAVE_CODE(IOAPIC), 1, sizeof(struct hvm_hw_vioapic)},
        {HVM_SAVE_CODE(LAPIC), 1, sizeof(struct hvm_hw_lapic)},
        {HVM_SAVE_CODE(LAPIC_REGS), 1, sizeof(struct hvm_hw_lapic_regs)},
        {HVM_SAVE_CODE(PCI_IRQ), 1, sizeof(struct hvm_hw_pci_irqs)},
        {HVM_SAVE_CODE(ISA_IRQ), 1, sizeof(struct hvm_hw_isa_irqs)},
        {HVM_SAVE_CODE(PCI_LINK), 1, sizeof(struct hvm_hw_pci_link)},
        {HVM_SAVE_CODE(PIT), 1, sizeof(struct hvm_hw_pit)},
        {HVM_SAVE_CODE(RTC), 1, sizeof(struct hvm_hw_rtc)},
        {HVM_SAVE_CODE(HPET), 1, sizeof(struct hvm_hw_hpet)},
        {HVM_SAVE_CODE(PMTIMER), 1, sizeof(struct hvm_hw_pmtimer)},
        {HVM_SAVE_CODE(MTRR), 1, sizeof(struct hvm_hw_mtrr)},
        {HVM_SAVE_CODE(TSC_ADJUST), 1, sizeof(struct hvm_tsc_adjust)},
    };
    static uint8_t one[4096];

    CHECK_EQ(get(d), 0);
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        for (unsigned n = 0; n < want[i].instances; n++) {
            struct hvm_save_descriptor *h = descriptor(want[i].type, n);

            CHECK(h);
            if (h)
                CHECK_EQ(h->length, want[i].size);
            CHECK_EQ(partial(d, want[i].type, n, one, sizeof(one)), 0);
            CHECK_EQ(dc.u.hvmcontext_partial.bufsz, want[i].size);
            CHECK_EQ(partial(d, want[i].type, n, NULL, 0), 0);
            CHECK_EQ(dc.u.hvmcontext_partial.bufsz, want[i].size);
            CHECK_EQ(partial(d, want[i].type, n, one, want[i].size - 1), -XEN_ENOSPC);
        }
    CHECK_REFUSED(partial(d, HVM_SAVE_CODE(PIC), 2, one, sizeof(one)));
    CHECK_REFUSED(partial(d, HVM_SAVE_CODE(MTRR), 1, one, sizeof(one)));
    CHECK_EQ(partial(d, 99, 0, one, sizeof(one)), -XEN_EOPNOTSUPP);
    CHECK_EQ(partial(d, ~0u, 0, one, sizeof(one)), -XEN_EOPNOTSUPP);
}

static void change(void)
{
    struct hvm_hw_vpic *pic = (void *)body(HVM_SAVE_CODE(PIC), 1, 0);
    struct hvm_hw_lapic_regs *regs = (void *)body(HVM_SAVE_CODE(LAPIC_REGS), 0, 0);

    pic->irq_base = 0x38;
    pic->imr = 0x5a;
    pic->elcr = 0x06;
    FIELD(IOAPIC, 0, struct hvm_hw_vioapic, redirtbl)[0][47].bits = 0x0200000000018931UL;
    regs->data[0x80] = 0x30;                            /* TPR */
    *(uint32_t *)(void *)(regs->data + 0xf0) = 0x1ff;   /* SVR */
    *(uint32_t *)(void *)(regs->data + 0x230) = 1 << 5; /* IRR: vector 0x65 */
    *FIELD(LAPIC, 0, struct hvm_hw_lapic, disabled) = 0;
    FIELD(PCI_IRQ, 0, struct hvm_hw_pci_irqs, pad)[0][1] = 1UL << 63;
    FIELD(ISA_IRQ, 0, struct hvm_hw_isa_irqs, pad)[0][0] = 1 << 5 | 1;
    FIELD(PCI_LINK, 0, struct hvm_hw_pci_link, route)[0][2] = 11;
    FIELD(PIT, 0, struct hvm_hw_pit, channels)[0][0].count = 5000;
    FIELD(PIT, 0, struct hvm_hw_pit, channels)[0][0].mode = 2;
    FIELD(RTC, 0, struct hvm_hw_rtc, cmos_data)[0][1] = 0x42; /* an alarm */
    *FIELD(RTC, 0, struct hvm_hw_rtc, rtc_offset) = 86400;
    *FIELD(HPET, 0, struct hvm_hw_hpet, mc64) = 0x123456789abcUL;
    FIELD(HPET, 0, struct hvm_hw_hpet, timers)[0][1].cmp = 0x1000000000000UL;
    *FIELD(PMTIMER, 0, struct hvm_hw_pmtimer, pm1a_en) = 0x100;
    FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_var)[0][2] = 0xe0000001;
    FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_fixed)[0][10] = 0x0505050505050505UL;
    *FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_def_type) = 0xc06;
    *FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_pat_cr) = 0x0007010600070106UL;
}

static void changed(void)
{
    struct hvm_hw_vpic *pic = (void *)body(HVM_SAVE_CODE(PIC), 1, 0);
    struct hvm_hw_lapic_regs *regs = (void *)body(HVM_SAVE_CODE(LAPIC_REGS), 0, 0);

    CHECK_EQ(pic->irq_base, 0x38);
    CHECK_EQ(pic->imr, 0x5a);
    CHECK_EQ(pic->elcr, 0x06);
    CHECK_EQ(pic->irr, 0); /* the wires were driven, and nothing is requested that was not saved */
    CHECK_EQ(((struct hvm_hw_vpic *)(void *)body(HVM_SAVE_CODE(PIC), 0, 0))->irr, 0);
    CHECK_EQ(FIELD(IOAPIC, 0, struct hvm_hw_vioapic, redirtbl)[0][47].bits, 0x0200000000018931UL);
    CHECK_EQ(regs->data[0x80], 0x30);
    CHECK_EQ(*(uint32_t *)(void *)(regs->data + 0xf0), 0x1ff);
    CHECK_EQ(*(uint32_t *)(void *)(regs->data + 0x230), 1 << 5);
    CHECK_EQ(FIELD(PCI_IRQ, 0, struct hvm_hw_pci_irqs, pad)[0][1], 1UL << 63);
    CHECK_EQ(FIELD(ISA_IRQ, 0, struct hvm_hw_isa_irqs, pad)[0][0], 1 << 5 | 1);
    CHECK_EQ(FIELD(PCI_LINK, 0, struct hvm_hw_pci_link, route)[0][2], 11);
    CHECK_EQ(FIELD(PIT, 0, struct hvm_hw_pit, channels)[0][0].count, 5000);
    CHECK_EQ(FIELD(PIT, 0, struct hvm_hw_pit, channels)[0][0].mode, 2);
    CHECK_EQ(FIELD(RTC, 0, struct hvm_hw_rtc, cmos_data)[0][1], 0x42);
    CHECK_EQ(*FIELD(RTC, 0, struct hvm_hw_rtc, rtc_offset), 86400);
    CHECK_EQ(*FIELD(HPET, 0, struct hvm_hw_hpet, mc64), 0x123456789abcUL); /* it is stopped */
    CHECK_EQ(FIELD(HPET, 0, struct hvm_hw_hpet, timers)[0][1].cmp, 0x1000000000000UL);
    CHECK_EQ(*FIELD(PMTIMER, 0, struct hvm_hw_pmtimer, pm1a_en), 0x100);
    CHECK_EQ(FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_var)[0][2], 0xe0000001);
    CHECK_EQ(FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_fixed)[0][10], 0x0505050505050505UL);
    CHECK_EQ(*FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_def_type), 0xc06);
    CHECK_EQ(*FIELD(MTRR, 0, struct hvm_hw_mtrr, msr_pat_cr), 0x0007010600070106UL);
    CHECK_EQ(*FIELD(CPU, 0, struct hvm_hw_cpu, rip), HVM_CODE_AT);
}

/* One bad bit in one record, and another record that would change something: nothing changes. */
static void refused(uint16_t d)
{
#define BAD(name, instance, s, field, value)                                                       \
    do {                                                                                           \
        CHECK_EQ(get(d), 0);                                                                       \
        ((struct hvm_hw_vpic *)(void *)body(HVM_SAVE_CODE(PIC), 0, 0))->imr = 0x11;                \
        *FIELD(name, instance, s, field) = (value);                                                \
        check_refused(set(d), #name " " #field " = " #value, __FILE__, __LINE__);                  \
    } while (0)
    BAD(PIC, 1, struct hvm_hw_vpic, irq_base, 0x33);
    BAD(PIC, 1, struct hvm_hw_vpic, elcr, 0xff);
    BAD(IOAPIC, 0, struct hvm_hw_vioapic, base_address, 0xfec01000);
    BAD(IOAPIC, 0, struct hvm_hw_vioapic, redirtbl[3].bits, 1UL << 20);
    BAD(LAPIC, 0, struct hvm_hw_lapic, apic_base_msr, 0xfee01900);
    BAD(LAPIC, 0, struct hvm_hw_lapic, disabled, 4);
    BAD(LAPIC_REGS, 0, struct hvm_hw_lapic_regs, data[0x81], 1);
    BAD(LAPIC_REGS, 0, struct hvm_hw_lapic_regs, data[0x200], 1); /* vector 0 */
    BAD(ISA_IRQ, 0, struct hvm_hw_isa_irqs, pad[0], 1 << 16);
    BAD(PCI_LINK, 0, struct hvm_hw_pci_link, route[3], 16);
    BAD(PIT, 0, struct hvm_hw_pit, channels[1].mode, 6);
    BAD(PIT, 0, struct hvm_hw_pit, channels[0].count, 70000);
    BAD(RTC, 0, struct hvm_hw_rtc, rtc_offset, 1L << 50);
    BAD(HPET, 0, struct hvm_hw_hpet, config, 4);
    BAD(PMTIMER, 0, struct hvm_hw_pmtimer, pm1a_en, 0x8000);
    BAD(MTRR, 0, struct hvm_hw_mtrr, msr_mtrr_def_type, 2);
    BAD(MTRR, 0, struct hvm_hw_mtrr, msr_pat_cr, 3);
    BAD(TSC_ADJUST, 0, struct hvm_tsc_adjust, tsc_adjust, 1);
#undef BAD
    CHECK_EQ(get(d), 0);
    CHECK(((struct hvm_hw_vpic *)(void *)body(HVM_SAVE_CODE(PIC), 0, 0))->imr != 0x11);
    descriptor(HVM_SAVE_CODE(PIC), 1)->instance = 2;
    CHECK_EQ(set(d), -XEN_EINVAL);
    CHECK_EQ(get(d), 0);
    descriptor(HVM_SAVE_CODE(LAPIC), 0)->instance = 1;
    CHECK_EQ(set(d), -XEN_EINVAL);
    CHECK_EQ(get(d), 0);
    descriptor(HVM_SAVE_CODE(PIT), 0)->length--;
    CHECK_REFUSED(set(d));
}

/* xor %ecx, %ecx; xgetbv; mov %eax, HVM_RESULT_AT; vmovdqu %ymm1, HVM_RESULT_AT + 64; cli; hlt */
static const uint8_t ymm_code[] = {0x31, 0xc9, 0x0f, 0x01, 0xd0, 0xa3, 0x00, 0x20, 0x00, 0x00,
                                   0xc5, 0xfe, 0x7f, 0x0d, 0x40, 0x20, 0x00, 0x00, 0xfa, 0xf4};
#define XMM1      (160 + 16) /* in an XSAVE area */
#define YMM1      (576 + 16)
#define CR4_XSAVE 0x40600 /* OSXSAVE, OSXMMEXCPT, OSFXSR */

static uint64_t *area(unsigned at)
{
    return (void *)body(CPU_XSAVE_CODE, 0, offsetof(struct hvm_hw_cpu_xsave, save_area) + at);
}

static struct hvm_hw_cpu_xsave *extended(void)
{
    return (void *)body(CPU_XSAVE_CODE, 0, 0);
}

static void ran(uint16_t d)
{
    uint8_t *at = map_gfn(d, HVM_CODE_AT >> PAGE_SHIFT);

    memcpy(at, ymm_code, sizeof(ymm_code));
    unmap_gfn(at);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK_EQ(wait_shutdown(d), SHUTDOWN_poweroff);
    at = map_gfn(d, HVM_RESULT_AT >> PAGE_SHIFT);
    CHECK_EQ(*(uint32_t *)(void *)at, 7);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(((uint64_t *)(void *)(at + 64))[i], 0x1111111111111111UL * (i + 1));
    unmap_gfn(at);
}

/* XCR0 and AVX's registers: the guest finds them, and they are told again when it has run. */
static void extended_state(void)
{
    uint16_t d = hvm_build(XEN_X86_EMU_LAPIC);
    uint32_t r[4];

    section("a vCPU's extended state");
    CHECK_EQ(flat_registers(d, HVM_CODE_AT), 0);
    CHECK_EQ(get(d), 0);
    asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(1), "c"(0));
    if (!(r[2] & 1 << 28)) { /* no AVX here */
        print("    the CPU has none\n");
        CHECK_EQ(destroy(d), 0);
        return;
    }
    CHECK(descriptor(CPU_XSAVE_CODE, 0)->length >= 24 + 576 + 256);
    CHECK_EQ(extended()->xcr0, 1);
#define BAD(field, value)                                                                          \
    do {                                                                                           \
        CHECK_EQ(get(d), 0);                                                                       \
        extended()->field = (value);                                                               \
        check_refused(set(d), "XSAVE " #field " = " #value, __FILE__, __LINE__);                   \
    } while (0)
    BAD(xcr0, 0);
    BAD(xcr0, 5);
    BAD(xcr0, 1UL << 40 | 1);
    BAD(xcr0_accum, 6);
    BAD(save_area.xsave_hdr.xstate_bv, 1UL << 40);
    BAD(save_area.xsave_hdr.xcomp_bv, 1UL << 63);
    BAD(save_area.xsave_hdr.reserved[5], 1);
#undef BAD
    CHECK_EQ(get(d), 0);
    extended()->xcr0 = 7;
    extended()->xcr0_accum = 3;
    CHECK_EQ(set(d), -XEN_EINVAL);
    CHECK_EQ(get(d), 0);
    descriptor(CPU_XSAVE_CODE, 0)->length--;
    CHECK_REFUSED(set(d));

    CHECK_EQ(get(d), 0);
    CHECK_EQ(extended()->xcr0, 1);
    *FIELD(CPU, 0, struct hvm_hw_cpu, cr4) = CR4_XSAVE;
    extended()->xcr0 = 7;
    extended()->save_area.xsave_hdr.xstate_bv |= 7;
    for (unsigned i = 0; i < 4; i++)
        area(i < 2 ? XMM1 : YMM1)[i & 1] = 0x1111111111111111UL * (i + 1);
    CHECK_EQ(set(d), 0);
    ran(d);
    CHECK_EQ(get(d), 0);
    CHECK_EQ(extended()->xcr0, 7);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(area(i < 2 ? XMM1 : YMM1)[i & 1], 0x1111111111111111UL * (i + 1));
    CHECK_EQ(destroy(d), 0);
}

void records(void)
{
    uint64_t before = free_pages();
    uint16_t d = hvm_build(WHOLE_PC), plain;

    section("records of vCPUs and devices");
    CHECK_EQ(flat_registers(d, HVM_CODE_AT), 0);
    all_there(d);
    CHECK_EQ(get(d), 0);
    CHECK_EQ(set(d), 0); /* as it came */
    CHECK_EQ(get(d), 0);
    change();
    CHECK_EQ(set(d), 0);
    CHECK_EQ(get(d), 0);
    changed();
    refused(d);
    CHECK_EQ(get(d), 0);
    changed();
    /* Another one of its kind takes them; one without the devices does not. */
    plain = hvm_build(XEN_X86_EMU_LAPIC);
    CHECK_EQ(set(plain), -XEN_ENODEV);
    CHECK_EQ(destroy(plain), 0);
    plain = hvm_build(WHOLE_PC);
    CHECK_EQ(set(plain), 0);
    CHECK_EQ(get(plain), 0);
    changed();
    CHECK_EQ(destroy(plain), 0);
    CHECK_EQ(destroy(d), 0);
    extended_state();
    check_free(before, __FILE__, __LINE__);
}
