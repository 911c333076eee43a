/* SOURCES: pv/segment.c mm/page.c mm/page_type.c lib/bitmap.c lib/spinlock.c fake/cpu.c fake/alloc.c fake/domain.c fake/guest.c */
/*
 * Descriptor tables: what a descriptor may be, which frames may hold them, the per-domain window,
 * LDT pages taken when first used, references given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"
#include "hypercall/table.h"
#include "pv/internal.h"

#define DATA32 0x00cff3000000ffffUL
#define CODE64 0x00affb000000ffffUL

static struct domain *d, *other;
static struct vcpu *v;
static struct page *walk_to; /* what pv_walk() finds, NULL = nothing */

uint64_t pv_walk(mfn_t l4, uint64_t va, uint64_t *access)
{
    return walk_to ? mfn_to_maddr(page_to_mfn(walk_to)).a | 7 : 0;
}

static int validate(struct page *page, enum page_type type)
{
    return type == PAGE_SEGDESC ? pv_segdesc_validate(page) : 0;
}
static void invalidate(struct page *page, enum page_type type)
{
}
static const struct cpu_mask *dirty(const struct domain *of)
{
    return &of->dirty_cpus;
}
static const struct page_type_ops ops = {validate, invalidate, dirty};

static int setup(void **state)
{
    fake_ram_reset();
    d = fake_domain_new(1, 33, false);
    other = fake_domain_new(2, 1, false);
    page_type_ops = &ops;
    v = d->vcpu[17];
    d->pv = calloc(1, sizeof(*d->pv));
    v->pv = calloc(1, sizeof(*v->pv));
    pv_segment_init();
    assert_int_equal(pv_perdomain_init(d), 0);
    assert_int_equal(pv_perdomain_vcpu(v), 0);
    fake_current(d->vcpu[0]);
    walk_to = NULL;
    return 0;
}

static int teardown(void **state)
{
    pv_perdomain_fini(d);
    free(v->pv);
    free(d->pv);
    fake_domain_free(other);
    fake_domain_free(d);
    return 0;
}

static void test_descriptors(void **state)
{
    for (unsigned dpl = 0; dpl < 4; dpl++) {
        uint64_t e = (DATA32 & ~(3UL << 45)) | (uint64_t)dpl << 45;
        assert_true(pv_descriptor_fix(&e));
        assert_true(e == DATA32);
        e = (CODE64 & ~(3UL << 45)) | (uint64_t)dpl << 45;
        assert_true(pv_descriptor_fix(&e));
        assert_true(e == CODE64);
    }
    for (unsigned type = 0; type < 16; type++) { /* system descriptors: none */
        uint64_t e = 1UL << 47 | 3UL << 45 | (uint64_t)type << 40 | 0x100;
        assert_false(pv_descriptor_fix(&e));
        e &= ~(1UL << 47); /* not present: means nothing */
        uint64_t was = e;
        assert_true(pv_descriptor_fix(&e));
        assert_true(e == was);
    }
    for (unsigned i = 0; i < 100000; i++) { /* whatever the bits: ring 3 code or data, or absent */
        uint64_t e = (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ (uint64_t)random();
        uint64_t was = e;
        if (pv_descriptor_fix(&e)) {
            if (e >> 47 & 1)
                assert_true((e >> 44 & 1) && (e >> 45 & 3) == 3);
            assert_true((e | 3UL << 45) == (was | 3UL << 45));
        } else {
            assert_true(e == was);
        }
    }
}

static uint64_t frame_of(struct page *page)
{
    return page_to_mfn(page).n;
}

static void test_validate_is_all_or_nothing(void **state)
{
    struct page *page = fake_domain_page(d);
    uint64_t *t = page_to_virt(page), was[512];
    t[0] = DATA32 & ~(3UL << 45);
    t[511] = 1UL << 47 | 9UL << 40; /* a TSS */
    memcpy(was, t, sizeof(was));
    assert_int_equal(pv_segdesc_validate(page), -XEN_EINVAL);
    assert_memory_equal(was, t, sizeof(was));
    t[511] = 0;
    assert_int_equal(pv_segdesc_validate(page), 0);
    assert_true(t[0] == DATA32);
    fake_domain_page_drop(page);
}

static uint64_t window(unsigned i)
{
    return d->pv->perdomain_l1[1][(17 - 16) * 32 + i];
}

static void test_gdt(void **state)
{
    struct page *a = fake_domain_page(d), *b = fake_domain_page(d), *c = fake_domain_page(other);
    uint64_t frames[16] = {frame_of(a), frame_of(b)}, empty = window(0);
    uint32_t refs = a->refs;

    assert_true(empty & PTE_P);
    assert_false(empty & PTE_RW);
    assert_int_equal(pv_set_gdt(v, frames, 600), 0);
    assert_int_equal(page_type(a), PAGE_SEGDESC);
    assert_int_equal(a->refs, refs + 1);
    assert_int_equal(pte_mfn(window(0)).n, frames[0]);
    assert_int_equal(pte_mfn(window(1)).n, frames[1]);
    assert_true(window(2) == empty);
    assert_false(window(0) & PTE_U);
    assert_true(window(0) & PTE_NX);
    assert_int_equal(page_get_type(a, PAGE_WRITABLE), -XEN_EBUSY);

    /* Refused ones leave the old in force. */
    uint64_t bad[16] = {frame_of(a), frame_of(c)};
    assert_int_equal(pv_set_gdt(v, bad, 600), -XEN_EINVAL);
    bad[1] = FAKE_FRAMES + 5;
    assert_int_equal(pv_set_gdt(v, bad, 600), -XEN_EINVAL);
    assert_int_equal(pv_set_gdt(v, frames, FIRST_RESERVED_GDT_ENTRY + 1), -XEN_EINVAL);
    assert_int_equal(a->refs, refs + 1);
    assert_int_equal(pte_mfn(window(1)).n, frames[1]);
    assert_int_equal(v->pv->gdt_entries, 600);

    /* The same page again, and one less: references move over, TLBs are told. */
    unsigned flushes = fake_tlb_flushes;
    assert_int_equal(pv_set_gdt(v, frames, 512), 0);
    assert_true(fake_tlb_flushes > flushes);
    assert_int_equal(a->refs, refs + 1);
    assert_int_equal(b->refs, refs);
    assert_true(window(1) == empty);
    pv_destroy_gdt(v);
    assert_int_equal(a->refs, refs);
    assert_true(window(0) == empty);
    pv_destroy_gdt(v);
    assert_int_equal(page_get_type(a, PAGE_WRITABLE), 0);
    page_put_type(a);
    fake_domain_page_drop(a);
    fake_domain_page_drop(b);
    fake_domain_page_drop(c);
}

static void test_ldt(void **state)
{
    struct page *page = fake_domain_page(d);
    uint64_t empty = window(16);
    uint32_t refs = page->refs;
    assert_int_equal(pv_set_ldt(v, 0x1001, 8), -XEN_EINVAL);
    assert_int_equal(pv_set_ldt(v, 0x1000, 8193), -XEN_EINVAL);
    assert_int_equal(pv_set_ldt(v, HV_VIRT_START, 8), -XEN_EINVAL);
    assert_int_equal(pv_set_ldt(v, 1UL << 63, 8), -XEN_EINVAL);
    /* Not there yet: no error; a selector that needs it fetches it. */
    assert_int_equal(pv_set_ldt(v, 0x1000, 600), 0);
    assert_true(window(16) == empty);
    assert_false(pv_ldt_map_selector(v, 1 * 8 | 4));
    walk_to = page;
    assert_false(pv_ldt_map_selector(v, 1 * 8));         /* not an LDT selector */
    assert_false(pv_ldt_map_selector(v, 1100 << 3 | 4)); /* behind its end */
    assert_true(pv_ldt_map_selector(v, 1 * 8 | 4));
    assert_int_equal(pte_mfn(window(16)).n, frame_of(page));
    assert_int_equal(page->refs, refs + 1);
    assert_int_equal(page_type(page), PAGE_SEGDESC);
    assert_false(pv_ldt_map_selector(v, 1 * 8 | 4)); /* once: no endless retries */
    assert_true(window(17) == empty);
    /* At once when it can be. */
    assert_int_equal(pv_set_ldt(v, 0x1000, 8), 0);
    assert_int_equal(page->refs, refs + 1);
    assert_int_equal(pv_set_ldt(v, 0, 0), 0);
    assert_int_equal(page->refs, refs);
    assert_true(window(16) == empty);
    /* A page with a gate in it is never taken. */
    ((uint64_t *)page_to_virt(page))[3] = 1UL << 47 | 12UL << 40 | 3UL << 45;
    assert_int_equal(pv_set_ldt(v, 0x1000, 8), 0);
    assert_true(window(16) == empty);
    assert_false(pv_ldt_map_selector(v, 1 * 8 | 4));
    assert_int_equal(pv_set_ldt(v, 0, 0), 0);
    assert_int_equal(page->refs, refs);
    fake_domain_page_drop(page);
}

static void test_update_descriptor(void **state)
{
    struct page *gdt = fake_domain_page(d), *plain = fake_domain_page(d), *l1 = fake_domain_page(d),
                *foreign = fake_domain_page(other);
    uint64_t frames[16] = {frame_of(gdt)}, *t = page_to_virt(gdt), *p = page_to_virt(plain);
    assert_int_equal(pv_set_gdt(v, frames, 512), 0);
    assert_int_equal(page_get_type(l1, PAGE_L1), 0);

    uint64_t ma = frames[0] << 12;
    assert_int_equal(hc_update_descriptor(ma + 16, DATA32 & ~(3UL << 45)), 0);
    assert_true(t[2] == DATA32);
    assert_int_equal(hc_update_descriptor(ma + 17, DATA32), -XEN_EINVAL);
    assert_int_equal(hc_update_descriptor(ma + 16, 1UL << 47 | 0xcUL << 40), -XEN_EINVAL);
    assert_true(t[2] == DATA32);
    assert_int_equal(hc_update_descriptor((frame_of(plain) << 12) + 8, CODE64), 0);
    assert_true(p[1] == CODE64);
    assert_int_not_equal(hc_update_descriptor(frame_of(l1) << 12, DATA32), 0);
    assert_int_not_equal(hc_update_descriptor(frame_of(foreign) << 12, DATA32), 0);
    assert_int_equal(hc_update_descriptor(~7UL, DATA32), -XEN_EINVAL);
    assert_int_equal(*(uint64_t *)page_to_virt(l1), 0);

    page_put_type(l1);
    pv_destroy_gdt(v);
    fake_domain_page_drop(gdt);
    fake_domain_page_drop(plain);
    fake_domain_page_drop(l1);
    fake_domain_page_drop(foreign);
}

static void test_perdomain_memory(void **state)
{
    unsigned live = fake_alloc_live;
    struct domain *e = fake_domain_new(3, 1, false);
    e->pv = calloc(1, sizeof(*e->pv));
    e->vcpu[0]->pv = calloc(1, sizeof(struct pv_vcpu));
    for (unsigned n = 1; n <= 2; n++) { /* each allocation fails once: nothing is kept */
        fake_alloc_fail_in = n;
        assert_int_equal(pv_perdomain_init(e), -XEN_ENOMEM);
        fake_alloc_fail_in = 0;
        assert_int_equal(fake_alloc_live, live);
    }
    assert_int_equal(pv_perdomain_init(e), 0);
    fake_alloc_fail_in = 1;
    assert_int_equal(pv_perdomain_vcpu(e->vcpu[0]), -XEN_ENOMEM);
    fake_alloc_fail_in = 0;
    assert_int_equal(pv_perdomain_vcpu(e->vcpu[0]), 0);
    pv_perdomain_fini(e);
    pv_perdomain_fini(e);
    assert_int_equal(fake_alloc_live, live);
    free(e->vcpu[0]->pv);
    free(e->pv);
    fake_domain_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_validate_is_all_or_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gdt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ldt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_perdomain_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
