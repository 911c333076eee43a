/*
 * The table of domains, their creation, references and end.
 *
 * Finding takes no lock: a slot of the table names a domain until its last reference goes; the
 * memory behind it stays for a grace period more (cpu/cpu.h). The table itself holds one reference,
 * dropped by domain_destroy() when the domain holds nothing any more. Whoever owns frames keeps
 * their domain alive too (mm/page.c).
 *
 * Creation and removal write the table under domain_list_lock (RANK_DOMAIN_LIST); `ids` has a bit
 * for each slot in use and gives the order.
 */
#include "console/console.h"
#include "domain/internal.h"
#include "domain/shared.h"
#include "event/event.h"
#include "grant/grant.h"
#include "lib/string.h"

#include <xen/domctl.h>

struct domain *dom0, *dom_io, *dom_xen;
struct domain idle_domain;
static struct domain io_domain, xen_domain;
const struct guest_ops *pv_ops_table, *hvm_ops_table;

static struct spinlock domain_list_lock = SPINLOCK_INIT(RANK_DOMAIN_LIST);
static struct domain *table[MAX_DOMID];
static uint64_t ids[BITMAP_WORDS(MAX_DOMID)];

#define LINGER_RETRY MILLISECONDS(100)

/* --- finding --- */

struct domain *domain_find(domid_t id)
{
    return id < MAX_DOMID ? __atomic_load_n(&table[id], __ATOMIC_ACQUIRE) : NULL;
}

struct domain *domain_find_or_self(domid_t id)
{
    return id == DOMID_SELF ? current_domain() : domain_find(id);
}

struct domain *domain_at_or_after(unsigned id)
{
    for (; (id = bitmap_next_set(ids, MAX_DOMID, id)) < MAX_DOMID; id++) {
        struct domain *d = domain_find(id);
        if (d)
            return d;
    }
    return NULL;
}

struct domain *domain_next(domid_t from)
{
    struct domain *d;
    for (unsigned id = from; (d = domain_at_or_after(id)) != NULL; id = d->id + 1u)
        if (domain_get(d))
            return d;
    return NULL;
}

domid_t domain_free_id(domid_t from)
{
    unsigned id = bitmap_next_clear(ids, MAX_DOMID, from ? from : 1);
    if (id >= MAX_DOMID)
        id = bitmap_next_clear(ids, MAX_DOMID, 1);
    return id < MAX_DOMID ? id : DOMID_INVALID;
}

/* --- references --- */

bool domain_get(struct domain *d)
{
    uint32_t n = READ_ONCE(d->refs);
    do {
        if (n == 0 || n == UINT32_MAX)
            return false;
    } while (!__atomic_compare_exchange_n(&d->refs, &n, n + 1, false, __ATOMIC_ACQUIRE,
                                          __ATOMIC_RELAXED));
    return true;
}

static void free_rooms(struct domain *d)
{
    for (unsigned i = 0; i < d->max_vcpus; i++)
        if (d->vcpu[i])
            vcpu_free(d->vcpu[i]);
    ops_of(d)->domain_fini(d);
    grant_domain_fini(d);
    pirq_domain_fini(d);
    event_domain_fini(d);
    if (d->shared)
        page_unshare_free(d, virt_to_page(d->shared));
    range_free(&d->ioports);
    range_free(&d->iomem);
    range_free(&d->irqs);
    zfree(d->memory_map);
    zfree(d->cpuid);
    zfree(d);
}

/* Does another domain still map pages that we showed to @d? It cannot map them anew. */
static bool still_shown(struct domain *d)
{
    mfn_t frame;
    if (!page_only_ours(virt_to_page(d->shared)))
        return true;
    for (unsigned i = 0; i < grant_table_frames(d); i++)
        if (!grant_table_frame(d, i, &frame) && !page_only_ours(mfn_to_page(frame)))
            return true;
    return ops_of(d)->shown && ops_of(d)->shown(d);
}

static void try_free(void *data)
{
    struct domain *d = data;
    if (still_shown(d)) {
        timer_set(&d->watchdog[0], time_now() + LINGER_RETRY);
        return;
    }
    free_rooms(d);
    event_send_global_virq(VIRQ_DOM_EXC);
}

static void end_of_grace(struct grace *g)
{
    struct domain *d = container_of(g, struct domain, grace);
    timer_init(&d->watchdog[0], try_free, d, this_cpu()->id); /* stopped when it died */
    try_free(d);
}

void domain_put(struct domain *d)
{
    if (__atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL))
        return;
    __atomic_store_n(&table[d->id], NULL, __ATOMIC_SEQ_CST);
    atomic_bit_clear(ids, d->id); /* the number is free again */
    grace_call(&d->grace, end_of_grace);
}

/* --- creating --- */

static void init_fields(struct domain *d, domid_t id)
{
    d->id = id;
    d->refs = 1; /* the table's */
    spin_init(&d->lock, RANK_DOMAIN);
    spin_init(&d->page_lock, RANK_PAGE_LIST);
    d->created = time_now();
}

static int shared_info_init(struct domain *d)
{
    struct page *page = page_alloc(0, ALLOC_ZERO);
    if (!page)
        return -XEN_ENOMEM;
    page_share(d, page);
    d->shared = page_to_virt(page);
    d->shared_frame = page_to_mfn(page);
    d->ports_2l = WIDE_PORTS;
    d->overhead_pages = 1;
    /* HVM guests know no mask but RFLAGS.IF. */
    for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++)
        d->shared->vcpu_info[i].evtchn_upcall_mask = !d->is_hvm;
    return 0;
}

static int publish(struct domain *d)
{
    spin_lock(&domain_list_lock);
    int rc = bit_test(ids, d->id) ? -XEN_EEXIST : 0;
    if (!rc) {
        atomic_bit_set(ids, d->id);
        __atomic_store_n(&table[d->id], d, __ATOMIC_RELEASE);
    }
    spin_unlock(&domain_list_lock);
    return rc;
}

int domain_create(domid_t id, const struct domain_config *config, struct domain **out)
{
    if (id >= MAX_DOMID || !config->max_vcpus || config->max_vcpus > MAX_VCPUS)
        return -XEN_EINVAL;
    if (bit_test(ids, id))
        return -XEN_EEXIST;
    struct domain *d = zalloc(sizeof(*d));
    if (!d)
        return -XEN_ENOMEM;

    init_fields(d, id);
    d->privileged = config->privileged;
    d->create_flags = config->flags;
    d->emulation = config->emulation;
    d->is_hvm = config->flags & XEN_DOMCTL_CDF_hvm;
    d->max_vcpus = config->max_vcpus;
    memcpy(d->uuid, config->uuid, sizeof(d->uuid));
    d->pauses = d->controller_pauses = 1;
    domain_watchdogs_init(d);

    int rc = shared_info_init(d);
    if (!rc)
        rc = event_domain_init(d, config->max_evtchn_port);
    if (!rc)
        rc = pirq_domain_init(d);
    if (!rc)
        rc = grant_domain_init(d, config->max_grant_frames, config->max_maptrack_frames);
    if (!rc)
        rc = ops_of(d)->domain_init(d);
    if (rc)
        goto undo;
    guest_wallclock_update(d);
    rc = publish(d);
    if (rc)
        goto undo;
    *out = d;
    return 0;

undo:
    /* Nobody has seen it: what was made is told by the pointers, each fini takes NULL. */
    free_rooms(d);
    return rc;
}

/* A PV guest knows machine frames, so its guest frame numbers are these. */
struct page *domain_get_page(struct domain *d, gfn_t g)
{
    if (unlikely(d->is_hvm))
        return hvm_ops_table->get_page(d, g);
    if (!mfn_is_ram(mfn(g.n)))
        return NULL;
    struct page *page = mfn_to_page(mfn(g.n));
    return page_get(page, d) ? page : NULL;
}

/* --- pausing: a count for the domain, carried by each of its vCPUs --- */

void domain_pause_locked(struct domain *d)
{
    struct vcpu *v;
    d->pauses++;
    for_each_vcpu(d, v)
        vcpu_pause_nosync(v);
}

void domain_unpause_locked(struct domain *d)
{
    struct vcpu *v;
    d->pauses--;
    for_each_vcpu(d, v)
        vcpu_unpause(v);
}

void domain_wait_quiet(struct domain *d)
{
    struct vcpu *v;
    for_each_vcpu(d, v)
        if (v != current_vcpu())
            sched_wait_quiet(&v->sched);
}

void domain_pause_nosync(struct domain *d)
{
    spin_lock(&d->lock);
    domain_pause_locked(d);
    spin_unlock(&d->lock);
}

void domain_pause(struct domain *d)
{
    domain_pause_nosync(d);
    domain_wait_quiet(d);
}

void domain_unpause(struct domain *d)
{
    spin_lock(&d->lock);
    domain_unpause_locked(d);
    spin_unlock(&d->lock);
}

/* The toolstack's own count goes with one of ours while it is not zero. */
#define MAX_CONTROLLER_PAUSES 255

int domain_pause_by_controller(struct domain *d)
{
    int rc = 0;
    spin_lock(&d->lock);
    if (d->controller_pauses >= MAX_CONTROLLER_PAUSES)
        rc = -XEN_EOVERFLOW;
    else if (d->controller_pauses++ == 0)
        domain_pause_locked(d);
    spin_unlock(&d->lock);
    if (!rc)
        domain_wait_quiet(d);
    return rc;
}

int domain_unpause_by_controller(struct domain *d)
{
    int rc = 0;
    spin_lock(&d->lock);
    if (d->controller_pauses == 0)
        rc = -XEN_EINVAL;
    else if (--d->controller_pauses == 0)
        domain_unpause_locked(d);
    spin_unlock(&d->lock);
    return rc;
}

/* --- start of day --- */

static void dump_vcpu(const struct vcpu *v)
{
    static const char *const states[] = {"running", "runnable", "blocked", "offline"};
    log_info("  v%u CPU %u %s, blockers 0x%x%s, work 0x%x, pauses %u", v->id, v->sched.cpu,
             states[v->runstate.state & 3], v->sched.blockers,
             v->sched.in_hypervisor ? " (in the hypervisor)" : "", v->work, v->pause_count);
    log_info("     events pending %u masked %u, rip 0x%lx", v->info->evtchn_upcall_pending,
             v->info->evtchn_upcall_mask, v->stack->regs.rip);
}

void domain_dump(char key)
{
    struct domain *d;
    struct vcpu *v;
    for_each_domain(d) {
        log_info("d%u: refs %u, %lu of %lu pages, overhead %lu, pauses %u%s%s", d->id, d->refs,
                 d->tot_pages, d->max_pages, d->overhead_pages, d->pauses,
                 d->dying ? ", dying" : "", d->shut_down ? ", shut down" : "");
        for_each_vcpu(d, v)
            dump_vcpu(v);
    }
}

/* For the domains that are no guests: nothing of theirs is ever created or freed. */
static void __init pseudo_init(struct domain *d, domid_t id)
{
    init_fields(d, id);
    d->max_pages = ~0UL;
}

static struct sched_entity *alloc_idle(unsigned cpu)
{
    struct vcpu *v = vcpu_alloc_idle(cpu);
    return v ? &v->sched : NULL;
}

/* Its registers are this CPU's from now on, or v's own again. */
static void load(struct vcpu *v)
{
    ops_of(v->domain)->switch_in(v);
    this_cpu()->guest_state = v;
    if (unlikely(v->time_base != time_scale()->base_tsc))
        guest_time_update(v);
}

static void save(struct vcpu *v, bool next_is_idle)
{
    ops_of(v->domain)->switch_out(v);
    this_cpu()->guest_state = NULL;
}

static const struct sched_hooks hooks = {
    .alloc_idle = alloc_idle, .save = save, .load = load, .runstate = runstate_entered};

void __init domain_init(void)
{
    pseudo_init(&idle_domain, DOMID_IDLE);
    pseudo_init(&io_domain, DOMID_IO);
    pseudo_init(&xen_domain, DOMID_XEN);
    dom_io = &io_domain;
    dom_xen = &xen_domain;

    sched_hooks = &hooks;
    struct sched_entity *idle = alloc_idle(this_cpu()->id);
    if (!idle)
        panic("no memory for the idle vCPU of the boot CPU");
    sched_set_idle(this_cpu(), idle);
    key_register('q', "domains and their vCPUs", domain_dump);
}
