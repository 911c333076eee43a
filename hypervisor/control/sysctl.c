/*
 * sysctl (xen/sysctl.h, interface version 0x15): what tools ask of the hypervisor as a whole. One
 * function per ABI name, found through one table; those about hardware are in sysctl_machine.c.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "control/cpuid_policy.h"
#include "control/internal.h"
#include "hvm/hvm.h"
#include "hypercall/table.h"
#include "lib/string.h"

static int sysctl_readconsole(struct xen_sysctl *op)
{
    struct xen_sysctl_readconsole *r = &op->u.readconsole;
    char chunk[256];
    uint32_t index = r->incremental ? r->index : 0, done = 0;
    while (done < r->count) {
        size_t n =
            log_ring_read(chunk, min(r->count - done, (uint32_t)sizeof(chunk)), &index, false);
        if (!n)
            break;
        int rc = copy_to_guest(guest_offset(guest_handle(r->buffer), done), chunk, n);
        if (rc)
            return rc;
        done += n;
    }
    if (r->clear) {
        uint32_t end = index;
        log_ring_read(chunk, 0, &end, true);
    }
    r->count = done;
    r->index = index;
    return 0;
}

static int sysctl_sched_id(struct xen_sysctl *op)
{
    op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2;
    return 0;
}

static int sysctl_getdomaininfolist(struct xen_sysctl *op)
{
    struct xen_sysctl_getdomaininfolist *l = &op->u.getdomaininfolist;
    uint32_t n = 0;
    struct domain *d;
    for (unsigned id = l->first_domain; n < l->max_domains && id < DOMID_FIRST_RESERVED;) {
        struct xen_domctl_getdomaininfo info;
        d = domain_next(id);
        if (!d)
            break;
        domain_fill_info(d, &info);
        id = d->id + 1;
        domain_put(d);
        int rc = copy_element_to_guest(guest_handle(l->buffer), n, &info);
        if (rc)
            return rc;
        n++;
        preempt_point();
    }
    l->num_domains = n;
    return 0;
}

static int sysctl_debug_keys(struct xen_sysctl *op)
{
    const struct xen_sysctl_debug_keys *k = &op->u.debug_keys;
    if (k->nr_keys > 64)
        return -XEN_EINVAL;
    for (uint32_t i = 0; i < k->nr_keys; i++) {
        char key;
        int rc = copy_element_from_guest(&key, guest_handle(k->keys), i);
        if (rc)
            return rc;
        key_press(key);
    }
    return 0;
}

static unsigned count_domains(void)
{
    unsigned n = 0;
    struct domain *d;
    for_each_domain(d)
        n++;
    return n;
}

/* One pool, number 0, with every CPU; it cannot be changed. */
static int sysctl_cpupool_op(struct xen_sysctl *op)
{
    struct xen_sysctl_cpupool_op *c = &op->u.cpupool_op;
    static const struct cpu_mask none;
    switch (c->op) {
    case XEN_SYSCTL_CPUPOOL_OP_INFO:
        if (c->cpupool_id != 0 && c->cpupool_id != XEN_SYSCTL_CPUPOOL_PAR_ANY)
            return -XEN_ENOENT;
        c->cpupool_id = 0;
        c->sched_id = XEN_SCHEDULER_CREDIT2;
        c->n_dom = count_domains();
        return bitmap_to_tools(&c->cpumap, cpus_online.bits, MAX_CPUS);
    case XEN_SYSCTL_CPUPOOL_OP_FREEINFO:
        return bitmap_to_tools(&c->cpumap, none.bits, MAX_CPUS);
    case XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN:
        return c->cpupool_id == 0 ? 0 : -XEN_ENOENT;
    case XEN_SYSCTL_CPUPOOL_OP_ADDCPU:
        return c->cpupool_id == 0 ? -XEN_ENODEV : -XEN_ENOENT; /* no CPU is free */
    default:
        return -XEN_EOPNOTSUPP;
    }
}

static int sysctl_get_cpu_levelling_caps(struct xen_sysctl *op)
{
    op->u.cpu_levelling_caps.caps = 0; /* PV guests see the real CPU; nothing is levelled */
    return 0;
}

static const struct cpuid_policy *policy_by_index(uint32_t index)
{
    switch (index) {
    case XEN_SYSCTL_cpu_policy_raw:
    case XEN_SYSCTL_cpu_policy_host:
        return cpuid_policy_host();
    case XEN_SYSCTL_cpu_policy_pv_max:
    case XEN_SYSCTL_cpu_policy_pv_default:
        return cpuid_policy_pv();
    case XEN_SYSCTL_cpu_policy_hvm_max:
    case XEN_SYSCTL_cpu_policy_hvm_default:
        return hvm_available() ? cpuid_policy_hvm() : NULL;
    default:
        return NULL;
    }
}

static int sysctl_get_cpu_featureset(struct xen_sysctl *op)
{
    struct xen_sysctl_cpu_featureset *f = &op->u.cpu_featureset;
    uint32_t words[32];
    static const uint32_t indexes[] = {
        [XEN_SYSCTL_cpu_featureset_raw] = XEN_SYSCTL_cpu_policy_raw,
        [XEN_SYSCTL_cpu_featureset_host] = XEN_SYSCTL_cpu_policy_host,
        [XEN_SYSCTL_cpu_featureset_pv] = XEN_SYSCTL_cpu_policy_pv_default,
        [XEN_SYSCTL_cpu_featureset_hvm] = XEN_SYSCTL_cpu_policy_hvm_default,
        [XEN_SYSCTL_cpu_featureset_pv_max] = XEN_SYSCTL_cpu_policy_pv_max,
        [XEN_SYSCTL_cpu_featureset_hvm_max] = XEN_SYSCTL_cpu_policy_hvm_max,
    };
    if (f->index >= ARRAY_SIZE(indexes))
        return -XEN_EINVAL;
    const struct cpuid_policy *p = policy_by_index(indexes[f->index]);
    unsigned total = cpuid_policy_featureset(cpuid_policy_host(), words, 0);
    if (!f->features.p) {
        f->nr_features = total;
        return 0;
    }
    if (!p)
        return -XEN_EOPNOTSUPP;
    cpuid_policy_featureset(p, words, ARRAY_SIZE(words));
    unsigned n = min(f->nr_features, (uint32_t)total);
    bool cut = n < total;
    f->nr_features = n;
    int rc = copy_to_guest(guest_handle(f->features), words, n * sizeof(words[0]));
    return rc ? rc : cut ? -XEN_ENOBUFS : 0;
}

static int sysctl_get_cpu_policy(struct xen_sysctl *op)
{
    struct xen_sysctl_cpu_policy *c = &op->u.cpu_policy;
    if (c->_rsvd || c->index > XEN_SYSCTL_cpu_policy_hvm_default)
        return -XEN_EINVAL;
    const struct cpuid_policy *p = policy_by_index(c->index);
    if (!p)
        return -XEN_EOPNOTSUPP;
    return cpuid_policy_put(p, guest_handle(c->leaves), &c->nr_leaves, guest_handle(c->msrs),
                            &c->nr_msrs);
}

/* Parameters of the scheduler: the rate limit, with the ABI's bounds. */
static int sysctl_scheduler_op(struct xen_sysctl *op)
{
    struct xen_sysctl_scheduler_op *s = &op->u.scheduler_op;
    if (s->cpupool_id != 0 || s->sched_id != XEN_SCHEDULER_CREDIT2)
        return -XEN_EINVAL;
    uint32_t us = s->u.sched_credit2.ratelimit_us;
    switch (s->cmd) {
    case XEN_SYSCTL_SCHEDOP_getinfo:
        s->u.sched_credit2.ratelimit_us = sched_ratelimit();
        return 0;
    case XEN_SYSCTL_SCHEDOP_putinfo:
        if (us && (us < XEN_SYSCTL_SCHED_RATELIMIT_MIN || us > XEN_SYSCTL_SCHED_RATELIMIT_MAX))
            return -XEN_EINVAL;
        sched_set_ratelimit(us);
        return 0;
    default:
        return -XEN_EINVAL;
    }
}

/* CPUs stay as the machine was started (maxcpus=): nothing of it is done, so nothing is half. */
static int sysctl_cpu_hotplug(struct xen_sysctl *op)
{
    const struct xen_sysctl_cpu_hotplug *h = &op->u.cpu_hotplug;
    bool one = h->op == XEN_SYSCTL_CPU_HOTPLUG_ONLINE || h->op == XEN_SYSCTL_CPU_HOTPLUG_OFFLINE;
    return one && h->cpu >= cpus_present ? -XEN_EINVAL : -XEN_EOPNOTSUPP;
}

static const struct {
    uint32_t cmd;
    sysctl_handler handler;
} sysctls[] = {
    {XEN_SYSCTL_readconsole, sysctl_readconsole},
    {XEN_SYSCTL_physinfo, sysctl_physinfo},
    {XEN_SYSCTL_sched_id, sysctl_sched_id},
    {XEN_SYSCTL_getdomaininfolist, sysctl_getdomaininfolist},
    {XEN_SYSCTL_debug_keys, sysctl_debug_keys},
    {XEN_SYSCTL_getcpuinfo, sysctl_getcpuinfo},
    {XEN_SYSCTL_availheap, sysctl_availheap},
    {XEN_SYSCTL_cputopoinfo, sysctl_cputopoinfo},
    {XEN_SYSCTL_pcitopoinfo, sysctl_pcitopoinfo},
    {XEN_SYSCTL_numainfo, sysctl_numainfo},
    {XEN_SYSCTL_cpupool_op, sysctl_cpupool_op},
    {XEN_SYSCTL_scheduler_op, sysctl_scheduler_op},
    {XEN_SYSCTL_cpu_hotplug, sysctl_cpu_hotplug},
    {XEN_SYSCTL_get_cpu_levelling_caps, sysctl_get_cpu_levelling_caps},
    {XEN_SYSCTL_get_cpu_featureset, sysctl_get_cpu_featureset},
    {XEN_SYSCTL_get_cpu_policy, sysctl_get_cpu_policy},
};

long hc_sysctl(uint64_t arg)
{
    struct xen_sysctl op;
    int rc = copy_from_guest(&op, guest_ptr(arg), sizeof(op));
    if (rc)
        return rc;
    if (op.interface_version != XEN_SYSCTL_INTERFACE_VERSION)
        return -XEN_EACCES;
    rc = permission_check(current_domain(), __HYPERVISOR_sysctl, op.cmd, NULL);
    if (rc)
        return rc;
    for (unsigned i = 0; i < ARRAY_SIZE(sysctls); i++) {
        if (sysctls[i].cmd != op.cmd)
            continue;
        rc = sysctls[i].handler(&op);
        if (!rc || rc == -XEN_ENOBUFS)
            if (copy_to_guest(guest_ptr(arg), &op, sizeof(op)))
                rc = -XEN_EFAULT;
        return rc;
    }
    return -XEN_ENOSYS;
}
