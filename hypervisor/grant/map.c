/*
 * Mapping what others have granted, and ending that.
 *
 * A map is: a handle, a use of the grant (use.c), the page-table entry (struct grant_map_ops). An
 * unmap is the entry, then one TLB flush for the whole slice of the batch, then the uses and the
 * handles: so a frame is never given back while a TLB still knows it. In between a handle is
 * MAPPING_BUSY, which keeps the caller's other vCPUs off it. Locks are held one at a time and never
 * across the latter, which may wait.
 *
 * Handles: which are free is under the table's lock. One in use changes its flags by compare-
 * exchange to MAPPING_BUSY, and only who did that changes it further.
 *
 * A mapping is a use of the grant, which keeps the granter and its table; a granter that dies
 * leaves existing mappings valid.
 */
#include "grant/internal.h"

const struct grant_map_ops *grant_pv_ops __ro_after_init;
const struct grant_map_ops *grant_hvm_ops __ro_after_init;

static const struct grant_map_ops *map_ops(void)
{
    return unlikely(current_domain()->is_hvm) ? grant_hvm_ops : grant_pv_ops;
}

static inline struct grant_use use_of(const struct mapping *m)
{
    return (struct grant_use){m->granter, m->ref, !(m->flags & MAPPING_READONLY)};
}

/* --- handles --- */

/* One more frame of handles; lock held. */
static int track_grow(struct grant_table *t)
{
    unsigned frame = t->handles / HANDLES_PER_FRAME;
    if (frame >= t->max_track || t->closed)
        return GNTST_no_space;
    if (!t->track)
        t->track = zalloc_array(t->max_track, sizeof(t->track[0]));
    struct mapping *m = t->track ? zalloc_array(HANDLES_PER_FRAME, sizeof(*m)) : NULL;
    if (!m)
        return GNTST_no_space;
    for (unsigned i = 0; i < HANDLES_PER_FRAME; i++)
        m[i].ref = i + 1 < HANDLES_PER_FRAME ? t->handles + i + 1 : NO_HANDLE;
    t->track[frame] = m;
    t->free_handle = t->handles;
    __atomic_store_n(&t->handles, t->handles + HANDLES_PER_FRAME, __ATOMIC_RELEASE);
    __atomic_fetch_add(&t->owner->overhead_pages, 1, __ATOMIC_RELAXED);
    return GNTST_okay;
}

/* What an unmap must know of the map, which its arguments do not say. */
static unsigned mapping_flags(uint32_t gnttab_flags)
{
    return (gnttab_flags & GNTMAP_readonly ? MAPPING_READONLY : 0) |
           (gnttab_flags & GNTMAP_contains_pte ? MAPPING_PTE : 0) |
           (gnttab_flags & GNTMAP_application_map ? MAPPING_APP : 0);
}

static uint32_t gnttab_flags(const struct mapping *m)
{
    return GNTMAP_host_map | (m->flags & MAPPING_READONLY ? GNTMAP_readonly : 0) |
           (m->flags & MAPPING_PTE ? GNTMAP_contains_pte : 0) |
           (m->flags & MAPPING_APP ? GNTMAP_application_map : 0);
}

static int handle_get(struct grant_table *t, const struct grant_use *use, unsigned flags,
                      uint32_t *handle)
{
    spin_lock(&t->lock);
    int status = t->free_handle == NO_HANDLE ? track_grow(t) : GNTST_okay;
    if (!status && t->closed)
        status = GNTST_no_space;
    if (!status) {
        *handle = t->free_handle;
        struct mapping *m = mapping_at(t, *handle);
        t->free_handle = m->ref;
        *m = (struct mapping){
            .granter = use->granter, .ref = use->ref, .flags = MAPPING_BUSY | flags};
    }
    spin_unlock(&t->lock);
    return status;
}

/* Ends the busy time of one that stays: the mapping has @halves now. */
static void handle_settle(struct grant_table *t, uint32_t handle, unsigned halves)
{
    struct mapping *m = mapping_at(t, handle);
    uint16_t flags = (m->flags & ~(MAPPING_BUSY | MAPPING_HALVES)) | halves;
    __atomic_store_n(&m->flags, flags, __ATOMIC_RELEASE);
}

/* Handles that are not needed any more, in a chain, to be given back under one lock. */
struct freed {
    uint32_t first, last;
};
#define NONE_FREED                                                                                 \
    {                                                                                              \
        NO_HANDLE, NO_HANDLE                                                                       \
    }

static void handle_drop(struct grant_table *t, uint32_t handle, struct freed *f)
{
    *mapping_at(t, handle) = (struct mapping){.ref = f->first};
    f->first = handle;
    if (f->last == NO_HANDLE)
        f->last = handle;
}

static void handles_free(struct grant_table *t, const struct freed *f)
{
    if (f->first == NO_HANDLE)
        return;
    spin_lock(&t->lock);
    mapping_at(t, f->last)->ref = t->free_handle;
    t->free_handle = f->first;
    spin_unlock(&t->lock);
}

/* --- map --- */

/* Each half is one use of the grant. */
static int use_halves(const struct grant_use *use, domid_t self, unsigned halves, mfn_t *frame)
{
    int status = grant_use(use, self, frame);
    if (status || halves != MAPPING_HALVES)
        return status;
    status = grant_use(use, self, frame);
    if (status)
        grant_unuse(use);
    return status;
}

static void unuse_halves(const struct grant_use *use, unsigned halves)
{
    if (halves & MAPPING_HOST)
        grant_unuse(use);
    if (halves & MAPPING_DEVICE)
        grant_unuse(use);
}

static int map_use(struct gnttab_map_grant_ref *op, const struct grant_use *use,
                   struct grant_place *at)
{
    struct domain *self = current_domain();
    unsigned halves = (op->flags & GNTMAP_host_map ? MAPPING_HOST : 0) |
                      (op->flags & GNTMAP_device_map ? MAPPING_DEVICE : 0);
    struct freed freed = NONE_FREED;
    uint32_t handle;
    mfn_t frame;
    int status = handle_get(self->grant, use, mapping_flags(op->flags), &handle);
    if (status)
        return status;
    status = use_halves(use, self->id, halves, &frame);
    if (status)
        goto out_handle;
    if (halves & MAPPING_HOST) {
        status = map_ops()->map(at, op->host_addr, frame, op->flags);
        if (status)
            goto out_use;
    }
    handle_settle(self->grant, handle, halves);
    op->handle = handle;
    /* Told for every mapping: Linux enters it in its p2m, from which its drivers do DMA. */
    op->dev_bus_addr = mfn_to_maddr(frame).a;
    return GNTST_okay;

out_use:
    unuse_halves(use, halves);
out_handle:
    handle_drop(self->grant, handle, &freed);
    handles_free(self->grant, &freed);
    return status;
}

/* The granter is borrowed until the use of its grant keeps it. */
static int map_one(struct gnttab_map_grant_ref *op, struct grant_place *at)
{
    if (!(op->flags & (GNTMAP_host_map | GNTMAP_device_map)))
        return GNTST_general_error;
    struct domain *granter = domain_find_or_self(op->dom);
    if (!granter)
        return GNTST_bad_domain;
    struct grant_use use = {granter, op->ref, !(op->flags & GNTMAP_readonly)};
    int status = map_use(op, &use, at);
    if (!status)
        count(TRACE_grant_maps);
    return status;
}

#define MAP_RESULTS offsetof(struct gnttab_map_grant_ref, dom) /* two words: dom, status ... */
_Static_assert(MAP_RESULTS % 8 == 0 && sizeof(struct gnttab_map_grant_ref) == MAP_RESULTS + 16,
               "the results are the last two words");

long grant_op_map(guest_ptr_t arg, unsigned count)
{
    struct grant_place at = {0};
    long rc = 0;
    for (unsigned i = 0; i < count && !rc; i++) {
        guest_ptr_t element = guest_offset(arg, (uint64_t)i * sizeof(struct gnttab_map_grant_ref));
        struct gnttab_map_grant_ref op __uninitialized;
        rc = copy_from_guest(&op, element, sizeof(op));
        if (rc)
            break;
        op.status = map_one(&op, &at);
        /* On a fault the guest has lost the handle; its death gives the mapping back. */
        rc = copy_to_guest(guest_offset(element, MAP_RESULTS), &op.dom, sizeof(op) - MAP_RESULTS);
        if (!rc && i % OPS_PER_SLICE == OPS_PER_SLICE - 1 && vcpu_wanted() && i + 1 < count)
            rc = i + 1;
    }
    map_ops()->leave(&at);
    return rc;
}

/* --- unmap --- */

/* What one element of a slice came to. */
struct unmapped {
    uint32_t handle;
    int16_t status;
    uint8_t halves; /* gone from the page tables; uses still held */
};

/* The two hypercalls' arguments as one: what is the device address of one, the other calls
 * new_addr. */
#define SAME_PLACE(a, b)                                                                           \
    _Static_assert(offsetof(struct gnttab_unmap_grant_ref, a) ==                                   \
                       offsetof(struct gnttab_unmap_and_replace, b),                               \
                   "the two are alike")
SAME_PLACE(host_addr, host_addr);
SAME_PLACE(dev_bus_addr, new_addr);
SAME_PLACE(handle, handle);
SAME_PLACE(status, status);
_Static_assert(sizeof(struct gnttab_unmap_grant_ref) == sizeof(struct gnttab_unmap_and_replace),
               "the two are alike");

struct unmap_args {
    uint64_t host_addr, dev_bus_addr, new_addr;
    uint32_t handle;
};

/* Claims the handle for this vCPU; @copy is what it stands for. */
static int handle_claim(struct grant_table *t, uint32_t handle, struct mapping *copy)
{
    if (handle >= __atomic_load_n(&t->handles, __ATOMIC_ACQUIRE))
        return GNTST_bad_handle;
    struct mapping *m = mapping_at(t, handle);
    uint16_t flags = READ_ONCE(m->flags);
    if (!(flags & MAPPING_HALVES) || (flags & MAPPING_BUSY) ||
        !__atomic_compare_exchange_n(&m->flags, &flags, flags | MAPPING_BUSY, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return GNTST_bad_handle;
    *copy = *m;
    return GNTST_okay;
}

/* Takes what @a names out of use, but for the uses themselves. */
static int unmap_halves(const struct unmap_args *a, const struct mapping *m, struct grant_place *at,
                        uint8_t *halves)
{
    struct grant_use use = use_of(m);
    mfn_t frame = grant_used_frame(&use);
    if (a->dev_bus_addr) {
        if (!(m->flags & MAPPING_DEVICE) || maddr_to_mfn(maddr(a->dev_bus_addr)).n != frame.n)
            return GNTST_bad_dev_addr;
    }
    if (a->host_addr) {
        if (!(m->flags & MAPPING_HOST))
            return GNTST_bad_virt_addr;
        int status = map_ops()->unmap(at, a->host_addr, frame, gnttab_flags(m), a->new_addr);
        if (status)
            return status;
        *halves |= MAPPING_HOST;
    }
    if (a->dev_bus_addr)
        *halves |= MAPPING_DEVICE;
    return GNTST_okay;
}

static void unmap_one(const struct unmap_args *a, struct grant_place *at, struct unmapped *u)
{
    struct grant_table *t = current_domain()->grant;
    struct mapping m;
    *u = (struct unmapped){.handle = a->handle};
    u->status = handle_claim(t, a->handle, &m);
    if (u->status)
        return;
    u->status = unmap_halves(a, &m, at, &u->halves);
    if (!u->halves)
        handle_settle(t, a->handle, m.flags & MAPPING_HALVES);
}

/* The TLBs have forgotten: give back the uses, and the handle when nothing is left of it. */
static void unmap_finish(struct grant_table *t, uint32_t handle, unsigned gone, struct freed *freed)
{
    struct mapping m = *mapping_at(t, handle); /* busy, so it is ours */
    struct grant_use use = use_of(&m);
    unsigned left = m.flags & MAPPING_HALVES & ~gone;
    unuse_halves(&use, gone);
    if (left)
        handle_settle(t, handle, left);
    else
        handle_drop(t, handle, freed);
}

/* The element's last word: handle and status. */
#define UNMAP_RESULT offsetof(struct gnttab_unmap_grant_ref, handle)
_Static_assert(sizeof(struct gnttab_unmap_grant_ref) == UNMAP_RESULT + 8, "handle, status, pad");

static guest_ptr_t unmap_element(guest_ptr_t arg, unsigned i)
{
    return guest_offset(arg, (uint64_t)i * sizeof(struct gnttab_unmap_grant_ref));
}

static int unmap_get(guest_ptr_t arg, unsigned i, bool replace, struct unmap_args *a)
{
    struct gnttab_unmap_grant_ref op __uninitialized;
    int rc = copy_from_guest(&op, unmap_element(arg, i), sizeof(op));
    if (!rc)
        *a = (struct unmap_args){op.host_addr, replace ? 0 : op.dev_bus_addr,
                                 replace ? op.dev_bus_addr : 0, op.handle};
    return rc;
}

static int unmap_put_status(guest_ptr_t arg, unsigned i, const struct unmapped *u)
{
    struct {
        uint32_t handle;
        int16_t status;
        uint16_t pad;
    } result = {u->handle, u->status, 0};
    return copy_to_guest(guest_offset(unmap_element(arg, i), UNMAP_RESULT), &result,
                         sizeof(result));
}

/* Elements @first to @first + @n - 1. Whatever faults, what was unmapped is finished. */
static int unmap_slice(guest_ptr_t arg, unsigned first, unsigned n, bool replace,
                       struct grant_place *at)
{
    struct domain *self = current_domain();
    struct unmapped u[OPS_PER_SLICE] __uninitialized;
    struct freed freed = NONE_FREED;
    struct unmap_args a;
    unsigned done, host = 0;
    int rc = 0;
    for (done = 0; done < n; done++) {
        rc = unmap_get(arg, first + done, replace, &a);
        if (rc)
            break;
        if (replace && (!a.host_addr || !a.new_addr))
            u[done] = (struct unmapped){.handle = a.handle, .status = GNTST_bad_virt_addr};
        else
            unmap_one(&a, at, &u[done]);
        host |= u[done].halves & MAPPING_HOST;
    }
    if (host)
        tlb_flush_mask(&self->dirty_cpus);
    for (unsigned i = 0; i < done; i++) {
        if (u[i].halves) {
            unmap_finish(self->grant, u[i].handle, u[i].halves, &freed);
            count(TRACE_grant_unmaps);
        }
        if (!rc)
            rc = unmap_put_status(arg, first + i, &u[i]);
    }
    handles_free(self->grant, &freed);
    return rc;
}

long grant_op_unmap(guest_ptr_t arg, unsigned count, bool replace)
{
    struct grant_place at = {0};
    long rc = 0;
    for (unsigned i = 0; i < count && !rc; i += OPS_PER_SLICE) {
        rc = unmap_slice(arg, i, min(count - i, (unsigned)OPS_PER_SLICE), replace, &at);
        if (!rc && vcpu_wanted() && count - i > OPS_PER_SLICE)
            rc = i + OPS_PER_SLICE;
    }
    map_ops()->leave(&at);
    return rc;
}

/* --- death of the mapper --- */

/*
 * Its vCPUs do not run and its page tables are never loaded again; their entries keep their own
 * references until pv/ drops them.
 */
void grant_domain_relinquish(struct domain *d)
{
    struct grant_table *t = d->grant;
    spin_lock(&t->lock);
    t->closed = true;
    unsigned handles = t->handles;
    spin_unlock(&t->lock);

    struct freed freed = NONE_FREED;
    bool flushed = false;
    for (uint32_t h = 0; h < handles; h++) {
        struct mapping m;
        if (h % OPS_PER_SLICE == 0)
            preempt_point();
        if (handle_claim(t, h, &m))
            continue;
        if (!flushed)
            tlb_flush_mask(&d->dirty_cpus);
        flushed = true;
        unmap_finish(t, h, m.flags & MAPPING_HALVES, &freed);
    }
    handles_free(t, &freed);
}
