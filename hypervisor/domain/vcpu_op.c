/*
 * vcpu_op (xen/vcpu.h): a guest starts and stops its own vCPUs, asks for their times and says where
 * it wants to be told things. The target is always a vCPU of the caller's domain.
 */
#include "domain/internal.h"
#include "hypercall/table.h"
#include "pv/pv.h"

/*
 * A context for a vCPU that has none. It is down, so it does not run, and cannot be brought up
 * before `initialised` is set at the end.
 */
static int initialise(struct vcpu *v, guest_ptr_t arg)
{
    if (v->domain->is_hvm) /* they have INIT and SIPI */
        return -XEN_EOPNOTSUPP;
    struct vcpu_guest_context *c = zalloc(sizeof(*c));
    if (!c)
        return -XEN_ENOMEM;
    int rc = copy_from_guest(c, arg, sizeof(*c));
    if (rc)
        goto out;

    spin_lock(&v->lock);
    if (v->initialised || v->initialising)
        rc = -XEN_EEXIST;
    else if (vcpu_info_is_dummy(v->info))
        rc = -XEN_EINVAL; /* nobody could tell it anything */
    else
        v->initialising = true;
    spin_unlock(&v->lock);
    if (rc)
        goto out;

    rc = pv_set_context(v, c);
    spin_lock(&v->lock);
    v->initialising = false;
    v->initialised = rc == 0;
    spin_unlock(&v->lock);
out:
    zfree(c);
    return rc;
}

static long get_runstate(struct vcpu *v, guest_ptr_t arg)
{
    struct vcpu_runstate_info r = {0};
    runstate_get(v, &r);
    return copy_to_guest(arg, &r, sizeof(r));
}

static bool address_ok(uint64_t addr)
{
    bool canonical = (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
    return canonical && (addr < HV_VIRT_START || addr >= HV_VIRT_END);
}

/* An area at a guest virtual address: written at once for the caller itself, else when v runs. */
static long register_area(struct vcpu *v, guest_ptr_t *area, guest_ptr_t arg)
{
    uint64_t addr;
    int rc = copy_from_guest(&addr, arg, sizeof(addr));
    if (rc)
        return rc;
    if (!address_ok(addr))
        return -XEN_EFAULT;
    uint64_t before = area->addr;
    WRITE_ONCE(area->addr, addr);
    if (area == &v->time_guest)
        WRITE_ONCE(v->time_area_stale, true);
    if (v != current_vcpu()) {
        vcpu_add_work(v, VCPU_WORK_AREAS);
        return 0;
    }
    rc = guest_areas_write(v, area == &v->time_guest ? AREA_TIME : AREA_RUNSTATE);
    if (rc)
        WRITE_ONCE(area->addr, before);
    return rc;
}

static long register_info(struct vcpu *v, guest_ptr_t arg)
{
    struct vcpu_register_vcpu_info r;
    int rc = copy_from_guest(&r, arg, sizeof(r));
    return rc ? rc : vcpu_info_register(v, r.mfn, r.offset);
}

static long set_periodic(struct vcpu *v, guest_ptr_t arg)
{
    struct vcpu_set_periodic_timer t;
    int rc = copy_from_guest(&t, arg, sizeof(t));
    if (rc)
        return rc;
    return t.period_ns ? vcpu_set_periodic(v, t.period_ns) : -XEN_EINVAL;
}

/* The ABI lets a vCPU set and stop only its own. */
static long set_singleshot(struct vcpu *v, guest_ptr_t arg)
{
    struct vcpu_set_singleshot_timer t;
    if (v != current_vcpu())
        return -XEN_EINVAL;
    int rc = copy_from_guest(&t, arg, sizeof(t));
    return rc ? rc : vcpu_set_singleshot(v, t.timeout_abs_ns, t.flags & VCPU_SSHOTTMR_future);
}

void vcpu_send_nmi(struct vcpu *v)
{
    ops_of(v->domain)->send_nmi(v);
}

/* Only means something for a vCPU of domain 0 that stays on one CPU. */
static long get_physid(struct vcpu *v, guest_ptr_t arg)
{
    unsigned cpu = bitmap_next_set(v->sched.hard.bits, MAX_CPUS, 0);
    if (!v->domain->privileged || cpu == MAX_CPUS || !cpus[cpu] ||
        bitmap_next_set(v->sched.hard.bits, MAX_CPUS, cpu + 1) < MAX_CPUS)
        return -XEN_EINVAL;
    struct vcpu_get_physid id = {.phys_id = cpus[cpu]->apic_id | (uint64_t)cpus[cpu]->acpi_id
                                                                     << 32};
    return copy_to_guest(arg, &id, sizeof(id));
}

long hc_vcpu_op(uint64_t cmd, uint64_t id, uint64_t arg)
{
    struct vcpu *v = vcpu_by_id(current_domain(), id);
    guest_ptr_t p = guest_ptr(arg);
    if (!v)
        return -XEN_ENOENT;

    switch (cmd) {
    case VCPUOP_initialise:
        return initialise(v, p);
    case VCPUOP_up:
        return vcpu_up(v);
    case VCPUOP_down:
        vcpu_down(v);
        return 0;
    case VCPUOP_is_up:
        return !(READ_ONCE(v->sched.blockers) & SCHED_DOWN);
    case VCPUOP_get_runstate_info:
        return get_runstate(v, p);
    case VCPUOP_register_runstate_memory_area:
        return register_area(v, &v->runstate_guest, p);
    case VCPUOP_set_periodic_timer:
        return set_periodic(v, p);
    case VCPUOP_stop_periodic_timer:
        return vcpu_set_periodic(v, 0);
    case VCPUOP_set_singleshot_timer:
        return set_singleshot(v, p);
    case VCPUOP_stop_singleshot_timer:
        if (v != current_vcpu())
            return -XEN_EINVAL;
        timer_stop(&v->singleshot);
        return 0;
    case VCPUOP_register_vcpu_info:
        return register_info(v, p);
    case VCPUOP_send_nmi:
        vcpu_send_nmi(v);
        return 0;
    case VCPUOP_get_physid:
        return get_physid(v, p);
    case VCPUOP_register_vcpu_time_memory_area:
        return register_area(v, &v->time_guest, p);
    default:
        return -XEN_ENOSYS;
    }
}
