/*
 * vCPUs: creation, blocking and waking, pausing, vcpu_info, and the one way out to a guest.
 *
 * An event is never missed: who sends sets the pending bits and then clears SCHED_BLOCKED; who
 * blocks sets SCHED_BLOCKED and then looks at the pending bits; both by fully ordered operations.
 *
 * Pauses are counted under v->lock (RANK_VCPU); the first sets SCHED_PAUSED, the last clears it.
 */
#include "console/console.h"
#include "domain/internal.h"
#include "domain/shared.h"
#include "event/event.h"
#include "lib/string.h"

/* The vcpu_info of those who have none: never unmasked, seen by no guest. */
static struct vcpu_info dummy_info = {.evtchn_upcall_mask = 1};

/* --- stacks --- */

_Static_assert(STACK_SIZE == STACK_FRAMES * PAGE_SIZE, "its frames make a stack");

static void stack_frames_free(struct vcpu *v)
{
    for (unsigned i = 0; i < STACK_FRAMES; i++)
        if (!mfn_equal(v->stack_frame[i], MFN_NONE))
            page_free(mfn_to_page(v->stack_frame[i]), 0);
}

/* Aligned to its size by vmap, with unmapped pages around it. */
static int stack_alloc(struct vcpu *v)
{
    uint8_t *base = NULL;
    bool have_all = true;
    for (unsigned i = 0; i < STACK_FRAMES; i++) {
        struct page *page = page_alloc(0, ALLOC_ZERO);
        v->stack_frame[i] = page ? page_to_mfn(page) : MFN_NONE;
        have_all &= page != NULL;
    }
    if (have_all)
        base = vmap_frames(v->stack_frame, STACK_FRAMES, MAP_RW);
    if (!base) {
        stack_frames_free(v);
        return -XEN_ENOMEM;
    }
    v->stack = (struct stack_top *)(base + STACK_SIZE) - 1;
    v->stack->vcpu = v;
    v->stack->cpu = cpus[v->sched.cpu];
    v->sched.stack = v->stack;
    return 0;
}

static void stack_free(struct vcpu *v)
{
    vunmap((uint8_t *)(v->stack + 1) - STACK_SIZE, STACK_FRAMES);
    stack_frames_free(v);
    v->stack = NULL;
}

/* --- creation --- */

static struct vcpu *vcpu_alloc(struct domain *d, unsigned id, unsigned cpu)
{
    struct vcpu *v = zalloc(sizeof(*v));
    if (!v)
        return NULL;
    v->id = id;
    v->domain = d;
    v->info = &dummy_info;
    v->info_frame = MFN_NONE;
    spin_init(&v->lock, RANK_VCPU);
    sched_entity_init(&v->sched, cpu);
    v->sched.vcpu = v;
    v->runstate.state = RUNSTATE_offline;
    v->runstate.state_entry_time = time_now();
    if (stack_alloc(v)) {
        zfree(v);
        return NULL;
    }
    return v;
}

struct vcpu *vcpu_alloc_idle(unsigned cpu)
{
    struct vcpu *v = vcpu_alloc(&idle_domain, cpu, cpu);
    if (v)
        v->sched.blockers = 0;
    return v;
}

/* Visible to others from here on, with the pauses that its domain has. */
static int publish(struct vcpu *v)
{
    struct domain *d = v->domain;
    int rc = 0;
    spin_lock(&d->lock);
    if (d->dying)
        rc = -XEN_EINVAL;
    else if (d->vcpu[v->id])
        rc = -XEN_EEXIST;
    if (!rc) {
        v->pause_count = d->pauses;
        if (v->pause_count)
            v->sched.blockers |= SCHED_PAUSED;
        __atomic_store_n(&d->vcpu[v->id], v, __ATOMIC_RELEASE);
    }
    spin_unlock(&d->lock);
    return rc;
}

int vcpu_create(struct domain *d, unsigned id, unsigned cpu)
{
    if (id >= d->max_vcpus || id >= MAX_VCPUS || !bit_test(cpus_online.bits, cpu))
        return -XEN_EINVAL;
    if (READ_ONCE(d->vcpu[id]))
        return -XEN_EEXIST;
    struct vcpu *v = vcpu_alloc(d, id, cpu);
    if (!v)
        return -XEN_ENOMEM;
    v->sched.group = &d->sched_group;
    sched_stack_init(&v->sched, v->stack, ops_of(d)->run);
    vcpu_timers_init(v);
    v->info = vcpu_info_default(v);

    int rc = event_vcpu_init(v);
    if (rc)
        goto no_event;
    rc = ops_of(d)->vcpu_init(v);
    if (rc)
        goto no_kind;
    guest_time_update(v);
    rc = publish(v);
    if (rc)
        goto no_place;
    __atomic_fetch_add(&d->overhead_pages, STACK_FRAMES, __ATOMIC_RELAXED);
    return 0;

no_place:
    ops_of(d)->vcpu_fini(v);
no_kind:
    event_vcpu_fini(v);
no_event:
    stack_free(v);
    zfree(v);
    return rc;
}

void vcpu_free(struct vcpu *v)
{
    vcpu_stop_timers(v);
    sched_entity_fini(&v->sched);
    ops_of(v->domain)->vcpu_fini(v);
    event_vcpu_fini(v);
    stack_free(v);
    zfree(v);
}

/* --- vcpu_info --- */

struct vcpu_info *vcpu_info_default(struct vcpu *v)
{
    return v->id < XEN_LEGACY_MAX_VCPUS ? &v->domain->shared->vcpu_info[v->id] : &dummy_info;
}

bool vcpu_info_is_dummy(const struct vcpu_info *info)
{
    return info == &dummy_info;
}

/*
 * Moves vcpu_info into the guest's frame, for good. Whoever sends an event meanwhile may still set
 * bits in the old place; so in the new one everything is said to be pending, and the guest looks at
 * all its ports once.
 */
static void info_move(struct vcpu *v, struct vcpu_info *to)
{
    struct vcpu_info *from = v->info;
    if (vcpu_info_is_dummy(from))
        to->evtchn_upcall_mask = !v->domain->is_hvm;
    else
        memcpy(to, from, sizeof(*to));
    shared_select_all(v->domain, to);
    WRITE_ONCE(to->evtchn_upcall_pending, 1);
    __atomic_store_n(&v->info, to, __ATOMIC_SEQ_CST);
}

int vcpu_info_register(struct vcpu *v, uint64_t frame, uint32_t offset)
{
    unsigned aligned = shared_is_narrow(v->domain) ? sizeof(uint32_t) : sizeof(uint64_t);
    if (offset > PAGE_SIZE - sizeof(struct vcpu_info) || offset % aligned)
        return -XEN_EINVAL;
    if (v != current_vcpu() && !(READ_ONCE(v->sched.blockers) & SCHED_DOWN))
        return -XEN_EINVAL;
    struct page *page = domain_get_page(v->domain, gfn(frame));
    if (!page)
        return -XEN_EINVAL;
    int rc = page_get_type(page, PAGE_WRITABLE);
    if (rc) {
        page_put(page);
        return rc;
    }

    spin_lock(&v->lock);
    bool first = mfn_equal(v->info_frame, MFN_NONE) && !READ_ONCE(v->domain->dying);
    if (first) {
        v->info_frame = page_to_mfn(page);
        info_move(v, (struct vcpu_info *)((uint8_t *)page_to_virt(page) + offset));
    }
    spin_unlock(&v->lock);
    if (!first) {
        page_put_and_type(page);
        return -XEN_EINVAL;
    }
    guest_time_update(v);
    vcpu_kick(v);
    return 0;
}

static void info_page_drop(struct grace *g)
{
    struct vcpu *v = container_of(g, struct vcpu, info_grace);
    mfn_t frame = v->info_frame;
    v->info_frame = MFN_NONE;
    page_put_and_type(mfn_to_page(frame));
}

/*
 * Senders take no lock: one that has just read v->info may still write to the page. It goes when
 * every CPU has left what it was doing. The page is the domain's, so the domain, and with it the
 * vCPU, stays as long.
 */
void vcpu_info_release(struct vcpu *v)
{
    spin_lock(&v->lock);
    bool registered = !mfn_equal(v->info_frame, MFN_NONE) && !v->info_released;
    v->info_released = true;
    __atomic_store_n(&v->info, &dummy_info, __ATOMIC_SEQ_CST);
    spin_unlock(&v->lock);
    if (registered)
        grace_call(&v->info_grace, info_page_drop);
}

/* --- pausing --- */

void vcpu_pause_nosync(struct vcpu *v)
{
    spin_lock(&v->lock);
    if (v->pause_count++ == 0)
        sched_block(&v->sched, SCHED_PAUSED);
    spin_unlock(&v->lock);
}

void vcpu_pause(struct vcpu *v)
{
    vcpu_pause_nosync(v);
    sched_wait_quiet(&v->sched);
}

void vcpu_unpause(struct vcpu *v)
{
    spin_lock(&v->lock);
    ASSERT(v->pause_count);
    if (--v->pause_count == 0)
        sched_unblock(&v->sched, SCHED_PAUSED);
    spin_unlock(&v->lock);
}

/* --- up and down, asleep and awake --- */

int vcpu_up(struct vcpu *v)
{
    spin_lock(&v->lock);
    int rc = v->initialised ? 0 : -XEN_EINVAL;
    if (!rc)
        sched_unblock(&v->sched, SCHED_DOWN);
    spin_unlock(&v->lock);
    return rc;
}

void vcpu_down(struct vcpu *v)
{
    struct domain *d = v->domain;
    struct vcpu *o;
    bool any_up = false;
    spin_lock(&d->lock);
    sched_block(&v->sched, SCHED_DOWN);
    for_each_vcpu(d, o)
        any_up |= !(READ_ONCE(o->sched.blockers) & SCHED_DOWN);
    spin_unlock(&d->lock);
    if (!any_up)
        domain_shutdown(d, SHUTDOWN_poweroff);
}

void vcpu_block(void)
{
    struct vcpu *v = current_vcpu();
    sched_block(&v->sched, SCHED_BLOCKED);
    if (event_pending(v))
        sched_unblock(&v->sched, SCHED_BLOCKED);
}

void vcpu_kick(struct vcpu *v)
{
    const uint32_t asleep = SCHED_BLOCKED | SCHED_POLLING;
    /* Orders what the caller wrote before what we read, as the one who blocks does the reverse. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (READ_ONCE(v->sched.blockers) & asleep)
        sched_unblock(&v->sched, asleep);
    else if (v != current_vcpu() && !READ_ONCE(v->info->evtchn_upcall_mask))
        sched_poke(&v->sched); /* with the mask set it looks by itself when it clears it */
}

/* --- the way out --- */

static void attend(struct vcpu *v)
{
    if (READ_ONCE(v->work)) {
        uint32_t work = __atomic_exchange_n(&v->work, 0, __ATOMIC_SEQ_CST);
        if (work & VCPU_WORK_END)
            domain_shutdown(v->domain, READ_ONCE(v->domain->end_code));
        if (work & VCPU_WORK_AREAS)
            (void)!guest_areas_write(v, AREA_TIME |
                                            AREA_RUNSTATE); /* unmapped meanwhile: its own loss */
        if (work & VCPU_WORK_DELIVER)
            ops_of(v->domain)->deliver(v);
    }
    if (READ_ONCE(this_cpu()->need_resched) || READ_ONCE(v->sched.blockers))
        schedule();
}

void vcpu_leave_attending(struct vcpu *v)
{
    do {
        while (unlikely(vcpu_must_attend(this_cpu(), v)))
            attend(v);
        if (event_pending(v))
            ops_of(v->domain)->deliver(v);
    } while (unlikely(vcpu_must_attend(this_cpu(), v)));
}

void vcpu_leave(void)
{
    vcpu_leave_now(current_vcpu()->stack);
}
