/*
 * Grant tables, version 1 (xen/grant_table.h): their frames, their life, and the hypercall's
 * operations about a table as a whole. Maps and copies are map.c and copy.c; what happens to an
 * entry is use.c.
 *
 * A table starts empty and grows when its guest, or the toolstack on its behalf, asks for frames.
 * Each frame is the hypervisor's page shown to the guest (page_share), charged to it together with
 * the record of uses beside it.
 */
#include "grant/internal.h"

#include "hypercall/permission.h"
#include "hypercall/table.h"
#include "lib/string.h"

/* Pages behind one grant frame: itself, and its active entries. */
#define FRAME_CHARGE (1 + (REFS_PER_FRAME * sizeof(struct active) + PAGE_SIZE - 1) / PAGE_SIZE)

static int frame_add(struct grant_table *t)
{
    struct active *a = zalloc_array(REFS_PER_FRAME, sizeof(*a));
    struct grant_entry_v1 *shared = a ? xpage_alloc() : NULL;
    if (!shared) {
        zfree(a);
        return -XEN_ENOMEM;
    }
    page_share(t->owner, virt_to_page(shared));
    t->active[t->frames] = a;
    t->shared[t->frames] = shared;
    t->frames++;
    __atomic_fetch_add(&t->owner->overhead_pages, FRAME_CHARGE, __ATOMIC_RELAXED);
    return 0;
}

int grant_table_grow(struct grant_table *t, unsigned n)
{
    int rc = 0;
    if (n > t->max_frames || (n > t->frames && t->closed))
        return -XEN_EINVAL;
    while (!rc && t->frames < n)
        rc = frame_add(t);
    return rc;
}

int grant_table_frame(struct domain *d, unsigned i, mfn_t *frame)
{
    struct grant_table *t = d->grant;
    if (i >= t->max_frames)
        return -XEN_EINVAL;
    spin_lock(&t->lock);
    int rc = grant_table_grow(t, i + 1);
    if (!rc)
        *frame = virt_to_mfn(t->shared[i]);
    spin_unlock(&t->lock);
    return rc;
}

unsigned grant_table_frames(struct domain *d)
{
    return READ_ONCE(d->grant->frames);
}

unsigned grant_table_max_frames(struct domain *d)
{
    return d->grant->max_frames;
}

/* --- life --- */

int grant_domain_init(struct domain *d, int max_frames, int max_maptrack)
{
    if (max_frames < 0)
        max_frames = GRANT_FRAMES_DEFAULT;
    if (max_maptrack < 0)
        max_maptrack = MAPTRACK_FRAMES_DEFAULT;
    if (max_frames > GRANT_FRAMES_LIMIT || max_maptrack > MAPTRACK_FRAMES_LIMIT)
        return -XEN_EINVAL;
    struct grant_table *t = zalloc(sizeof(*t));
    if (!t)
        return -XEN_ENOMEM;
    spin_init(&t->lock, RANK_GRANT);
    t->owner = d;
    t->max_frames = max_frames;
    t->max_track = max_maptrack;
    t->free_handle = NO_HANDLE;
    t->shared = zalloc_array(max_frames + 1, sizeof(t->shared[0]));
    t->active = zalloc_array(max_frames + 1, sizeof(t->active[0]));
    d->grant = t;
    if (!t->shared || !t->active) {
        grant_domain_fini(d);
        return -XEN_ENOMEM;
    }
    return 0;
}

/* The last reference to the domain is gone, so nobody uses its grants and it has no mappings. */
void grant_domain_fini(struct domain *d)
{
    struct grant_table *t = d->grant;
    if (!t)
        return;
    for (unsigned i = 0; i < t->frames; i++) {
        page_unshare_free(d, virt_to_page(t->shared[i]));
        zfree(t->active[i]);
        __atomic_fetch_sub(&d->overhead_pages, FRAME_CHARGE, __ATOMIC_RELAXED);
    }
    for (unsigned i = 0; i < t->handles / HANDLES_PER_FRAME; i++) {
        zfree(t->track[i]);
        __atomic_fetch_sub(&d->overhead_pages, 1, __ATOMIC_RELAXED);
    }
    zfree(t->track);
    zfree(t->shared);
    zfree(t->active);
    zfree(t);
    d->grant = NULL;
}

/* --- operations --- */

/* The domain that an operation names, if the caller may: GNTST_*. */
static int target(domid_t id, unsigned op, struct domain **out)
{
    struct domain *d = domain_find_or_self(id);
    if (!d)
        return GNTST_bad_domain;
    if (permission_check(current_domain(), __HYPERVISOR_grant_table_op, op, d))
        return GNTST_permission_denied;
    *out = d;
    return GNTST_okay;
}

static int setup_decoded(const struct gnttab_setup_table *s)
{
    struct domain *d;
    int status = target(s->dom, GNTTABOP_setup_table, &d);
    if (status)
        return status;
    struct grant_table *t = d->grant;
    if (s->nr_frames > t->max_frames)
        return GNTST_general_error;
    spin_lock(&t->lock);
    int rc = grant_table_grow(t, s->nr_frames);
    spin_unlock(&t->lock);
    if (rc)
        return GNTST_general_error;
    for (unsigned i = 0; i < s->nr_frames; i++) {
        xen_pfn_t frame = virt_to_mfn(t->shared[i]).n;
        if (copy_element_to_guest(guest_handle(s->frame_list), i, &frame))
            return GNTST_bad_virt_addr;
    }
    return GNTST_okay;
}

#define PUT_STATUS(arg, s, value)                                                                  \
    ({                                                                                             \
        int16_t put_status = (value);                                                              \
        copy_to_guest(guest_offset(arg, offsetof(__typeof__(s), status)), &put_status,             \
                      sizeof(put_status));                                                         \
    })

static long op_setup_table(guest_ptr_t arg)
{
    struct gnttab_setup_table s;
    int rc = copy_from_guest(&s, arg, sizeof(s));
    return rc ? rc : PUT_STATUS(arg, s, setup_decoded(&s));
}

static long op_query_size(guest_ptr_t arg)
{
    struct gnttab_query_size q;
    struct domain *d;
    int rc = copy_from_guest(&q, arg, sizeof(q));
    if (rc)
        return rc;
    q.status = target(q.dom, GNTTABOP_query_size, &d);
    if (q.status == GNTST_okay) {
        q.nr_frames = grant_table_frames(d);
        q.max_nr_frames = grant_table_max_frames(d);
    }
    return copy_to_guest(arg, &q, sizeof(q));
}

static long op_set_version(guest_ptr_t arg)
{
    struct gnttab_set_version v;
    int rc = copy_from_guest(&v, arg, sizeof(v));
    if (rc)
        return rc;
    if (v.version != 1)
        return v.version == 2 ? -XEN_ENOSYS : -XEN_EINVAL;
    return copy_to_guest(arg, &v, sizeof(v));
}

static long op_get_version(guest_ptr_t arg)
{
    struct gnttab_get_version v;
    struct domain *d;
    int rc = copy_from_guest(&v, arg, sizeof(v));
    if (rc)
        return rc;
    switch (target(v.dom, GNTTABOP_get_version, &d)) {
    case GNTST_bad_domain:
        return -XEN_ESRCH;
    case GNTST_permission_denied:
        return -XEN_EPERM;
    }
    v.version = 1;
    return copy_to_guest(arg, &v, sizeof(v));
}

/* --- debugging --- */

#define DUMP_LINES 64 /* at most, so that the log is not flooded */

/* Mappings of others' grants that @t's domain has; lock held. */
static unsigned mappings_locked(const struct grant_table *t)
{
    unsigned used = 0;
    for (uint32_t h = 0; h < t->handles; h++)
        used += mapping_at(t, h)->flags != 0;
    return used;
}

static void dump_locked(const struct grant_table *t)
{
    unsigned lines = 0;
    log_info("d%u: grant table: %u of %u frames, %u of %u handles", t->owner->id, t->frames,
             t->max_frames, mappings_locked(t), t->handles);
    for (unsigned ref = 0; ref < t->frames * REFS_PER_FRAME; ref++) {
        const struct active *a = active_at(t, ref);
        if ((!a->readers && !a->writers) || lines++ >= DUMP_LINES)
            continue;
        log_info("  ref %u: frame %x used by d%u, %u readers, %u writers", ref, a->frame,
                 a->grantee, a->readers, a->writers);
    }
    if (lines > DUMP_LINES)
        log_info("  and %u more", lines - DUMP_LINES);
}

static void dump(struct domain *d)
{
    spin_lock(&d->grant->lock);
    dump_locked(d->grant);
    spin_unlock(&d->grant->lock);
}

static void dump_all(char key __unused)
{
    struct domain *d;
    for_each_domain(d)
        dump(d);
}

__init void grant_init(void)
{
    key_register('g', "grant tables: what is in use", dump_all);
}

static long op_dump_table(guest_ptr_t arg)
{
    struct gnttab_dump_table s;
    struct domain *d;
    int rc = copy_from_guest(&s, arg, sizeof(s));
    if (rc)
        return rc;
    int status = target(s.dom, GNTTABOP_dump_table, &d);
    /* The log is the machine's: others may not fill it. */
    if (!status && !current_domain()->privileged)
        status = GNTST_permission_denied;
    if (!status)
        dump(d);
    return PUT_STATUS(arg, s, status);
}

/* --- swap --- */

static int swap_locked(struct grant_table *t, uint32_t a, uint32_t b)
{
    unsigned refs = t->frames * REFS_PER_FRAME;
    if (a >= refs || b >= refs)
        return GNTST_bad_gntref;
    const struct active *x = &t->active[a / REFS_PER_FRAME][a % REFS_PER_FRAME];
    const struct active *y = &t->active[b / REFS_PER_FRAME][b % REFS_PER_FRAME];
    if (x->readers || x->writers || y->readers || y->writers)
        return GNTST_eagain;
    uint64_t *p = (uint64_t *)&t->shared[a / REFS_PER_FRAME][a % REFS_PER_FRAME];
    uint64_t *q = (uint64_t *)&t->shared[b / REFS_PER_FRAME][b % REFS_PER_FRAME];
    uint64_t v = READ_ONCE(*p), w = READ_ONCE(*q);
    WRITE_ONCE(*p, w);
    WRITE_ONCE(*q, v);
    return GNTST_okay;
}

static long op_swap(guest_ptr_t arg, unsigned count)
{
    struct grant_table *t = current_domain()->grant;
    for (unsigned i = 0; i < count; i++) {
        struct gnttab_swap_grant_ref s;
        guest_ptr_t element = guest_offset(arg, (uint64_t)i * sizeof(s));
        int rc = copy_from_guest(&s, element, sizeof(s));
        if (rc)
            return rc;
        spin_lock(&t->lock);
        int status = swap_locked(t, s.ref_a, s.ref_b);
        spin_unlock(&t->lock);
        rc = PUT_STATUS(element, s, status);
        if (rc)
            return rc;
        if (i % OPS_PER_SLICE == OPS_PER_SLICE - 1 && vcpu_wanted() && i + 1 < count)
            return i + 1;
    }
    return 0;
}

/* @done, what a batch came to: an error, 0, or how many of @count elements of @size were done. */
static long batch_end(long done, uint64_t cmd, guest_ptr_t arg, uint64_t count, size_t size)
{
    if (likely(done <= 0))
        return done;
    return hypercall_again(__HYPERVISOR_grant_table_op, cmd, arg.addr + done * size, count - done,
                           0);
}

#define BATCH(done, type) batch_end(done, cmd, arg, count, sizeof(struct type))

long hc_grant_table_op(uint64_t cmd, uint64_t argument, uint64_t count)
{
    guest_ptr_t arg = guest_ptr(argument);
    if (count > INT32_MAX)
        return -XEN_EINVAL;
    switch (cmd) {
    case GNTTABOP_map_grant_ref:
        return BATCH(grant_op_map(arg, count), gnttab_map_grant_ref);
    case GNTTABOP_unmap_grant_ref:
        return BATCH(grant_op_unmap(arg, count, false), gnttab_unmap_grant_ref);
    case GNTTABOP_unmap_and_replace:
        return BATCH(grant_op_unmap(arg, count, true), gnttab_unmap_and_replace);
    case GNTTABOP_copy:
        return BATCH(grant_op_copy(arg, count), gnttab_copy);
    case GNTTABOP_swap_grant_ref:
        return BATCH(op_swap(arg, count), gnttab_swap_grant_ref);
    case GNTTABOP_setup_table:
        return count == 1 ? op_setup_table(arg) : -XEN_EINVAL;
    case GNTTABOP_query_size:
        return count == 1 ? op_query_size(arg) : -XEN_EINVAL;
    case GNTTABOP_dump_table:
        return count == 1 ? op_dump_table(arg) : -XEN_EINVAL;
    case GNTTABOP_set_version:
        return count == 1 ? op_set_version(arg) : -XEN_EINVAL;
    case GNTTABOP_get_version:
        return count == 1 ? op_get_version(arg) : -XEN_EINVAL;
    case GNTTABOP_transfer:
    case GNTTABOP_get_status_frames: /* of version 2 */
        return -XEN_EOPNOTSUPP;
    default: /* cache_flush too: x86 caches are coherent */
        return -XEN_ENOSYS;
    }
}
