/*
 * The rooms domain/ and sched/ as event/ and grant/ see them. All symbols are weak. preempt_point()
 * fails the test when the CPU holds a lock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake/alloc.h"
#include "fake/domain.h"

#define WEAK __attribute__((weak))

WEAK struct domain *dom0, *dom_io, *dom_xen;
WEAK unsigned fake_kicks[FAKE_DOMAINS][MAX_VCPUS];
WEAK unsigned fake_unblocks[FAKE_DOMAINS][MAX_VCPUS];
WEAK unsigned fake_preempts;
WEAK void (*console_input_hook)(void);
static struct domain *domains[FAKE_DOMAINS];

static const struct cpu_mask *no_cpus(const struct domain *d)
{
    return NULL;
}

static const struct page_type_ops type_ops = {.dirty_cpus = no_cpus};
/* Defined by mm/page_type.c where that is linked. */
WEAK const struct page_type_ops *page_type_ops;

WEAK struct domain *fake_domain_new(domid_t id, unsigned vcpus, bool privileged)
{
    struct domain *d = calloc(1, sizeof(*d));
    assert_true(id < FAKE_DOMAINS && !domains[id]);
    page_type_ops = &type_ops;
    d->id = id;
    d->refs = 1;
    d->privileged = privileged;
    d->max_vcpus = vcpus;
    d->max_pages = FAKE_FRAMES;
    spin_init(&d->lock, RANK_DOMAIN);
    spin_init(&d->page_lock, RANK_PAGE_LIST);
    d->dirty_cpus.bits[0] = 1;
    d->shared = calloc(1, PAGE_SIZE);
    d->ports_2l = EVTCHN_2L_NR_CHANNELS;
    for (unsigned i = 0; i < vcpus; i++) {
        struct vcpu *v = calloc(1, sizeof(*v));
        v->id = i;
        v->domain = d;
        v->info = &d->shared->vcpu_info[i];
        d->vcpu[i] = v;
    }
    memset(fake_kicks[id], 0, sizeof(fake_kicks[id]));
    memset(fake_unblocks[id], 0, sizeof(fake_unblocks[id]));
    domains[id] = d;
    if (privileged)
        dom0 = d;
    return d;
}

WEAK void fake_domain_free(struct domain *d)
{
    assert_int_equal(d->refs, 1);
    assert_int_equal(d->overhead_pages, 0);
    for (unsigned i = 0; i < d->max_vcpus; i++)
        free(d->vcpu[i]);
    free(d->shared);
    domains[d->id] = NULL;
    if (dom0 == d)
        dom0 = NULL;
    free(d);
}

WEAK struct page *fake_domain_page(struct domain *d)
{
    struct page *page = page_alloc(0, ALLOC_ZERO);
    assert_non_null(page);
    assert_int_equal(page_assign(d, page, 0), 0);
    return page;
}

WEAK void fake_domain_page_drop(struct page *page)
{
    assert_true(page_drop_allocation(page));
    page_put(page);
}

WEAK void fake_current(struct vcpu *v)
{
    this_cpu()->current = v;
}

WEAK struct domain *domain_find(domid_t id)
{
    return id < FAKE_DOMAINS ? domains[id] : NULL;
}

WEAK struct domain *domain_at_or_after(unsigned id)
{
    for (; id < FAKE_DOMAINS; id++)
        if (domains[id])
            return domains[id];
    return NULL;
}

WEAK struct domain *domain_find_or_self(domid_t id)
{
    return id == DOMID_SELF ? current_domain() : domain_find(id);
}

WEAK bool domain_get(struct domain *d)
{
    __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
    return true;
}

WEAK void domain_put(struct domain *d)
{
    assert_true(__atomic_fetch_sub(&d->refs, 1, __ATOMIC_RELAXED) > 1);
}

WEAK struct page *domain_get_page(struct domain *d, gfn_t g)
{
    if (!mfn_is_ram(mfn(g.n)))
        return NULL;
    struct page *page = mfn_to_page(mfn(g.n));
    return page_get(page, d) ? page : NULL;
}

WEAK void vcpu_kick(struct vcpu *v)
{
    __atomic_fetch_add(&fake_kicks[v->domain->id][v->id], 1, __ATOMIC_RELAXED);
}

WEAK void sched_unblock(struct sched_entity *e, uint32_t bit)
{
    struct vcpu *v = container_of(e, struct vcpu, sched);
    __atomic_fetch_and(&e->blockers, ~bit, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&fake_unblocks[v->domain->id][v->id], 1, __ATOMIC_RELAXED);
}

WEAK bool vcpu_wanted(void)
{
    preempt_point();
    return false;
}

WEAK long hypercall_again(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    abort();
}

WEAK void preempt_point(void)
{
    assert_int_equal(this_cpu()->locks_held, 0);
    fake_preempts++;
}
