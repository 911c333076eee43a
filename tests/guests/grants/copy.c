/*
 * GNTTABOP_copy between grants and our own frames: every combination, offsets and lengths, batches,
 * and what is refused.
 */
#include "grants.h"

static uint8_t *src, *dst;

static struct gnttab_copy request(unsigned flags)
{
    struct gnttab_copy c = {.flags = (uint16_t)flags, .len = 64, .status = 99};

    c.source.domid = c.dest.domid = DOMID_SELF;
    if (flags & GNTCOPY_source_gref) {
        c.source.domid = 0;
        c.source.u.ref = 100;
    } else
        c.source.u.gmfn = mfn_of(src);
    if (flags & GNTCOPY_dest_gref) {
        c.dest.domid = 0;
        c.dest.u.ref = 101;
    } else
        c.dest.u.gmfn = mfn_of(dst);
    return c;
}

static int run(struct gnttab_copy c)
{
    return HC(grant_table_op, GNTTABOP_copy, &c, 1) ? 98 : c.status;
}

static void good(void)
{
    section("copies");
    for (unsigned flags = 0; flags < 4; flags++) {
        struct gnttab_copy c = request(flags);

        memset(dst, 0, PAGE_SIZE);
        c.source.offset = 100;
        c.dest.offset = 200;
        c.len = 300;
        CHECK_EQ(run(c), GNTST_okay);
        CHECK_EQ(memcmp(dst + 200, src + 100, 300), 0);
        CHECK_EQ(dst[199], 0);
        CHECK_EQ(dst[500], 0);
        c.source.offset = c.dest.offset = 0;
        c.len = PAGE_SIZE;
        CHECK_EQ(run(c), GNTST_okay);
        CHECK_EQ(memcmp(dst, src, PAGE_SIZE), 0);
        c.len = 0;
        CHECK_EQ(run(c), GNTST_okay);
    }
    CHECK_EQ(table[100].flags, GTF_permit_access | GTF_readonly);
    CHECK_EQ(table[101].flags, GTF_permit_access);

    static struct gnttab_copy batch[64];
    unsigned ok = 0;

    memset(dst, 0, PAGE_SIZE);
    for (unsigned i = 0; i < 64; i++) {
        batch[i] = request(GNTCOPY_source_gref);
        batch[i].source.offset = (uint16_t)(i * 64);
        batch[i].dest.offset = (uint16_t)(4032 - i * 64);
    }
    CHECK_EQ(HC(grant_table_op, GNTTABOP_copy, batch, 64), 0);
    for (unsigned i = 0; i < 64; i++)
        ok += batch[i].status == GNTST_okay && !memcmp(dst + 4032 - i * 64, src + i * 64, 64);
    CHECK_EQ(ok, 64);
}

static void bad(void)
{
    struct gnttab_copy c;

    section("copies refused");
    c = request(0);
    c.source.offset = 4095;
    c.len = 2;
    CHECK_EQ(run(c), GNTST_bad_copy_arg);
    c = request(0);
    c.dest.offset = 4000;
    c.len = 97;
    CHECK_EQ(run(c), GNTST_bad_copy_arg);
    c = request(0);
    c.dest.offset = 0xffff;
    c.len = 0xffff;
    CHECK_EQ(run(c), GNTST_bad_copy_arg);
    c = request(GNTCOPY_source_gref);
    c.source.u.ref = 102;
    CHECK_IN(run(c), GNTST_bad_gntref, GNTST_general_error);
    c.source.u.ref = 0xffffffff;
    CHECK_EQ(run(c), GNTST_bad_gntref);
    c = request(GNTCOPY_dest_gref);
    c.dest.u.ref = 100; /* read-only */
    CHECK(run(c) < 0);
    CHECK_EQ(table[100].flags, GTF_permit_access | GTF_readonly);
    c = request(0);
    c.source.u.gmfn = 0x200;
    CHECK(run(c) < 0);
    c = request(0);
    c.dest.u.gmfn = 0x200;
    CHECK(run(c) < 0);
    c = request(0);
    c.dest.u.gmfn = cr3_mfn(); /* no page table is written so */
    CHECK(run(c) < 0);
    c = request(0);
    c.source.u.gmfn = ~0UL;
    CHECK(run(c) < 0);
    c = request(0);
    c.source.domid = 1234;
    CHECK(run(c) < 0);
    c = request(GNTCOPY_source_gref);
    c.source.domid = 1234;
    CHECK_EQ(run(c), GNTST_bad_domain);
    grant(103, 0, 0x200, 0);
    c = request(GNTCOPY_source_gref);
    c.source.u.ref = 103;
    CHECK(run(c) < 0);
    grant(103, 0, cr3_mfn(), 0);
    c = request(GNTCOPY_dest_gref);
    c.dest.u.ref = 103;
    CHECK(run(c) < 0);
    CHECK_EQ(table[103].flags, GTF_permit_access);
    revoke(103);
}

void copies(void)
{
    src = page_alloc();
    dst = page_alloc();
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        src[i] = (uint8_t)(i * 7 + i / 256 + 1);
    grant(100, 0, mfn_of(src), GTF_readonly);
    grant(101, 0, mfn_of(dst), 0);
    good();
    bad();
    revoke(100);
    revoke(101);
    page_free(src);
    page_free(dst);
}
