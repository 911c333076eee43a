/* domctls on a domain as a whole: its life, its names, its time, what CPU it believes in. */
#include "console/console.h"
#include "control/cpuid_policy.h"
#include "control/internal.h"
#include "event/event.h"
#include "hvm/hvm.h"
#include "lib/string.h"

static bool emulation_ok(uint32_t flags)
{
    return flags == XEN_X86_EMU_LAPIC || flags == HVM_EMULATION_PC;
}

/* PV guests take all emulated devices off; misc_flags bit 0 relaxes MSR checks (we are lenient). */
static int check_create(const struct xen_domctl_createdomain *c)
{
    const uint32_t hvm = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    bool is_hvm = c->flags & XEN_DOMCTL_CDF_hvm;
    /* Nested paging; a local APIC as the only emulated device, or a whole PC. */
    if (c->flags & XEN_DOMCTL_CDF_nested_virt ||
        (is_hvm && (!hvm_available() || !emulation_ok(c->arch.emulation_flags))))
        return -XEN_EOPNOTSUPP;
    if ((c->flags & hvm) && (c->flags & hvm) != hvm)
        return -XEN_EINVAL;
    if (c->flags & ~(uint32_t)(hvm | XEN_DOMCTL_CDF_xs_domain | XEN_DOMCTL_CDF_s3_integrity |
                               XEN_DOMCTL_CDF_oos_off))
        return -XEN_EINVAL;
    if (c->max_vcpus < 1 || c->max_vcpus > MAX_VCPUS || c->max_evtchn_port < 1)
        return -XEN_EINVAL;
    if (XEN_DOMCTL_GRANT_version(c->grant_opts) > 2 || c->vmtrace_size || c->cpupool_id)
        return -XEN_EINVAL;
    if (c->iommu_opts || (!is_hvm && c->arch.emulation_flags) ||
        c->arch.misc_flags & ~XEN_X86_MSR_RELAXED)
        return -XEN_EINVAL;
    return 0;
}

int domctl_createdomain(struct domain *none, struct xen_domctl *op)
{
    const struct xen_domctl_createdomain *c = &op->u.createdomain;
    static domid_t last; /* ids are not reused at once, so that stale names do not hit new guests */
    int rc = check_create(c);
    if (rc)
        return rc;

    domid_t id = op->domain;
    if (id == 0 || id >= DOMID_FIRST_RESERVED) {
        id = domain_free_id(last + 1);
        if (id == DOMID_INVALID)
            return -XEN_ENOMEM;
    }
    struct domain_config config = {
        .max_vcpus = c->max_vcpus,
        .max_evtchn_port = c->max_evtchn_port,
        .max_grant_frames = c->max_grant_frames,
        .max_maptrack_frames = c->max_maptrack_frames,
        .flags = c->flags,
        .emulation = c->arch.emulation_flags,
    };
    memcpy(config.uuid, c->handle, sizeof(config.uuid));
    struct domain *d;
    rc = domain_create(id, &config, &d);
    if (rc)
        return rc;
    last = id;
    op->domain = id;
    return 0;
}

int domctl_destroydomain(struct domain *d, struct xen_domctl *op)
{
    return domain_destroy(d);
}

int domctl_pausedomain(struct domain *d, struct xen_domctl *op)
{
    return domain_pause_by_controller(d);
}

int domctl_unpausedomain(struct domain *d, struct xen_domctl *op)
{
    return domain_unpause_by_controller(d);
}

int domctl_resumedomain(struct domain *d, struct xen_domctl *op)
{
    return domain_resume(d);
}

uint64_t vcpu_run_time(const struct vcpu *v)
{
    uint64_t total = v->runstate.time[RUNSTATE_running];
    if (v->runstate.state == RUNSTATE_running) {
        ns_t now = time_now(), since = v->runstate.state_entry_time;
        total += now > since ? now - since : 0;
    }
    return total;
}

void domain_fill_info(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    uint32_t state = XEN_DOMINF_blocked; /* unless some vCPU is not */
    memset(info, 0, sizeof(*info));
    info->domain = d->id;
    info->max_vcpu_id = XEN_INVALID_MAX_VCPU_ID;

    const struct vcpu *v;
    for_each_vcpu(d, v) {
        uint32_t blockers = READ_ONCE(v->sched.blockers);
        info->max_vcpu_id = v->id;
        info->cpu_time += vcpu_run_time(v);
        if (blockers & SCHED_DOWN)
            continue;
        info->nr_online_vcpus++;
        if (!(blockers & SCHED_ASLEEP))
            state &= ~XEN_DOMINF_blocked;
        if (v->runstate.state == RUNSTATE_running)
            state |= XEN_DOMINF_running;
    }
    info->flags = (info->nr_online_vcpus ? state : 0) | (d->dead ? XEN_DOMINF_dying : 0) |
                  (d->shut_down ? XEN_DOMINF_shutdown : 0) |
                  (d->controller_pauses ? XEN_DOMINF_paused : 0) |
                  (d->is_hvm ? XEN_DOMINF_hvm_guest | XEN_DOMINF_hap : 0) |
                  (d->debugger_attached ? XEN_DOMINF_debugged : 0) |
                  (d->create_flags & XEN_DOMCTL_CDF_xs_domain ? XEN_DOMINF_xs_domain : 0) |
                  d->shutdown_code << XEN_DOMINF_shutdownshift;

    info->tot_pages = READ_ONCE(d->tot_pages);
    info->max_pages = READ_ONCE(d->max_pages);
    info->outstanding_pages = READ_ONCE(d->claimed);
    info->shr_pages = READ_ONCE(d->shared_pages);
    info->shared_info_frame = d->shared_frame.n;
    memcpy(info->handle, d->uuid, sizeof(info->handle));
    info->cpupool = 0;
    info->gpaddr_bits = cpu_features.phys_bits;
}

int domctl_getdomaininfo(struct domain *d, struct xen_domctl *op)
{
    domain_fill_info(d, &op->u.getdomaininfo);
    op->domain = d->id;
    return 0;
}

int domctl_setdomainhandle(struct domain *d, struct xen_domctl *op)
{
    spin_lock(&d->lock);
    memcpy(d->uuid, op->u.setdomainhandle.handle, sizeof(d->uuid));
    spin_unlock(&d->lock);
    return 0;
}

int domctl_setdebugging(struct domain *d, struct xen_domctl *op)
{
    return op->u.setdebugging.enable ? -XEN_EOPNOTSUPP : 0;
}

int domctl_settimeoffset(struct domain *d, struct xen_domctl *op)
{
    spin_lock(&d->lock);
    d->time_offset = op->u.settimeoffset.time_offset_seconds;
    spin_unlock(&d->lock);
    guest_wallclock_update(d);
    return 0;
}

/* TSC modes of the ABI's users: 0 default, 1 always emulated, 2 never. Ours is never emulated. */
#define TSC_MODE_DEFAULT       0
#define TSC_MODE_NEVER_EMULATE 2

int domctl_gettscinfo(struct domain *d, struct xen_domctl *op)
{
    op->u.tsc_info = (struct xen_domctl_tsc_info){
        .tsc_mode = TSC_MODE_DEFAULT,
        .gtsc_khz = time_tsc_khz(),
    };
    return 0;
}

int domctl_settscinfo(struct domain *d, struct xen_domctl *op)
{
    uint32_t mode = op->u.tsc_info.tsc_mode;
    return mode == TSC_MODE_DEFAULT || mode == TSC_MODE_NEVER_EMULATE ? 0 : -XEN_EOPNOTSUPP;
}

int domctl_set_address_size(struct domain *d, struct xen_domctl *op)
{
    return op->u.address_size.size == 64 ? 0 : -XEN_EOPNOTSUPP; /* no 32-bit PV, by design */
}

int domctl_get_address_size(struct domain *d, struct xen_domctl *op)
{
    op->u.address_size.size = 64;
    return 0;
}

int domctl_set_virq_handler(struct domain *d, struct xen_domctl *op)
{
    return event_set_global_virq_handler(d, op->u.set_virq_handler.virq);
}

int domctl_get_cpu_policy(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_cpu_policy *p = &op->u.cpu_policy;
    return cpuid_policy_put(cpuid_policy_of(d), guest_handle(p->leaves), &p->nr_leaves,
                            guest_handle(p->msrs), &p->nr_msrs);
}

int domctl_set_cpu_policy(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_cpu_policy *p = &op->u.cpu_policy;
    p->err_leaf = p->err_subleaf = p->err_msr = ~0u;
    if (p->nr_leaves > CPUID_MAX_LEAVES || p->nr_msrs > cpuid_policy_max_msrs())
        return -XEN_E2BIG;

    struct cpuid_policy *policy = zalloc(sizeof(*policy));
    if (!policy)
        return -XEN_ENOMEM;
    policy->count = p->nr_leaves;
    int rc = copy_from_guest(policy->leaf, guest_handle(p->leaves),
                             policy->count * sizeof(policy->leaf[0]));
    if (!rc)
        rc = cpuid_policy_restrict(policy, d->is_hvm ? cpuid_policy_hvm() : cpuid_policy_pv(),
                                   &p->err_leaf, &p->err_subleaf);
    if (rc) {
        zfree(policy);
        return rc;
    }

    /* Only before it first runs: a guest reads its policy without a lock. */
    spin_lock(&d->lock);
    bool started = d->vcpu[0] && d->vcpu[0]->initialised;
    struct cpuid_policy *old = started ? policy : d->cpuid;
    if (!started)
        d->cpuid = policy;
    spin_unlock(&d->lock);
    zfree(old);
    return started ? -XEN_EEXIST : 0;
}
