/* SOURCES: irq/irq.c irq/vector.c irq/ioapic.c irq/msi.c */
/* SOURCES: lib/bitmap.c lib/spinlock.c fake/cpu.c fake/alloc.c */
/* Lines and messages: what is written to IO-APIC entries, MSI capabilities and MSI-X tables, and
 * what happens when they fire. The devices are faked below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "acpi/acpi.h"
#include "fake/cpu.h"
#include "irq/internal.h"
#include "mm/mm.h"

/* --- the machine --- */

struct acpi_info acpi_info;
static uint64_t rte[24];
static unsigned eois, selfs;
static uint32_t self_apic;
static uint8_t self_vector;
static uint8_t io_page[PAGE_SIZE], msix_page[PAGE_SIZE] __attribute__((aligned(4096)));
static unsigned maps;

#define TABLE_BASE 0xfebf0000UL

void *vmap_contiguous(mfn_t first, unsigned n, unsigned flags)
{
    assert_int_equal(flags, MAP_UC);
    maps++;
    return first.n == TABLE_BASE >> PAGE_SHIFT ? msix_page : io_page;
}
void vunmap(void *va, unsigned n)
{
    assert_ptr_equal(va, msix_page);
    maps--;
}
bool mfn_is_ram(mfn_t m)
{
    return m.n < 0x80000;
}
uint32_t ioapic_device_read(volatile uint32_t *regs, unsigned reg);
void ioapic_device_write(volatile uint32_t *regs, unsigned reg, uint32_t value);

uint32_t ioapic_device_read(volatile uint32_t *regs, unsigned reg)
{
    if (reg == 1)
        return 23u << 16 | 0x20;
    return reg & 1 ? (uint32_t)(rte[(reg - 0x10) / 2] >> 32) : (uint32_t)rte[(reg - 0x10) / 2];
}
void ioapic_device_write(volatile uint32_t *regs, unsigned reg, uint32_t value)
{
    uint64_t *e = &rte[(reg - 0x10) / 2];
    const uint64_t irr = 1u << 14;
    if (reg & 1) {
        *e = (uint32_t)*e | (uint64_t)value << 32;
        return;
    }
    uint64_t keep = *e & irr; /* read-only to software, and cleared by becoming an edge */
    *e = (*e & ~0xffffffffUL) | (value & ~irr) | (value & 1u << 15 ? keep : 0);
}
void pic_disable(void)
{
}
void lapic_eoi(void)
{
    eois++;
}
void lapic_send_ipi(uint32_t apic_id, uint8_t vector)
{
    selfs++;
    self_apic = apic_id;
    self_vector = vector;
}
void lapic_report_error(void)
{
}
void timer_interrupt(void)
{
}
void tlb_answer(void)
{
}
void ipi_answer(void)
{
}

static uint8_t config[256]; /* of 00:03.0 */

uint32_t pci_read(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size)
{
    uint32_t v = 0xffffffff;
    if (!segment && !bus && devfn == 0x18)
        memcpy(&v, config + reg, size);
    return size == 4 ? v : v & ((1u << size * 8) - 1);
}
void pci_write(uint16_t segment, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned size,
               uint32_t v)
{
    assert_int_equal(devfn, 0x18);
    memcpy(config + reg, &v, size);
}

static uint32_t conf(unsigned reg, unsigned size)
{
    return pci_read(0, 0, 0x18, (uint16_t)reg, size);
}

/* --- set-up --- */

static unsigned fired;
static unsigned fired_irq;

static void handler(unsigned irq, void *data)
{
    fired++;
    fired_irq = irq;
    assert_ptr_equal(data, &fired);
}

#define MSI  0x50
#define MSIX 0x70

static int setup(void **state)
{
    static bool once;
    memset(config, 0, sizeof(config));
    config[0] = 0x34;
    config[4] = 2;
    config[6] = 0x10;
    config[0x34] = MSI;
    config[MSI] = 5;
    config[MSI + 1] = MSIX;
    config[MSI + 2] = 0x80; /* 64 bits */
    config[MSIX] = 0x11;
    config[MSIX + 2] = 3;   /* 4 entries */
    config[MSIX + 4] = 1;   /* BAR 1 */
    config[MSIX + 5] = 0x8; /* + 0x800 */
    config[0x14] = 0;
    config[0x16] = 0xbf;
    config[0x17] = 0xfe;
    memset(msix_page, 0, sizeof(msix_page));
    fake_cpus_online(2);
    fake_cpu_number = 0;
    eois = selfs = fired = 0;
    if (!once) {
        acpi_info.ioapics = 1;
        acpi_info.ioapic[0].address = maddr(0xfec00000);
        for (unsigned i = 0; i < 16; i++)
            acpi_info.isa[i].gsi = i;
        acpi_info.isa[0].gsi = 2;
        acpi_info.isa[9].level = true;
        irq_init();
        vector_init_cpu(&fake_cpu[1]);
        once = true;
    }
    return 0;
}

static uint32_t low(unsigned gsi)
{
    return (uint32_t)rte[gsi];
}
#define VECTOR(gsi) (low(gsi) & 0xff)
#define MASKED(gsi) (low(gsi) >> 16 & 1)

static void lines_begin_masked(void **state)
{
    assert_int_equal(irq_gsi_count, 24);
    for (unsigned i = 0; i < 24; i++)
        assert_true(MASKED(i));
    assert_int_equal(low(4) & 0xa000, 0);       /* edge, high */
    assert_int_equal(low(9) & 0xa000, 0x8000);  /* as overridden */
    assert_int_equal(low(16) & 0xa000, 0xa000); /* PCI */
    assert_true(irq_is_level(17));
    assert_false(irq_is_level(4));
}

static void edge_line(void **state)
{
    assert_int_equal(irq_bind(4, handler, &fired, 1), 0);
    assert_int_equal(irq_bind(4, handler, &fired, 1), -XEN_EBUSY);
    assert_true(MASKED(4));
    assert_int_equal(rte[4] >> 56, 2); /* CPU 1's APIC */
    assert_in_range(VECTOR(4), 0x30, 0xdf);
    irq_unmask(4);
    assert_false(MASKED(4));
    fake_cpu_number = 1;
    cpu_handle_irq(NULL, VECTOR(4));
    assert_int_equal(fired, 1);
    assert_int_equal(fired_irq, 4);
    assert_int_equal(eois, 1);
    assert_false(MASKED(4));
    assert_false(irq_needs_eoi(4));
    irq_unbind(4);
    assert_true(MASKED(4));
    cpu_handle_irq(NULL, VECTOR(4)); /* one that was under way */
    assert_int_equal(fired, 1);
    assert_int_equal(eois, 2);
}

static void level_line(void **state)
{
    assert_int_equal(irq_bind(17, handler, &fired, 0), 0);
    irq_unmask(17);
    cpu_handle_irq(NULL, VECTOR(17));
    assert_int_equal(fired, 1);
    assert_true(MASKED(17)); /* until the owner is done */
    assert_int_equal(eois, 1);
    cpu_handle_irq(NULL, VECTOR(17));
    assert_int_equal(fired, 1);
    irq_done(17);
    assert_false(MASKED(17));
    assert_int_equal(selfs, 0); /* a level line comes again by itself */
    irq_unbind(17);
}

static void moving_clears_remote_irr(void **state)
{
    assert_int_equal(irq_bind(18, handler, &fired, 0), 0);
    irq_unmask(18);
    uint32_t old = VECTOR(18);
    rte[18] |= 1u << 14; /* sent to CPU 0, which has not taken it yet */
    irq_set_affinity(18, 1);
    assert_int_equal(rte[18] >> 56, 2);
    assert_false(low(18) & 1u << 14);
    assert_true(low(18) & 1u << 15);
    assert_false(MASKED(18));
    cpu_handle_irq(NULL, old); /* CPU 0 takes it now */
    assert_int_equal(fired, 1);
    assert_true(MASKED(18));
    irq_done(18);
    fake_cpu_number = 1;
    cpu_handle_irq(NULL, VECTOR(18));
    assert_int_equal(fired, 2);
    irq_unbind(18);
}

static void triggers(void **state)
{
    assert_int_equal(irq_set_trigger(19, true, false), 0);
    assert_int_equal(low(19) & 0xa000, 0x8000);
    assert_int_equal(irq_bind(19, handler, &fired, 0), 0);
    assert_int_equal(irq_set_trigger(19, true, false), 0);
    assert_int_equal(irq_set_trigger(19, false, false), -XEN_EBUSY);
    irq_unbind(19);
    assert_int_equal(irq_set_trigger(19, false, true), 0);
    assert_int_equal(irq_set_trigger(24, false, true), -XEN_EINVAL);
    assert_int_equal(irq_bind(24, handler, &fired, 0), -XEN_EINVAL);
    assert_int_equal(irq_bind(MAX_IRQS, handler, &fired, 0), -XEN_EINVAL);
    assert_int_equal(irq_bind(~0u, handler, &fired, 0), -XEN_EINVAL);
}

static void bad_cpus(void **state)
{
    static const unsigned bad[] = {3, 200, MAX_CPUS, ~0u};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(irq_bind(20, handler, &fired, bad[i]), 0);
        assert_int_equal(rte[20] >> 56, 0); /* CPU 0 instead */
        irq_set_affinity(20, bad[i]);
        assert_int_equal(rte[20] >> 56, 0);
        irq_unbind(20);
    }
}

static void msi(void **state)
{
    struct msi_request r = {.devfn = 0x18};
    config[MSI + 2] |= 1; /* left enabled by somebody */
    int irq = msi_alloc(&r);
    assert_true(irq >= 24);
    assert_int_equal(conf(MSI + 2, 2) & 1, 0);
    assert_int_equal(msi_alloc(&r), -XEN_EBUSY);
    assert_int_equal(irq_bind((unsigned)irq, handler, &fired, 1), 0);
    assert_int_equal(conf(MSI + 4, 4), 0xfee02000);
    assert_int_equal(conf(MSI + 8, 4), 0);
    uint32_t v = conf(MSI + 12, 2);
    assert_in_range(v, 0x30, 0xdf);
    fake_cpu_number = 1;
    cpu_handle_irq(NULL, v); /* it cannot be masked in the device: kept */
    assert_int_equal(fired, 0);
    irq_unmask((unsigned)irq);
    assert_int_equal(selfs, 1);
    assert_int_equal(self_apic, 2);
    assert_int_equal(self_vector, v);
    cpu_handle_irq(NULL, v);
    assert_int_equal(fired, 1);
    assert_false(irq_needs_eoi((unsigned)irq));
    /* A reset of the device loses it all. */
    memset(config + MSI + 2, 0, 14);
    config[MSI + 2] = 0x80;
    assert_int_equal(msi_restore(0, 0, 0x18), 0);
    assert_int_equal(conf(MSI + 12, 2), v);
    assert_int_equal(conf(MSI + 2, 2) & 1, 1);
    assert_int_equal(msi_restore(0, 0, 0x20), -XEN_ESRCH);
    msi_free((unsigned)irq);
    assert_int_equal(irq_bind((unsigned)irq, handler, &fired, 1), -XEN_EINVAL);
    assert_int_equal(msi_alloc(&r), irq);
    msi_free((unsigned)irq);
    msi_free((unsigned)irq);
}

static void msi_of_32_bits_with_mask(void **state)
{
    struct msi_request r = {.devfn = 0x18};
    config[MSI + 2] = 0x00;
    config[MSI + 3] = 0x01;
    int irq = msi_alloc(&r);
    assert_int_equal(irq_bind((unsigned)irq, handler, &fired, 0), 0);
    assert_in_range(conf(MSI + 8, 2), 0x30, 0xdf);
    assert_int_equal(conf(MSI + 12, 4), 1);
    irq_unmask((unsigned)irq);
    assert_int_equal(conf(MSI + 12, 4), 0);
    msi_free((unsigned)irq);
    assert_int_equal(conf(MSI + 12, 4), 1);
}

static void msix(void **state)
{
    uint32_t *entry = (uint32_t *)(msix_page + 0x800 + 2 * 16);
    unsigned before = maps;
    struct msi_request r = {.devfn = 0x18, .entry = 2, .table_base = TABLE_BASE};
    int irq = msi_alloc(&r);
    assert_true(irq >= 24);
    assert_int_equal(entry[3], 1);
    assert_int_equal(msi_alloc(&r), -XEN_EBUSY);
    assert_int_equal(irq_bind((unsigned)irq, handler, &fired, 0), 0);
    assert_int_equal(entry[0], 0xfee00000);
    assert_int_equal(entry[3], 1);
    irq_unmask((unsigned)irq);
    assert_int_equal(entry[3], 0);
    uint32_t v = entry[2];
    irq_set_affinity((unsigned)irq, 1);
    assert_int_equal(entry[0], 0xfee02000);
    assert_int_equal(entry[3], 0);
    assert_int_equal(entry[2], v); /* free there too, so it keeps its vector */
    fake_cpu_number = 1;
    cpu_handle_irq(NULL, v);
    assert_int_equal(fired, 1);
    r.entry = 3;
    int other = msi_alloc(&r);
    assert_true(other > irq);
    msi_free((unsigned)other);
    msi_free((unsigned)irq);
    assert_int_equal(entry[3], 1);
    assert_int_equal(maps, before);
}

static void msi_refusals(void **state)
{
    struct msi_request r = {.devfn = 0x18, .entry = 4, .table_base = TABLE_BASE};
    unsigned before = maps;
    assert_int_equal(msi_alloc(&r), -XEN_EINVAL); /* beyond the table */
    r.entry = 0;
    r.table_base = TABLE_BASE + PAGE_SIZE;
    assert_int_equal(msi_alloc(&r), -XEN_EINVAL); /* not that BAR */
    r.table_base = 0x1000;
    config[0x14] = 0;
    config[0x15] = 0x10;
    config[0x16] = config[0x17] = 0;
    assert_int_equal(msi_alloc(&r), -XEN_EINVAL); /* a BAR that points at RAM */
    config[MSIX + 4] = 7;
    assert_int_equal(msi_alloc(&r), -XEN_EINVAL);
    r.devfn = 0x20;
    assert_int_equal(msi_alloc(&r), -XEN_ENODEV);
    r = (struct msi_request){.devfn = 0x18};
    config[0x34] = 0;
    assert_int_equal(msi_alloc(&r), -XEN_ENODEV);
    config[0x34] = 0x40; /* a chain that bites its tail */
    config[0x41] = 0x40;
    assert_int_equal(msi_alloc(&r), -XEN_ENODEV);
    assert_int_equal(maps, before);
}

static void vectors_run_out(void **state)
{
    unsigned got = 0;
    int v, first[256];
    while ((v = vector_alloc(0, 30, 0)) >= 0) {
        assert_in_range(v, 0x30, 0xdf);
        first[got++] = v;
    }
    assert_int_equal(v, -XEN_ENOSPC);
    assert_int_equal(got, 0xdf - 0x30 + 1);
    assert_int_equal(irq_bind(21, handler, &fired, 0), 0);
    assert_int_equal(rte[21] >> 56, 2); /* CPU 1 has some */
    irq_unbind(21);
    vector_free(0, 0x55);
    assert_int_equal(vector_alloc(0, 31, 0), 0x55);
    for (unsigned i = 0; i < got; i++)
        vector_free(0, (unsigned)first[i]);
    /* A freed vector rests until the others have had their turn. */
    v = vector_alloc(0, 30, 0);
    vector_free(0, (unsigned)v);
    assert_int_not_equal(vector_alloc(0, 30, 0), v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lines_begin_masked, setup),
        cmocka_unit_test_setup(edge_line, setup),
        cmocka_unit_test_setup(level_line, setup),
        cmocka_unit_test_setup(moving_clears_remote_irr, setup),
        cmocka_unit_test_setup(triggers, setup),
        cmocka_unit_test_setup(bad_cpus, setup),
        cmocka_unit_test_setup(msi, setup),
        cmocka_unit_test_setup(msi_of_32_bits_with_mask, setup),
        cmocka_unit_test_setup(msix, setup),
        cmocka_unit_test_setup(msi_refusals, setup),
        cmocka_unit_test_setup(vectors_run_out, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
