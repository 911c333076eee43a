/* SOURCES: mm/page_type.c mm/page.c lib/bitmap.c lib/spinlock.c fake/alloc.c fake/cpu.c */
/* SOURCES: fake/domain.c */
/*
 * Types of frames against a plain model: a type, a count of uses, a pin. Whatever the order, the
 * answers are the model's, and a change of type never comes before the flush that it needs.
 */
#include "fuzz.h"

#include "fake/alloc.h"
#include "fake/cpu.h"
#include "fake/domain.h"

enum { PAGES = 4 };

static struct {
    unsigned type, uses, last; /* last: what it was used as before, 0 = nothing to forget */
    bool pinned;
} model[PAGES];
static int validate_answer;
static struct domain *d;

static int validate(struct page *page, enum page_type type)
{
    return validate_answer;
}

static void invalidate(struct page *page, enum page_type type)
{
}

static const struct cpu_mask *dirty(const struct domain *who)
{
    return &who->dirty_cpus;
}

static const struct page_type_ops ops = {validate, invalidate, dirty};

static int expected(unsigned i, unsigned type, bool fast)
{
    if (model[i].uses)
        return model[i].type == type ? 0 : -XEN_EBUSY;
    if (type == PAGE_WRITABLE)
        return 0;
    return fast ? -XEN_EBUSY : validate_answer;
}

static void get(struct page *p, unsigned i)
{
    unsigned type = PAGE_L1 + take8() % PAGE_WRITABLE;
    bool fast = take8() & 1;
    validate_answer = take8() & 3 ? 0 : -XEN_EINVAL;
    int want = expected(i, type, fast);
    bool changes = !model[i].uses && model[i].last && model[i].last != type;
    unsigned flushes = fake_tlb_flushes;
    CHECK((fast ? page_get_type_fast(p, type) : page_get_type(p, type)) == want);
    if (changes && want != -XEN_EBUSY)
        CHECK(fake_tlb_flushes > flushes);
    if (!want) {
        model[i].type = type;
        model[i].uses++;
    } else if (want == -XEN_EINVAL) {
        model[i].last = 0; /* nothing ever used it as that, and the old use is forgotten */
    }
}

static void put(struct page *p, unsigned i)
{
    if (model[i].uses <= model[i].pinned)
        return;
    page_put_type(p);
    if (--model[i].uses == 0)
        model[i].last = model[i].type;
}

/* A pin keeps a use that was just taken. */
static void pin(struct page *p, unsigned i)
{
    if (!model[i].uses)
        return;
    CHECK(page_type_pin(p) == !model[i].pinned);
    model[i].pinned = true;
}

static void unpin(struct page *p, unsigned i)
{
    CHECK(page_type_unpin(p) == model[i].pinned);
    model[i].pinned = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct page *p[PAGES];
    input = data;
    input_left = size;
    fake_ram_reset();
    fake_alloc_live = fake_alloc_fail_in = 0;
    memset(model, 0, sizeof(model));
    d = fake_domain_new(1, 1, false);
    page_type_ops = &ops;
    bit_set(d->dirty_cpus.bits, 0); /* its translations may be in this CPU's TLB */
    for (unsigned i = 0; i < PAGES; i++)
        p[i] = fake_domain_page(d);
    while (input_left) {
        unsigned choice = take8(), i = choice / 8 % PAGES;
        switch (choice & 7) {
        case 0 ... 3:
            get(p[i], i);
            break;
        case 4 ... 5:
            put(p[i], i);
            break;
        case 6:
            pin(p[i], i);
            break;
        case 7:
            unpin(p[i], i);
            break;
        }
        CHECK((p[i]->type & PAGE_TYPE_COUNT) == model[i].uses);
        if (model[i].uses)
            CHECK(page_type(p[i]) == model[i].type && (p[i]->type & PAGE_TYPE_VALIDATED));
    }
    for (unsigned i = 0; i < PAGES; i++) {
        unpin(p[i], i);
        while (model[i].uses)
            put(p[i], i);
        fake_domain_page_drop(p[i]);
    }
    bit_clear(d->dirty_cpus.bits, 0);
    fake_domain_free(d);
    CHECK(fake_alloc_live == 0);
    return 0;
}
