/* domctls on vCPUs: their creation, registers, where they may run and how much. */
#include "control/internal.h"
#include "hvm/platform.h"
#include "lib/string.h"
#include "hvm/hvm.h"
#include "pv/pv.h"

struct vcpu *domctl_vcpu(struct domain *d, uint32_t id)
{
    return id < d->max_vcpus ? READ_ONCE(d->vcpu[id]) : NULL;
}

/* Spread over the CPUs that are up; the scheduler moves them afterwards. */
static unsigned first_cpu(const struct domain *d, unsigned id)
{
    unsigned online = bitmap_weight(cpus_online.bits, MAX_CPUS), skip = (d->id + id) % online, cpu;
    for_each_cpu(cpu, &cpus_online) {
        if (skip-- == 0)
            return cpu;
    }
    return 0;
}

int domctl_max_vcpus(struct domain *d, struct xen_domctl *op)
{
    if (op->u.max_vcpus.max != d->max_vcpus)
        return -XEN_EINVAL;
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        if (d->vcpu[i])
            continue;
        int rc = vcpu_create(d, i, first_cpu(d, i));
        if (rc)
            return rc; /* those made stay: the domain's death takes them */
    }
    return 0;
}

int domctl_setvcpucontext(struct domain *d, struct xen_domctl *op)
{
    struct vcpu *v = domctl_vcpu(d, op->u.vcpucontext.vcpu);
    if (!v)
        return -XEN_ENOENT;
    if (!op->u.vcpucontext.ctxt.p || d->is_hvm)
        return -XEN_EOPNOTSUPP; /* reset: nothing of ours asks for it; HVM has sethvmcontext */

    struct vcpu_guest_context *c = zalloc(sizeof(*c));
    if (!c)
        return -XEN_ENOMEM;
    int rc = copy_from_guest(c, guest_handle(op->u.vcpucontext.ctxt), sizeof(*c));
    if (!rc) {
        domain_pause(d);
        rc = pv_set_context(v, c);
        if (!rc) {
            v->initialised = true;
            /* The builder has cleared shared_info since we wrote the time into it. */
            v->time_base = 0;
            guest_wallclock_update(d);
            if (c->flags & VGCF_online)
                sched_unblock(&v->sched, SCHED_DOWN);
            else
                sched_block(&v->sched, SCHED_DOWN);
        }
        domain_unpause(d);
    }
    zfree(c);
    return rc;
}

int domctl_getvcpucontext(struct domain *d, struct xen_domctl *op)
{
    struct vcpu *v = domctl_vcpu(d, op->u.vcpucontext.vcpu);
    if (!v)
        return -XEN_ESRCH;
    if (!v->initialised)
        return -XEN_ENODATA;
    struct vcpu_guest_context *c = zalloc(sizeof(*c));
    if (!c)
        return -XEN_ENOMEM;
    vcpu_pause(v);
    if (d->is_hvm)
        hvm_get_context(v, c);
    else
        pv_get_context(v, c);
    vcpu_unpause(v);
    int rc = copy_to_guest(guest_handle(op->u.vcpucontext.ctxt), c, sizeof(*c));
    zfree(c);
    return rc;
}

int domctl_getvcpuinfo(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_getvcpuinfo *info = &op->u.getvcpuinfo;
    const struct vcpu *v = domctl_vcpu(d, info->vcpu);
    if (!v)
        return -XEN_ESRCH;
    uint32_t blockers = READ_ONCE(v->sched.blockers);
    info->online = !(blockers & SCHED_DOWN);
    info->blocked = !!(blockers & SCHED_ASLEEP);
    info->running = v->runstate.state == RUNSTATE_running;
    info->cpu_time = vcpu_run_time(v);
    info->cpu = v->sched.cpu;
    return 0;
}

static void mask_and(struct cpu_mask *m, const struct cpu_mask *with)
{
    for (unsigned i = 0; i < ARRAY_SIZE(m->bits); i++)
        m->bits[i] &= with->bits[i];
}

int domctl_setvcpuaffinity(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
    struct cpu_mask hard, soft;
    struct vcpu *v = domctl_vcpu(d, a->vcpu);
    if (!v)
        return -XEN_EINVAL;
    if (!(a->flags & (XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT)) ||
        (a->flags & ~(XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT | XEN_VCPUAFFINITY_FORCE)))
        return -XEN_EINVAL;

    hard = v->sched.hard;
    soft = v->sched.soft;
    int rc = 0;
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = bitmap_from_tools(&hard, &a->cpumap_hard);
    if (!rc && (a->flags & XEN_VCPUAFFINITY_SOFT))
        rc = bitmap_from_tools(&soft, &a->cpumap_soft);
    if (!rc)
        rc = sched_set_affinity(&v->sched, &hard, &soft);
    if (rc)
        return rc;

    /* What is effective goes back to the caller. */
    mask_and(&hard, &cpus_online);
    mask_and(&soft, &hard);
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = bitmap_to_tools(&a->cpumap_hard, hard.bits, MAX_CPUS);
    if (!rc && (a->flags & XEN_VCPUAFFINITY_SOFT))
        rc = bitmap_to_tools(&a->cpumap_soft, soft.bits, MAX_CPUS);
    return rc;
}

int domctl_getvcpuaffinity(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
    const struct vcpu *v = domctl_vcpu(d, a->vcpu);
    int rc = 0;
    if (!v)
        return -XEN_EINVAL;
    if (!(a->flags & (XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT)))
        return -XEN_EINVAL;
    if (a->flags & XEN_VCPUAFFINITY_HARD)
        rc = bitmap_to_tools(&a->cpumap_hard, v->sched.hard.bits, MAX_CPUS);
    if (!rc && (a->flags & XEN_VCPUAFFINITY_SOFT))
        rc = bitmap_to_tools(&a->cpumap_soft, v->sched.soft.bits, MAX_CPUS);
    return rc;
}

/* We know one memory node: an affinity must include it. */
int domctl_setnodeaffinity(struct domain *d, struct xen_domctl *op)
{
    struct cpu_mask nodes;
    int rc = bitmap_from_tools(&nodes, &op->u.nodeaffinity.nodemap);
    if (rc)
        return rc;
    return bit_test(nodes.bits, 0) ? 0 : -XEN_EINVAL;
}

int domctl_getnodeaffinity(struct domain *d, struct xen_domctl *op)
{
    const uint64_t node0 = 1;
    return bitmap_to_tools(&op->u.nodeaffinity.nodemap, &node0, 64);
}

/* Buttons and sleep states are for machines with ACPI; a PV guest has an NMI handler at most. */
int domctl_sendtrigger(struct domain *d, struct xen_domctl *op)
{
    const struct xen_domctl_sendtrigger *t = &op->u.sendtrigger;
    switch (t->trigger) {
    case XEN_DOMCTL_SENDTRIGGER_NMI: {
        struct vcpu *v = domctl_vcpu(d, t->vcpu);
        if (!v)
            return -XEN_ESRCH;
        vcpu_send_nmi(v);
        return 0;
    }
    case XEN_DOMCTL_SENDTRIGGER_POWER:
    case XEN_DOMCTL_SENDTRIGGER_SLEEP: /* buttons that no PV guest has */
        return d->is_hvm ? platform_button(d, t->trigger == XEN_DOMCTL_SENDTRIGGER_SLEEP)
                         : -XEN_EINVAL;
    default:
        return -XEN_ENOSYS;
    }
}

/* Our scheduler answers as credit2: a weight, and a cap in percent. */
int domctl_scheduler_op(struct domain *d, struct xen_domctl *op)
{
    struct xen_domctl_scheduler_op *s = &op->u.scheduler_op;
    if (s->sched_id != XEN_SCHEDULER_CREDIT2)
        return -XEN_EINVAL;
    uint16_t *weight = &s->u.credit2.weight, *cap = &s->u.credit2.cap;
    const struct vcpu *v0 = d->vcpu[0];

    switch (s->cmd) {
    case XEN_DOMCTL_SCHEDOP_getinfo:
        *weight = v0 ? v0->sched.weight : SCHED_WEIGHT_DEFAULT;
        *cap = v0 ? v0->sched.cap : 0;
        return 0;
    case XEN_DOMCTL_SCHEDOP_putinfo: {
        uint32_t new_weight = *weight ? *weight : v0 ? v0->sched.weight : SCHED_WEIGHT_DEFAULT;
        uint32_t new_cap = *cap == 0xffff ? (v0 ? v0->sched.cap : 0) : *cap;
        struct vcpu *v;
        for_each_vcpu(d, v)
            sched_set_params(&v->sched, new_weight, new_cap);
        return v0 ? 0 : -XEN_EINVAL;
    }
    default: /* per-vCPU parameters: credit2 has none */
        return -XEN_EINVAL;
    }
}
