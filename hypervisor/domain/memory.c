/*
 * memory_op (xen/memory.h): where memory is given to a domain and taken back.
 *
 * PV guests know machine frames: a guest frame number given by the caller is only written into the
 * machine-to-physical table, and the machine frame is the answer. A batch reports how many extents
 * were done; an extent is done whole or not at all.
 */
#include "boot/bootinfo.h"
#include "hypercall/permission.h"
#include "domain/internal.h"
#include "grant/grant.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/memory.h>

/* Largest extents: an ordinary domain for itself, and the privileged one for anybody. */
#define MAX_ORDER_SELF       9
#define MAX_ORDER_PRIVILEGED BUDDY_MAX_ORDER
#define FRAMES_PER_SLICE     64

struct batch {
    struct domain *d; /* counted */
    guest_ptr_t extents;
    uint64_t count;
    unsigned order;
    unsigned width;   /* address bits, 0 = any */
    bool want_result; /* the caller gave an array */
    bool on_demand;   /* pages come when they are touched (hvm/pod.c) */
};

static int batch_decode(const struct xen_memory_reservation *r, uint64_t op, struct batch *b)
{
    struct domain *caller = current_domain();
    struct domain *d = domain_find_or_self(r->domid);
    if (!d)
        return -XEN_ESRCH;
    int rc = permission_check(caller, __HYPERVISOR_memory_op, op, d);
    if (rc)
        return rc;
    b->on_demand = r->mem_flags & XENMEMF_populate_on_demand;
    if (b->on_demand && !caller->privileged)
        return -XEN_EPERM;
    if ((r->mem_flags & XENMEMF_vnode) ||
        (b->on_demand && (op != XENMEM_populate_physmap || !d->is_hvm || d == caller)))
        return -XEN_EOPNOTSUPP;
    if (b->on_demand && r->extent_order % 9)
        return -XEN_EINVAL;
    if (r->extent_order > (caller->privileged ? MAX_ORDER_PRIVILEGED : MAX_ORDER_SELF))
        return -XEN_EPERM;
    if (r->nr_extents > (1UL << 32) ||
        (op != XENMEM_increase_reservation && r->nr_extents && !r->extent_start.p))
        return -XEN_EINVAL;

    b->extents = guest_handle(r->extent_start);
    b->count = r->nr_extents;
    b->order = r->extent_order;
    b->width = XENMEMF_get_address_bits(r->mem_flags);
    b->want_result = r->extent_start.p != NULL;
    if (b->width && b->width <= PAGE_SHIFT)
        return -XEN_EINVAL;
    if (d->is_hvm) { /* it names its frames, and knows no others */
        if (op == XENMEM_increase_reservation)
            return -XEN_EOPNOTSUPP;
        b->want_result = false;
    }
    if (!domain_get(d))
        return -XEN_ESRCH;
    b->d = d;
    return 0;
}

/* @pfn: of the first of 2^order frames, or M2P_INVALID. */
static void name_extent(struct page *page, unsigned order, uint64_t pfn)
{
    for (uint64_t j = 0; j < 1UL << order; j++)
        m2p_set(mfn(page_to_mfn(page).n + j), pfn == M2P_INVALID ? pfn : pfn + j);
}

/*
 * 2^order fresh zeroed frames for @d, called @pfn in the machine-to-physical table; NULL when there
 * are none, @d may not have more, or the caller cannot be told. Once they are @d's, another vCPU
 * may give them back and a third domain have them: everything else is done before.
 */
static struct page *give_extent(const struct batch *b, uint64_t i, uint64_t pfn)
{
    uint64_t claimed;
    struct page *page =
        page_alloc_for(b->d, b->order, ALLOC_ZERO | ALLOC_PREEMPT, b->width, &claimed);
    if (!page)
        return NULL;
    xen_pfn_t answer = page_to_mfn(page).n;
    name_extent(page, b->order, pfn);
    if ((b->want_result && copy_element_to_guest(b->extents, i, &answer)) ||
        page_assign(b->d, page, b->order)) {
        name_extent(page, b->order, M2P_INVALID);
        buddy_claim_return(b->d, claimed); /* first: nobody else gets them in between */
        page_free(page, b->order);
        return NULL;
    }
    return page;
}

/* A translated guest finds them at @guest_frame. What cannot be mapped is taken back. */
static bool show_extent(const struct batch *b, struct page *page, xen_pfn_t guest_frame)
{
    const struct guest_ops *ops = ops_of(b->d);
    if (!b->d->is_hvm || !ops->map(b->d, gfn(guest_frame), page, b->order))
        return true;
    for (uint64_t j = 0; j < 1UL << b->order; j++) {
        /* Once mapped, the guest may have given it back: then it can be another's. */
        if (!page_get(page + j, b->d))
            continue;
        (void)ops->unmap(b->d, gfn(guest_frame + j), page + j);
        page_take_back(page + j);
        page_put(page + j);
    }
    return false;
}

static bool give_one(const struct batch *b, uint64_t i, bool named, xen_pfn_t guest_frame)
{
    if (b->on_demand)
        return !ops_of(b->d)->map_on_demand(b->d, gfn(guest_frame), b->order);
    struct page *page = give_extent(b, i, named ? guest_frame : M2P_INVALID);
    return page && show_extent(b, page, guest_frame);
}

/*
 * Number of extents done; the first failure ends the batch. @named: the array says under which
 * guest frame numbers they are to be known.
 */
static uint64_t give(const struct batch *b, bool named)
{
    uint64_t frames = 1UL << b->order;
    for (uint64_t i = 0; i < b->count; i++) {
        xen_pfn_t guest_frame = 0;
        if (named && copy_element_from_guest(&guest_frame, b->extents, i))
            return i;
        if (!give_one(b, i, named, guest_frame))
            return i;
        if (frames >= FRAMES_PER_SLICE || i % FRAMES_PER_SLICE == FRAMES_PER_SLICE - 1)
            preempt_point();
    }
    return b->count;
}

static bool take_frame(struct domain *d, gfn_t g)
{
    if (d->is_hvm)
        return ops_of(d)->give_up(d, g);
    struct page *page = domain_get_page(d, g);
    if (!page)
        return false;
    bool taken = page_take_back(page);
    page_put(page); /* ours */
    return taken;
}

static uint64_t take(const struct batch *b)
{
    for (uint64_t i = 0; i < b->count; i++) {
        xen_pfn_t first;
        if (copy_element_from_guest(&first, b->extents, i))
            return i;
        for (uint64_t j = 0; j < 1UL << b->order; j++) {
            if (!take_frame(b->d, gfn(first + j)))
                return i;
            if (j % FRAMES_PER_SLICE == FRAMES_PER_SLICE - 1)
                preempt_point();
        }
        if (i % FRAMES_PER_SLICE == FRAMES_PER_SLICE - 1)
            preempt_point();
    }
    return b->count;
}

static long change_reservation(uint64_t op, guest_ptr_t arg)
{
    struct xen_memory_reservation r;
    struct batch b = {0};
    int rc = copy_from_guest(&r, arg, sizeof(r));
    if (rc)
        return rc;
    rc = batch_decode(&r, op, &b);
    if (rc)
        return rc;
    uint64_t done =
        op == XENMEM_decrease_reservation ? take(&b) : give(&b, op == XENMEM_populate_physmap);
    domain_put(b.d);
    return done;
}

/* --- XENMEM_exchange: frames for other frames, e.g. contiguous ones below 4 GiB for DMA --- */

#define EXCHANGE_MAX_ORDER 9

struct exchange {
    struct page **in;   /* @frames of them, frozen */
    struct page **out;  /* first page of each output extent */
    xen_pfn_t *out_gfn; /* guest frame number of each output extent */
    uint64_t frames;    /* per chunk */
    unsigned in_order, out_order;
    unsigned width;
};

static void exchange_drop_inputs(struct exchange *x, uint64_t held)
{
    while (held--)
        page_thaw(x->in[held]);
}

/* Nobody maps it nor can from here on, so that it leaves the domain for sure. */
static int exchange_take_input(struct domain *d, gfn_t g, struct page **in)
{
    struct page *p = domain_get_page(d, g);
    if (!p)
        return -XEN_EINVAL;
    if (!page_freeze(p)) {
        page_put(p);
        return -XEN_EBUSY;
    }
    *in = p;
    return 0;
}

static int exchange_take_inputs(struct exchange *x, struct domain *d, guest_ptr_t list, uint64_t c)
{
    uint64_t extents = x->frames >> x->in_order, held = 0;
    int rc = 0;
    for (uint64_t i = 0; !rc && i < extents; i++) {
        xen_pfn_t first;
        rc = copy_element_from_guest(&first, list, c * extents + i);
        for (uint64_t j = 0; !rc && j < 1UL << x->in_order; j++) {
            rc = exchange_take_input(d, gfn(first + j), &x->in[held]);
            held += !rc;
        }
    }
    if (rc)
        exchange_drop_inputs(x, held);
    return rc;
}

static void exchange_free_outputs(struct exchange *x, uint64_t extents)
{
    while (extents--)
        page_free(x->out[extents], x->out_order);
}

/* For a moment the domain has both sides: that, too, must leave what is promised to anybody. */
static int exchange_alloc_outputs(struct exchange *x, struct domain *d)
{
    uint64_t extents = x->frames >> x->out_order, done;
    for (done = 0; done < extents; done++) {
        x->out[done] = page_alloc_for(d, x->out_order, ALLOC_ZERO, x->width, NULL);
        if (!x->out[done]) {
            exchange_free_outputs(x, done);
            return -XEN_ENOMEM;
        }
    }
    return 0;
}

/* From here on nothing can fail. */
static void exchange_commit(struct exchange *x, struct domain *d)
{
    for (uint64_t i = 0; i < x->frames >> x->out_order; i++) {
        name_extent(x->out[i], x->out_order, x->out_gfn[i]);
        if (page_assign_exchanged(d, x->out[i], x->out_order)) {
            name_extent(x->out[i], x->out_order, M2P_INVALID);
            page_free(x->out[i], x->out_order); /* the domain is dying: it needs none */
        }
    }
    for (uint64_t i = 0; i < x->frames; i++)
        page_release_frozen(x->in[i]);
}

static int exchange_chunk(struct exchange *x, struct domain *d, const struct xen_memory_exchange *e,
                          uint64_t c)
{
    uint64_t extents = x->frames >> x->out_order;
    guest_ptr_t out = guest_handle(e->out.extent_start);
    for (uint64_t i = 0; i < extents; i++)
        if (copy_element_from_guest(&x->out_gfn[i], out, c * extents + i))
            return -XEN_EFAULT;

    int rc = exchange_take_inputs(x, d, guest_handle(e->in.extent_start), c);
    if (rc)
        return rc;
    rc = exchange_alloc_outputs(x, d);
    if (rc) {
        exchange_drop_inputs(x, x->frames);
        return rc;
    }
    /* The answer goes first, while it can still be refused. */
    for (uint64_t i = 0; i < extents; i++) {
        xen_pfn_t answer = page_to_mfn(x->out[i]).n;
        if (copy_element_to_guest(out, c * extents + i, &answer)) {
            exchange_free_outputs(x, extents);
            exchange_drop_inputs(x, x->frames);
            return -XEN_EFAULT;
        }
    }
    exchange_commit(x, d);
    return 0;
}

static int exchange_check(const struct xen_memory_exchange *e)
{
    if (e->in.extent_order > EXCHANGE_MAX_ORDER || e->out.extent_order > EXCHANGE_MAX_ORDER)
        return -XEN_EPERM;
    if (e->in.domid != DOMID_SELF && e->in.domid != current_domain()->id)
        return -XEN_EPERM;
    if (e->in.domid != e->out.domid || e->in.nr_extents > UINT32_MAX ||
        e->out.nr_extents > UINT32_MAX || e->nr_exchanged > e->in.nr_extents ||
        e->in.nr_extents << e->in.extent_order != e->out.nr_extents << e->out.extent_order)
        return -XEN_EINVAL;
    return 0;
}

static long memory_exchange(guest_ptr_t arg)
{
    struct xen_memory_exchange e;
    struct domain *d = current_domain();
    int rc = copy_from_guest(&e, arg, sizeof(e));
    if (rc)
        return rc;
    rc = exchange_check(&e);
    if (rc)
        return rc;

    unsigned width = XENMEMF_get_address_bits(e.out.mem_flags);
    struct exchange x = {
        .in_order = e.in.extent_order,
        .out_order = e.out.extent_order,
        .frames = 1UL << max(e.in.extent_order, e.out.extent_order),
        .width = width,
    };
    uint64_t in_per_chunk = x.frames >> x.in_order;
    if (e.in.nr_extents % in_per_chunk || e.nr_exchanged % in_per_chunk)
        return -XEN_EINVAL;

    x.in = zalloc_array(x.frames, sizeof(*x.in));
    x.out = zalloc_array(x.frames >> x.out_order, sizeof(*x.out));
    x.out_gfn = zalloc_array(x.frames >> x.out_order, sizeof(*x.out_gfn));
    rc = x.in && x.out && x.out_gfn ? 0 : -XEN_ENOMEM;

    while (!rc && e.nr_exchanged < e.in.nr_extents) {
        rc = exchange_chunk(&x, d, &e, e.nr_exchanged / in_per_chunk);
        if (!rc)
            e.nr_exchanged += in_per_chunk;
        if (vcpu_wanted())
            break;
    }
    zfree(x.in);
    zfree(x.out);
    zfree(x.out_gfn);
    int copied =
        copy_to_guest(guest_offset(arg, offsetof(struct xen_memory_exchange, nr_exchanged)),
                      &e.nr_exchanged, sizeof(e.nr_exchanged));
    if (rc || copied)
        return rc ? rc : copied;
    return e.nr_exchanged < e.in.nr_extents
               ? hypercall_again(__HYPERVISOR_memory_op, XENMEM_exchange, arg.addr, 0, 0)
               : 0;
}

/* --- maps --- */

/* The BIOS's 20-byte entry, as the ABI's users have it in their buffers. */
struct map_entry {
    uint64_t base, size;
    uint32_t type;
} __packed;

static long put_map(guest_ptr_t arg, const struct e820_range *map, unsigned count)
{
    struct xen_memory_map m;
    int rc = copy_from_guest(&m, arg, sizeof(m));
    if (rc)
        return rc;
    if (m.buffer.p && m.nr_entries < count)
        return -XEN_EINVAL;
    for (unsigned i = 0; m.buffer.p && i < count; i++) {
        struct map_entry entry = {map[i].base, map[i].size, map[i].type};
        rc = copy_element_to_guest(guest_handle(m.buffer), i, &entry);
        if (rc)
            return rc;
    }
    m.nr_entries = count;
    return copy_to_guest(arg, &m, sizeof(m));
}

static long set_memory_map(guest_ptr_t arg)
{
    struct xen_foreign_memory_map f;
    int rc = copy_from_guest(&f, arg, sizeof(f));
    if (rc)
        return rc;
    if (f.map.nr_entries > DOMAIN_MAX_MAP)
        return -XEN_EINVAL;
    struct domain *d = domain_find(f.domid);
    if (!d)
        return -XEN_ESRCH;

    struct e820_range *map = zalloc_array(f.map.nr_entries + 1, sizeof(*map));
    if (!map)
        return -XEN_ENOMEM;
    for (unsigned i = 0; i < f.map.nr_entries; i++) {
        struct map_entry entry;
        rc = copy_element_from_guest(&entry, guest_handle(f.map.buffer), i);
        if (rc) {
            zfree(map);
            return rc;
        }
        map[i] = (struct e820_range){entry.base, entry.size, entry.type};
    }
    spin_lock(&d->lock);
    struct e820_range *old = d->memory_map;
    d->memory_map = map;
    d->memory_map_entries = f.map.nr_entries;
    spin_unlock(&d->lock);
    zfree(old);
    return 0;
}

static long get_memory_map(guest_ptr_t arg)
{
    struct domain *d = current_domain();
    struct e820_range copy[DOMAIN_MAX_MAP];
    spin_lock(&d->lock);
    unsigned n = d->memory_map ? d->memory_map_entries : 0;
    if (n)
        memcpy(copy, d->memory_map, n * sizeof(copy[0]));
    spin_unlock(&d->lock);
    /* The ABI's word for "no map was set": the guest then makes its own. */
    return n ? put_map(arg, copy, n) : -XEN_ENOSYS;
}

/* --- resources that the toolstack maps --- */

/*
 * Tells the caller where a frame of @d is: by its number, or by putting it at the frame number of
 * the caller's own that stands in the list.
 */
static int show_frame(guest_ptr_t list, unsigned i, mfn_t frame)
{
    struct domain *caller = current_domain();
    xen_pfn_t n = frame.n;
    if (!caller->is_hvm)
        return copy_element_to_guest(list, i, &n);
    int rc = copy_element_from_guest(&n, list, i);
    return rc ? rc : ops_of(caller)->map_lent(caller, gfn(n), mfn_to_page(frame), true);
}

static long acquire_resource(guest_ptr_t arg)
{
    struct xen_mem_acquire_resource r;
    int rc = copy_from_guest(&r, arg, sizeof(r));
    if (rc)
        return rc;
    struct domain *d = domain_find(r.domid);
    if (!d)
        return -XEN_ESRCH;
    rc = permission_check(current_domain(), __HYPERVISOR_memory_op, XENMEM_acquire_resource, d);
    if (rc)
        return rc;
    if (r.pad)
        return -XEN_EINVAL;
    bool ioreq = r.type == XENMEM_resource_ioreq_server && d->is_hvm;
    if (!ioreq &&
        (r.type != XENMEM_resource_grant_table || r.id != XENMEM_resource_grant_table_id_shared))
        return -XEN_EOPNOTSUPP;

    unsigned limit =
        ioreq ? XENMEM_resource_ioreq_server_frame_ioreq(1) : grant_table_max_frames(d);
    if (!r.frame_list.p) { /* how many are there? */
        if (r.nr_frames)
            return -XEN_EINVAL;
        r.nr_frames = limit;
        return copy_to_guest(guest_offset(arg, offsetof(__typeof__(r), nr_frames)), &r.nr_frames,
                             sizeof(r.nr_frames));
    }
    if (r.frame > limit || r.nr_frames > limit - r.frame)
        return -XEN_EINVAL;
    for (unsigned i = 0; i < r.nr_frames; i++) {
        mfn_t frame;
        rc = ioreq ? ops_of(d)->resource(d, r.id, r.frame + i, &frame)
                   : grant_table_frame(d, r.frame + i, &frame);
        if (rc)
            return rc;
        rc = show_frame(guest_handle(r.frame_list), i, frame);
        if (rc)
            return rc;
    }
    return 0;
}

static long claim_pages(guest_ptr_t arg)
{
    struct xen_memory_reservation r;
    int rc = copy_from_guest(&r, arg, sizeof(r));
    if (rc)
        return rc;
    if (r.extent_start.p || r.extent_order || r.mem_flags)
        return -XEN_EINVAL;
    struct domain *d = domain_find(r.domid);
    return d ? buddy_claim(d, r.nr_extents) : -XEN_ESRCH;
}

/* A domid in, a number of pages out. */
static long reservation_query(uint64_t op, guest_ptr_t arg)
{
    domid_t id;
    int rc = copy_from_guest(&id, arg, sizeof(id));
    if (rc)
        return rc;
    struct domain *d = domain_find_or_self(id);
    if (!d)
        return -XEN_ESRCH;
    rc = permission_check(current_domain(), __HYPERVISOR_memory_op, op, d);
    if (rc)
        return rc;
    switch (op) {
    case XENMEM_current_reservation:
        return READ_ONCE(d->tot_pages);
    case XENMEM_maximum_reservation:
        return READ_ONCE(d->max_pages);
    case XENMEM_maximum_gpfn:
        if (d->is_hvm)
            return ops_of(d)->max_gfn(d);
        break;
    }
    return d->shared->arch.max_pfn ? d->shared->arch.max_pfn - 1 : 0; /* as a PV guest says */
}

static long machphys_mapping(guest_ptr_t arg)
{
    struct xen_machphys_mapping m = {
        .v_start = M2P_VIRT,
        .v_end = MACH2PHYS_VIRT_END,
        .max_mfn = max_mfn - 1,
    };
    return copy_to_guest(arg, &m, sizeof(m));
}

long hc_memory_op(uint64_t cmd, uint64_t arg)
{
    guest_ptr_t p = guest_ptr(arg);

    /* Targets are checked where they are known; here, whether the caller may ask at all. */
    int rc = permission_check(current_domain(), __HYPERVISOR_memory_op, cmd, NULL);
    if (rc)
        return rc;
    switch (cmd) {
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap:
        return change_reservation(cmd, p);
    case XENMEM_exchange:
        return current_domain()->is_hvm ? -XEN_EOPNOTSUPP : memory_exchange(p);
    case XENMEM_add_to_physmap:
    case XENMEM_add_to_physmap_batch:
    case XENMEM_remove_from_physmap:
    case XENMEM_set_pod_target:
    case XENMEM_get_pod_target:
        return hvm_ops_table ? hvm_ops_table->memory_op(cmd, p) : -XEN_ENOSYS;
    case XENMEM_maximum_ram_page:
        return max_mfn - 1;
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation:
    case XENMEM_maximum_gpfn:
        return reservation_query(cmd, p);
    case XENMEM_machphys_mapping:
        return machphys_mapping(p);
    case XENMEM_memory_map:
        return get_memory_map(p);
    case XENMEM_machine_memory_map:
        return put_map(p, bootinfo.map, bootinfo.ranges);
    case XENMEM_set_memory_map:
        return set_memory_map(p);
    case XENMEM_claim_pages:
        return claim_pages(p);
    case XENMEM_get_sharing_freed_pages:
    case XENMEM_get_sharing_shared_pages:
        return 0; /* no domain shares memory with another one */
    case XENMEM_acquire_resource:
        return acquire_resource(p);
    case XENMEM_get_vnumainfo:
        return -XEN_EOPNOTSUPP;
    default:
        return -XEN_ENOSYS;
    }
}
