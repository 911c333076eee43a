/* SOURCES: dom0/layout.c */
/* The start-of-day layout: everything fits, nothing overlaps, the tables map what they should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dom0/internal.h"
#include "pv/pv.h"

struct page *frame_table;
uint8_t *fake_ram;
uint64_t *fake_m2p;

#define KERNEL_BASE 0xffffffff80000000UL

static struct dom0_image linux_like(uint64_t end_offset)
{
    return (struct dom0_image){
        .virt_base = KERNEL_BASE,
        .start = KERNEL_BASE + 0x1000000,
        .end = KERNEL_BASE + end_offset,
        .init_p2m = 0x8000000000UL,
        .initrd_unmapped = true,
    };
}

static void test_linux_layout(void **state)
{
    struct dom0_image img = linux_like(0x3a12345);
    struct dom0_layout l;
    assert_null(dom0_layout_plan(&l, &img, 262144, 50 << 20));
    assert_int_equal(l.v_start, KERNEL_BASE);
    assert_int_equal(l.v_end & 0x3fffff, 0);
    assert_true(l.start_info >= img.end);
    assert_true(l.page_tables == l.start_info + 4096);
    assert_true(l.stack == l.page_tables + l.pt_frames * 4096);
    assert_true(l.v_end - l.stack - 4096 >= 0x80000);
    assert_int_equal(l.p2m_pfn, l.mapped_frames);
    assert_int_equal(l.p2m_frames, 262144 * 8 / 4096);
    assert_int_equal(l.initrd_pfn, l.p2m_pfn + l.p2m_frames);
    assert_int_equal(l.needed_frames, l.initrd_pfn + (50 << 20) / 4096);
}

static void test_everything_mapped(void **state)
{
    struct dom0_image img = linux_like(0x1800000);
    img.init_p2m = 0;
    img.initrd_unmapped = false;
    struct dom0_layout l;
    assert_null(dom0_layout_plan(&l, &img, 65536, 4097));
    assert_int_equal(l.initrd, KERNEL_BASE + 0x1800000);
    assert_int_equal(l.p2m, l.initrd + 8192);
    assert_int_equal(l.needed_frames, l.mapped_frames);
}

static void test_too_little_memory(void **state)
{
    struct dom0_image img = linux_like(0x3a12345);
    struct dom0_layout l;
    assert_non_null(dom0_layout_plan(&l, &img, 4096, 0));
    assert_non_null(dom0_layout_plan(&l, &img, 32768, 1UL << 30));
}

static void test_hypervisor_range_refused(void **state)
{
    struct dom0_image img = linux_like(0x1800000);
    struct dom0_layout l;
    img.virt_base = 0xffff800000000000UL;
    img.start = img.virt_base;
    img.end = img.virt_base + 0x1000;
    assert_non_null(dom0_layout_plan(&l, &img, 262144, 0));
}

/* Walks as the CPU would; returns the entry of the last level, 0 when a level is missing. */
static uint64_t walk(mfn_t l4, uint64_t va)
{
    uint64_t *table = mfn_to_virt(l4);
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t e = table[va >> shift & 511];
        if (!(e & PTE_P))
            return 0;
        table = mfn_to_virt(pte_mfn(e));
    }
    return table[va >> 12 & 511];
}

static void test_page_tables(void **state)
{
    enum { PAGES = 12288 }; /* 48 MiB */
    struct dom0_image img = linux_like(0x1800000);
    struct dom0_layout l;
    assert_null(dom0_layout_plan(&l, &img, PAGES, 0));
    fake_ram = calloc(PAGES, 4096);
    mfn_t *frames = calloc(PAGES, sizeof(*frames));
    for (unsigned i = 0; i < PAGES; i++)
        frames[i] = mfn(PAGES - 1 - i); /* backwards, so that pfn and mfn differ */

    uint64_t top = dom0_pagetables_build(&l, &img, frames);
    uint64_t pt_first = (l.page_tables - l.v_start) / 4096;
    for (uint64_t pfn = 0; pfn < l.mapped_frames; pfn++) {
        uint64_t e = walk(frames[top], l.v_start + pfn * 4096);
        assert_true(e & PTE_P);
        assert_int_equal(pte_mfn(e).n, frames[pfn].n);
        bool is_table = pfn >= pt_first && pfn < pt_first + l.pt_frames;
        assert_int_equal(!(e & PTE_RW), is_table);
    }
    for (uint64_t i = 0; i < l.p2m_frames; i++)
        assert_int_equal(pte_mfn(walk(frames[top], l.p2m + i * 4096)).n,
                         frames[l.p2m_pfn + i].n);
    assert_int_equal(walk(frames[top], l.v_end), 0);
    free(frames);
    free(fake_ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linux_layout),
        cmocka_unit_test(test_everything_mapped),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_hypervisor_range_refused),
        cmocka_unit_test(test_page_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
