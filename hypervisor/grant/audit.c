/*
 * Recounts who uses whose grants: the mappings that domains have against the uses that the granters
 * know of (struct active).
 *
 * A grant is in use by one domain at a time, so mappers can be looked at one by one. The granter's
 * lock is held meanwhile. A mapping of its grants that is not busy has its uses then, and
 * keeps them: more mappings than uses are an error of ours even while guests run. More uses than
 * mappings are copies under way and mappings being made or ended; of paused domains there are none.
 */
#include "grant/internal.h"

#define LINES_MAX 10

struct tally {
    uint16_t readers, writers;
};

struct audit {
    uint64_t uses, mapped;
    unsigned errors;
};

static void wrong(struct audit *a, const struct grant_table *t, uint32_t ref, domid_t grantee,
                  const struct tally *counted)
{
    const struct active *act = active_at(t, ref);
    if (a->errors++ < LINES_MAX)
        log_error("d%u grant %u, frame %x: d%u has %u readers and %u writers, d%u is known to have "
                  "%u and %u",
                  t->owner->id, ref, act->frame, grantee, counted->readers, counted->writers,
                  act->grantee, act->readers, act->writers);
}

/* Is it a settled mapping of @granter's? It may change until the second look at its flags. */
static bool mapping_of(const struct mapping *m, const struct domain *granter, uint32_t *ref,
                       uint16_t *flags)
{
    *flags = __atomic_load_n(&m->flags, __ATOMIC_ACQUIRE);
    if (!(*flags & MAPPING_HALVES) || (*flags & MAPPING_BUSY) || READ_ONCE(m->granter) != granter)
        return false;
    *ref = READ_ONCE(m->ref);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return READ_ONCE(m->flags) == *flags;
}

/* What @e has of @t's grants; @t's lock is held. */
static void audit_pair(struct audit *a, const struct grant_table *t, const struct domain *e,
                       unsigned refs, struct tally *tally)
{
    const struct grant_table *mapper = e->grant;
    unsigned handles = __atomic_load_n(&mapper->handles, __ATOMIC_ACQUIRE), found = 0;
    for (uint32_t h = 0; h < handles; h++) {
        uint32_t ref;
        uint16_t flags;
        if (!mapping_of(mapping_at(mapper, h), t->owner, &ref, &flags))
            continue;
        unsigned halves = (flags & MAPPING_HALVES) == MAPPING_HALVES ? 2 : 1;
        if (ref < refs)
            *(flags & MAPPING_READONLY ? &tally[ref].readers : &tally[ref].writers) += halves;
        found += halves;
    }
    if (!found)
        return;
    a->mapped += found;
    for (uint32_t ref = 0; ref < refs; ref++) {
        const struct active *act = active_at(t, ref);
        struct tally *n = &tally[ref];
        if ((n->readers || n->writers) &&
            (act->grantee != e->id || n->readers > act->readers || n->writers > act->writers))
            wrong(a, t, ref, e->id, n);
        *n = (struct tally){0};
    }
}

/* The uses that the table has in all, and the page of each. */
static void audit_uses(struct audit *a, const struct grant_table *t, unsigned refs)
{
    static const struct tally none;
    uint64_t uses = 0;
    for (uint32_t ref = 0; ref < refs; ref++) {
        const struct active *act = active_at(t, ref);
        unsigned n = act->readers + act->writers;
        uses += n;
        const struct page *page = mfn_to_page(mfn(act->frame));
        if (n && (page->owner != t->owner || !(READ_ONCE(page->refs) & PAGE_REF_COUNT)))
            wrong(a, t, ref, act->grantee, &none);
    }
    a->uses += uses;
    if (uses != t->uses && a->errors++ < LINES_MAX)
        log_error("d%u: %lu uses of its grants, %lu counted", t->owner->id, t->uses, uses);
}

static void audit_granter(struct audit *a, struct domain *d)
{
    struct grant_table *t = d->grant;
    spin_lock(&t->lock);
    unsigned refs = t->frames * REFS_PER_FRAME;
    struct tally *tally = refs ? zalloc_array(refs, sizeof(*tally)) : NULL;
    if (refs && !tally)
        log_error("d%u: no memory to audit its grants", d->id);
    if (tally) {
        struct domain *e;
        audit_uses(a, t, refs);
        for_each_domain(e)
            audit_pair(a, t, e, refs, tally);
    }
    spin_unlock(&t->lock);
    zfree(tally);
}

void grant_audit(void)
{
    struct audit a = {0};
    struct domain *d;
    for_each_domain(d)
        audit_granter(&a, d);
    log_info("grants: %lu uses, %lu of them by mappings, %u errors", a.uses, a.mapped, a.errors);
}
