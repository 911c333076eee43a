/* domctls on hardware-virtualized domains: state as a stream of records, memory for page tables. */
#include "control/internal.h"
#include "hvm/hvm.h"
#include "lib/string.h"

#include <xen/hvm/save.h>

#define CONTEXT_MOST (1UL << 20)

int domctl_gethvmcontext(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_hvmcontext *c = &op->u.hvmcontext;
    if (!d->is_hvm)
        return -XEN_EINVAL;
    uint32_t size = hvm_context_size(d);
    if (!c->buffer.p) { /* how much would it be? */
        c->size = size;
        return 0;
    }
    if (c->size < size)
        return -XEN_ENOSPC;
    uint8_t *buf = zalloc(size);
    if (!buf)
        return -XEN_ENOMEM;
    domain_pause(d);
    c->size = hvm_context_get(d, buf);
    domain_unpause(d);
    int rc = c->size ? copy_to_guest(guest_handle(c->buffer), buf, c->size) : -XEN_ENOMEM;
    zfree(buf);
    return rc;
}

int domctl_sethvmcontext(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_hvmcontext *c = &op->u.hvmcontext;
    if (!d->is_hvm || c->size > CONTEXT_MOST)
        return -XEN_EINVAL;
    uint8_t *buf = zalloc(c->size + 1);
    if (!buf)
        return -XEN_ENOMEM;
    int rc = copy_from_guest(buf, guest_handle(c->buffer), c->size);
    if (!rc) {
        domain_pause(d);
        rc = hvm_context_set(d, buf, c->size);
        if (!rc)
            guest_wallclock_update(d);
        domain_unpause(d);
    }
    zfree(buf);
    return rc;
}

int domctl_gethvmcontext_partial(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_hvmcontext_partial *c = &op->u.hvmcontext_partial;
    if (!d->is_hvm)
        return -XEN_EINVAL;
    uint32_t size = c->type <= UINT16_MAX ? hvm_record_size(c->type) : 0;
    if (!size)
        return -XEN_EOPNOTSUPP;
    if (!c->buffer.p) {
        c->bufsz = size;
        return 0;
    }
    if (c->bufsz < size)
        return -XEN_ENOSPC;
    void *body = zalloc(HVM_RECORD_MOST);
    if (!body)
        return -XEN_ENOMEM;
    domain_pause(d);
    int rc = hvm_record_get(d, c->type, c->instance, body);
    domain_unpause(d);
    if (!rc) {
        c->bufsz = size;
        rc = copy_to_guest(guest_handle(c->buffer), body, size);
    }
    zfree(body);
    return rc;
}

/*
 * Page tables are taken from free memory as they are needed, so the pool's size is a number that we
 * keep for the tools; less than what is in use is refused.
 */
static int set_pool(struct domain *d, uint64_t bytes)
{
    if (!d->is_hvm)
        return -XEN_EOPNOTSUPP;
    if (bytes & (PAGE_SIZE - 1))
        return -XEN_EINVAL;
    d->hvm->pool = bytes;
    return 0;
}

int domctl_set_paging_mempool_size(struct domain *d, struct xen_domctl *op)
{
    return set_pool(d, op->u.paging_mempool.size);
}

int domctl_get_paging_mempool_size(struct domain *d, struct xen_domctl *op)
{
    if (!d->is_hvm)
        return -XEN_EOPNOTSUPP;
    op->u.paging_mempool.size = d->hvm->pool;
    return 0;
}

/* The older way to say the same, in MiB; the rest of shadow_op comes with live migration. */
int domctl_shadow_op(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_shadow_op *s = &op->u.shadow_op;
    switch (s->op) {
    case XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION:
        if (!d->is_hvm)
            return -XEN_ENOSYS;
        s->mb = d->hvm->pool >> 20;
        return 0;
    case XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION:
        return d->is_hvm ? set_pool(d, (uint64_t)s->mb << 20) : -XEN_ENOSYS;
    default:
        return -XEN_ENOSYS;
    }
}
