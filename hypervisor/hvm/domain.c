/*
 * Hardware-virtualized domains: struct guest_ops (domain/domain.h) of their kind, and the start of
 * the whole room.
 */
#include "console/console.h"
#include "event/event.h"
#include "grant/grant.h"
#include "hvm/hvm.h"
#include "hvm/ioreq.h"
#include "hvm/npt.h"
#include "hvm/platform.h"
#include "lib/string.h"

const struct hvm_ops *hvm_ops __ro_after_init;

static void fini(struct domain *d)
{
    if (!d->hvm)
        return;
    zfree(d->hvm->hw);
    ioreq_fini(d);
    platform_fini(d);
    p2m_fini(d);
    zfree(d->hvm);
    d->hvm = NULL;
}

static int init(struct domain *d)
{
    if (!hvm_ops)
        return -XEN_EOPNOTSUPP;
    d->hvm = zalloc(sizeof(*d->hvm));
    if (!d->hvm)
        return -XEN_ENOMEM;
    d->hvm->params[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
    int rc = p2m_init(d);
    if (!rc)
        rc = platform_init(d);
    if (!rc)
        rc = ioreq_init(d);
    if (rc)
        fini(d);
    return rc;
}

static int relinquish(struct domain *d)
{
    platform_stop(d);
    ioreq_relinquish(d);
    int rc = p2m_relinquish(d);
    pod_relinquish(d);
    return rc ? rc : domain_relinquish_pages(d);
}

/* Of @d itself: what others own and lent it is not its to give on. */
static struct page *get_page(struct domain *d, gfn_t g)
{
    bool writable;
    struct page *page = p2m_get_page(d, g, &writable);
    if (page && (!writable || READ_ONCE(page->owner) != d)) {
        page_put(page);
        return NULL;
    }
    return page;
}

static bool upcall_enabled(const struct vcpu *v)
{
    return v->stack->regs.rflags & RFLAGS_IF;
}

static void send_nmi(struct vcpu *v)
{
    hvm_signal(v, HVM_SIGNAL_NMI);
}

static bool unmap(struct domain *d, gfn_t g, const struct page *page)
{
    bool was = p2m_remove_page(d, g, page);
    if (was)
        p2m_flush(d);
    return was;
}

static uint64_t max_gfn(const struct domain *d)
{
    return READ_ONCE(d->hvm->p2m.max_gfn);
}

static const struct guest_ops ops = {
    .domain_init = init,
    .domain_fini = fini,
    .domain_relinquish = relinquish,
    .vcpu_init = hvm_vcpu_init,
    .vcpu_fini = hvm_vcpu_fini,
    .run = hvm_run,
    .switch_out = hvm_switch_out,
    .switch_in = hvm_switch_in,
    .deliver = hvm_deliver,
    .upcall_enabled = upcall_enabled,
    .get_page = get_page,
    .send_nmi = send_nmi,
    .map = p2m_add,
    .map_on_demand = pod_add,
    .unmap = unmap,
    .give_up = hvm_physmap_give_up,
    .map_lent = p2m_add_lent,
    .max_gfn = max_gfn,
    .resource = ioreq_frame,
    .shown = ioreq_shown,
    .memory_op = hvm_memory_op,
    .audit = pod_audit,
};

bool hvm_available(void)
{
    return hvm_ops != NULL;
}

void hvm_init(void)
{
    hvm_ops_table = &ops;
    grant_hvm_ops = &hvm_grant_ops;
    event_consumer = ioreq_answered;
    if (svm_available(&npt_format))
        hvm_ops = &svm_ops;
    else if (vmx_available(&npt_format))
        hvm_ops = &vmx_ops;
    int rc = hvm_ops ? hvm_ops->init_cpu() : 0;
    if (rc) {
        log_error("%s cannot be switched on: error %d", hvm_ops->name, rc);
        hvm_ops = NULL;
    }
}

void hvm_init_cpu(void)
{
    int rc = hvm_ops ? hvm_ops->init_cpu() : 0;
    if (rc)
        panic("CPU %u: %s cannot be switched on: error %d", this_cpu()->id, hvm_ops->name, rc);
}
