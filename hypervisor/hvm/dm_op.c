/*
 * dm_op (xen/hvm/dm_op.h): what a device model asks of its guest's domain. The first buffer holds
 * the operation, copied in once and out again when it answers; others hold lists.
 */
#include "hvm/hvm.h"
#include "hvm/ioreq.h"
#include "hvm/platform.h"
#include "hypercall/guest_access.h"
#include "hypercall/permission.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/hvm/hvm_op.h>

#define BUFFERS_MOST 2
#define PAGES_MOST   (1u << 20) /* that one call changes: 4 GiB */

struct call {
    struct domain *d; /* counted */
    struct xen_dm_op op;
    struct xen_dm_op_buf buf[BUFFERS_MOST];
    unsigned buffers;
};

static guest_ptr_t list_of(const struct call *c)
{
    return c->buffers > 1 ? guest_handle(c->buf[1].h) : guest_ptr(0);
}

/* --- memory --- */

/* @bits: of pages from @g on, at most 64. */
static int take_dirty(const struct call *c, gfn_t g, unsigned n, uint64_t *bits)
{
    *bits = 0;
    for (unsigned i = 0; i < n; i++) {
        int rc = p2m_take_dirty(c->d, gfn(g.n + i));
        if (rc < 0)
            return rc;
        *bits |= (uint64_t)rc << i;
    }
    return 0;
}

/*
 * Which pages were written since the last call. None of them (nr = 0): nobody wants to know any
 * more, and nothing that this costs has to end. A device model that gets an error draws everything.
 */
static int track_dirty_vram(const struct call *c)
{
    const struct xen_dm_op_track_dirty_vram *t = &c->op.u.track_dirty_vram;
    uint64_t bits, any = 0;
    int rc = 0;
    if (t->pad || t->nr > PAGES_MOST || t->first_pfn + t->nr < t->first_pfn)
        return -XEN_EINVAL;
    if (t->nr && (c->buffers < 2 || c->buf[1].size < (t->nr + 7) / 8))
        return -XEN_EINVAL;
    for (uint32_t at = 0; !rc && at < t->nr; at += 64) {
        unsigned n = min(t->nr - at, 64u);
        rc = take_dirty(c, gfn(t->first_pfn + at), n, &bits);
        any |= bits;
        if (!rc)
            rc = copy_to_guest(guest_offset(list_of(c), at / 8), &bits, (n + 7) / 8);
        preempt_point();
    }
    if (any)
        p2m_flush(c->d);
    return rc;
}

/* RAM and ROM; what is no memory is nobody's to name. */
static int set_mem_type(struct call *c)
{
    const struct xen_dm_op_set_mem_type *t = &c->op.u.set_mem_type;
    int rc = 0;
    if (t->pad || t->nr > PAGES_MOST || t->first_pfn + t->nr < t->first_pfn)
        return -XEN_EINVAL;
    if (t->mem_type != HVMMEM_ram_rw && t->mem_type != HVMMEM_ram_ro)
        return -XEN_EOPNOTSUPP;
    for (uint32_t i = 0; !rc && i < t->nr; i++) {
        rc = p2m_set_writable(c->d, gfn(t->first_pfn + i), t->mem_type == HVMMEM_ram_rw);
        preempt_point();
    }
    p2m_flush(c->d);
    return rc;
}

static int relocate_memory(struct call *c)
{
    const struct xen_dm_op_relocate_memory *r = &c->op.u.relocate_memory;
    int rc = r->pad || r->size > PAGES_MOST ? -XEN_EINVAL : 0;
    for (uint32_t i = 0; !rc && i < r->size; i++) {
        rc = hvm_physmap_move(c->d, gfn(r->src_gfn + i), gfn(r->dst_gfn + i));
        preempt_point();
    }
    return rc;
}

/* All memory is write-back, unless the guest's own tables say otherwise. */
static int pin_cacheattr(const struct call *c)
{
    const struct xen_dm_op_pin_memory_cacheattr *p = &c->op.u.pin_memory_cacheattr;
    if (p->pad || p->start > p->end)
        return -XEN_EINVAL;
    return p->type == XEN_DMOP_MEM_CACHEATTR_WB || p->type == XEN_DMOP_DELETE_MEM_CACHEATTR
               ? 0
               : -XEN_EOPNOTSUPP;
}

/* --- wires --- */

static int pci_level(const struct call *c)
{
    const struct xen_dm_op_set_pci_intx_level *s = &c->op.u.set_pci_intx_level;
    if (s->domain || s->bus || s->device > 31 || s->intx > 3 || s->level > 1)
        return -XEN_EINVAL;
    platform_pci_line(c->d, s->device, s->intx, s->level);
    return 0;
}

static int isa_level(const struct call *c)
{
    const struct xen_dm_op_set_isa_irq_level *s = &c->op.u.set_isa_irq_level;
    if (s->isa_irq > 15 || s->level > 1)
        return -XEN_EINVAL;
    platform_isa_line(c->d, s->isa_irq, s->level);
    return 0;
}

/* --- servers --- */

static int server_info(struct call *c)
{
    struct xen_dm_op_get_ioreq_server_info *i = &c->op.u.get_ioreq_server_info;
    if (!(i->flags & XEN_DMOP_no_gfns) || i->flags & ~XEN_DMOP_no_gfns)
        return -XEN_EOPNOTSUPP; /* the pages are had by XENMEM_acquire_resource alone */
    return ioreq_info(c->d, i->id, &i->bufioreq_port);
}

static int server_create(struct call *c)
{
    struct xen_dm_op_create_ioreq_server *s = &c->op.u.create_ioreq_server;
    if (s->pad[0] || s->pad[1] || s->pad[2] ||
        c->buf[0].size < offsetof(struct xen_dm_op, u) + sizeof(*s))
        return -XEN_EINVAL;
    return ioreq_create(c->d, current_domain()->id, s->handle_bufioreq, &s->id);
}

/* *answers: the structure is to be copied out. */
static int run(struct call *c, bool *answers)
{
    *answers = false;
    switch (c->op.op) {
    case XEN_DMOP_create_ioreq_server:
        *answers = true;
        return server_create(c);
    case XEN_DMOP_get_ioreq_server_info:
        *answers = true;
        return server_info(c);
    case XEN_DMOP_map_io_range_to_ioreq_server:
        return ioreq_range(c->d, &c->op.u.map_io_range_to_ioreq_server, true);
    case XEN_DMOP_unmap_io_range_from_ioreq_server:
        return ioreq_range(c->d, &c->op.u.unmap_io_range_from_ioreq_server, false);
    case XEN_DMOP_set_ioreq_server_state:
        return ioreq_enable(c->d, c->op.u.set_ioreq_server_state.id,
                            c->op.u.set_ioreq_server_state.enabled);
    case XEN_DMOP_destroy_ioreq_server:
        return ioreq_destroy(c->d, c->op.u.destroy_ioreq_server.id);
    case XEN_DMOP_track_dirty_vram:
        return track_dirty_vram(c);
    case XEN_DMOP_set_pci_intx_level:
        return pci_level(c);
    case XEN_DMOP_set_isa_irq_level:
        return isa_level(c);
    case XEN_DMOP_set_pci_link_route:
        return platform_pci_link(c->d, c->op.u.set_pci_link_route.link,
                                 c->op.u.set_pci_link_route.isa_irq);
    case XEN_DMOP_modified_memory: /* nobody keeps a record that it would have to go into */
        return c->op.u.modified_memory.opaque ? -XEN_EINVAL : 0;
    case XEN_DMOP_set_mem_type:
        return set_mem_type(c);
    case XEN_DMOP_inject_msi:
        return platform_msi(c->d, c->op.u.inject_msi.addr, c->op.u.inject_msi.data);
    case XEN_DMOP_remote_shutdown:
        domain_shutdown(c->d, c->op.u.remote_shutdown.reason);
        return 0;
    case XEN_DMOP_relocate_memory:
        return relocate_memory(c);
    case XEN_DMOP_pin_memory_cacheattr:
        return pin_cacheattr(c);
    case XEN_DMOP_nr_vcpus:
        *answers = true;
        c->op.u.nr_vcpus.vcpus = c->d->max_vcpus;
        return 0;
    default:
        return -XEN_EOPNOTSUPP;
    }
}

/* A server whose number its maker does not learn would be nobody's. */
static int answer(const struct call *c, size_t size)
{
    int rc = copy_to_guest(guest_handle(c->buf[0].h), &c->op, size);
    if (rc && c->op.op == XEN_DMOP_create_ioreq_server)
        (void)!ioreq_destroy(c->d, c->op.u.create_ioreq_server.id);
    return rc;
}

long hc_dm_op(uint64_t domid, uint64_t buffers, uint64_t list)
{
    struct call c = {.buffers = min(buffers, (uint64_t)BUFFERS_MOST)};
    bool answers;
    struct domain *d = domain_find((domid_t)domid);
    if (!d)
        return -XEN_ESRCH;
    int rc = permission_check(current_domain(), __HYPERVISOR_dm_op, 0, d);
    if (rc)
        return rc;
    if (!d->is_hvm || !buffers)
        return -XEN_EINVAL;
    rc = copy_from_guest(c.buf, guest_ptr(list), c.buffers * sizeof(c.buf[0]));
    if (!rc && c.buf[0].size < offsetof(struct xen_dm_op, u))
        rc = -XEN_EINVAL;
    size_t size = min(c.buf[0].size, sizeof(c.op));
    if (!rc)
        rc = copy_from_guest(&c.op, guest_handle(c.buf[0].h), size);
    if (!rc && c.op.pad)
        rc = -XEN_EINVAL;
    if (rc)
        return rc;
    if (!domain_get(d))
        return -XEN_ESRCH;
    c.d = d;
    rc = run(&c, &answers);
    if (!rc && answers)
        rc = answer(&c, size);
    domain_put(d);
    return rc;
}
