/*
 * Which page tables are loaded where: CR3, the two top-level tables of each vCPU, TLB flushes.
 *
 * v->pv->guest_l4 and user_l4 each hold a reference and an L4 use; pv_load_cr3() loads what the
 * vCPU needs. A CPU that goes idle keeps the last guest's CR3 until another vCPU comes, so
 * `loaded` says for each CPU whose translations its TLB may hold: the domain's bit is set in
 * dirty_cpus and the vCPU noted before CR3 is written, so whoever changes a table and then looks
 * here misses nobody. Writing CR3 forgets everything (no global pages, no PCID), then the bit of
 * the domain that was there before is cleared.
 *
 * A table that is to be invalidated or a domain that dies is first thrown out of the CPUs that have
 * it loaded without using it.
 *
 * No lock: each CPU writes its own row.
 */
#include "console/console.h"
#include "pv/pagetable.h"

#define NOBODY (~0u)

static struct {
    struct domain *domain; /* [P] whose bit in dirty_cpus we have set; NULL */
    uint32_t user;         /* [a] domain and vCPU id, by user_of(); NOBODY */
} loaded[MAX_CPUS] = {[0 ... MAX_CPUS - 1] = {.user = NOBODY}};

static uint32_t user_of(const struct domain *d, unsigned vcpu)
{
    return (uint32_t)d->id << 16 | vcpu;
}

static bool is_none(mfn_t m)
{
    return mfn_equal(m, MFN_NONE);
}

/* --- loading --- */

static void write_l4(struct cpu *c, mfn_t l4)
{
    uint64_t tick = tlb_switch_begins();
    WRITE_ONCE(c->loaded_cr3.n, l4.n);
    write_cr3(mfn_to_maddr(l4).a);
    tlb_switch_ended(tick);
}

static mfn_t wanted_l4(const struct pv_vcpu *pv)
{
    return pv->kernel_mode || is_none(pv->user_l4) ? pv->guest_l4 : pv->user_l4;
}

static void load(struct vcpu *v, bool always)
{
    struct cpu *c = this_cpu();
    struct domain *d = v->domain, *before = loaded[c->id].domain;
    mfn_t l4 = wanted_l4(v->pv);
    uint32_t user = user_of(d, v->id);
    if (is_none(l4))
        l4 = host_l4_mfn;
    /* What it flushed on another CPU since, this one would still remember. */
    bool only_here = v->pv->loaded_on == c->id;
    v->pv->loaded_on = c->id;
    if (!always && only_here && mfn_equal(c->loaded_cr3, l4) && loaded[c->id].user == user)
        return;

    if (before != d)
        atomic_bit_set(d->dirty_cpus.bits, c->id);
    loaded[c->id].domain = d;
    WRITE_ONCE(loaded[c->id].user, user);
    write_l4(c, l4);
    if (before && before != d)
        atomic_bit_clear(before->dirty_cpus.bits, c->id);
}

void pv_load_cr3(struct vcpu *v)
{
    load(v, false);
}

/*
 * Between kernel and user mode of the running vCPU: page tables, and which GS base is active. Whose
 * translations this CPU may hold does not change, unless it was thrown out meanwhile.
 */
void pv_switch_mode(struct vcpu *v, bool to_kernel)
{
    struct cpu *c = this_cpu();
    v->pv->kernel_mode = to_kernel;
    __asm__ volatile("swapgs" ::: "memory");
    mfn_t l4 = wanted_l4(v->pv);
    if (unlikely(is_none(l4) || mfn_equal(c->loaded_cr3, host_l4_mfn)))
        load(v, true);
    else if (!mfn_equal(c->loaded_cr3, l4))
        write_l4(c, l4);
}

/* This CPU holds nothing of any guest from now on. */
static void leave(void)
{
    struct cpu *c = this_cpu();
    struct domain *before = loaded[c->id].domain;
    write_l4(c, host_l4_mfn);
    WRITE_ONCE(loaded[c->id].user, NOBODY);
    loaded[c->id].domain = NULL;
    if (before)
        atomic_bit_clear(before->dirty_cpus.bits, c->id);
}

void pv_unload_cr3(void)
{
    if (!mfn_equal(this_cpu()->loaded_cr3, host_l4_mfn))
        leave();
}

static void leave_l4(void *arg)
{
    if (mfn_equal(this_cpu()->loaded_cr3, *(const mfn_t *)arg))
        leave();
}

static void leave_domain(void *arg)
{
    struct cpu *c = this_cpu();
    if (loaded[c->id].domain != arg)
        return;
    leave();
    if (c->guest_state && c->guest_state->domain == arg)
        c->guest_state = NULL;
}

/* ipi_call() to others, a plain call for this CPU. */
static void call_each(struct cpu_mask *mask, void (*fn)(void *), void *arg)
{
    unsigned self = this_cpu()->id;
    if (bit_test(mask->bits, self)) {
        bit_clear(mask->bits, self);
        fn(arg);
    }
    if (bitmap_next_set(mask->bits, MAX_CPUS, 0) < MAX_CPUS)
        ipi_call(mask, fn, arg, true);
}

void pv_evict_l4(mfn_t l4)
{
    struct cpu_mask mask = {0};
    unsigned i;
    for_each_cpu(i, &cpus_online) {
        if (READ_ONCE(cpus[i]->loaded_cr3.n) == l4.n)
            bit_set(mask.bits, i);
    }
    call_each(&mask, leave_l4, &l4);
}

void pv_evict_domain(struct domain *d)
{
    struct cpu_mask mask = d->dirty_cpus;
    call_each(&mask, leave_domain, d);
}

/* --- the two tables of a vCPU --- */

/* Puts @l4 (its reference and type held, or none) in place and gives up the former one. */
static void replace(struct vcpu *v, mfn_t l4, bool user)
{
    mfn_t *slot = user ? &v->pv->user_l4 : &v->pv->guest_l4;
    mfn_t old = {__atomic_exchange_n(&slot->n, l4.n, __ATOMIC_ACQ_REL)};
    if (v == current_vcpu() && user != v->pv->kernel_mode)
        load(v, true);
    if (!is_none(old))
        page_put_and_type(mfn_to_page(old));
}

/*
 * User mode has no business in the machine-to-physical table: a table loaded as a user's loses that
 * slot, one loaded as a kernel's has it. Who uses one table as both has what it loaded last.
 */
static void show_m2p(mfn_t l4, bool show)
{
    uint64_t *slot = (uint64_t *)mfn_to_virt(l4) + HV_SLOT_FIRST;
    WRITE_ONCE(*slot, show ? host_l4[HV_SLOT_FIRST] : 0);
}

int pv_set_l4(struct vcpu *v, mfn_t l4, bool user)
{
    struct domain *d = v->domain;
    if (l4.n == 0 || is_none(l4)) {
        if (!user)
            return -XEN_EINVAL;
        replace(v, MFN_NONE, true);
        return 0;
    }
    if (!mfn_is_ram(l4))
        return -XEN_EINVAL;
    int rc = page_get_and_type(mfn_to_page(l4), d, PAGE_L4);
    if (rc)
        return rc;
    show_m2p(l4, !user);
    replace(v, l4, user);
    /* What is dying may have given up its address spaces already; it shall not get new ones. */
    if (READ_ONCE(d->dying) && v != current_vcpu()) {
        replace(v, MFN_NONE, user);
        return -XEN_EINVAL;
    }
    return 0;
}

void pv_drop_l4(struct vcpu *v)
{
    if (!v->pv)
        return;
    replace(v, MFN_NONE, true);
    replace(v, MFN_NONE, false);
}

/* --- TLB flushes that guests ask for --- */

void pv_flush_local(const struct tlb_request *r)
{
    if (r->page)
        invlpg(r->va);
    else
        tlb_flush_local();
}

static void flush(struct cpu_mask *mask, const struct tlb_request *r)
{
    unsigned self = this_cpu()->id;
    if (bit_test(mask->bits, self)) {
        bit_clear(mask->bits, self);
        pv_flush_local(r);
    }
    if (bitmap_next_set(mask->bits, MAX_CPUS, 0) == MAX_CPUS)
        return;
    if (r->page)
        tlb_flush_page_mask(mask, r->va);
    else
        tlb_flush_mask(mask);
}

void pv_flush_all(struct domain *d, const struct tlb_request *r)
{
    struct cpu_mask mask;
    for (unsigned i = 0; i < ARRAY_SIZE(mask.bits); i++)
        mask.bits[i] = READ_ONCE(d->dirty_cpus.bits[i]);
    flush(&mask, r);
}

int pv_flush_vcpus(guest_ptr_t bitmap, const struct tlb_request *r)
{
    struct domain *d = current_domain();
    uint64_t wanted[BITMAP_WORDS(MAX_VCPUS)] = {0};
    int rc = copy_from_guest(wanted, bitmap, (d->max_vcpus + 7) / 8);
    if (rc)
        return rc;
    struct cpu_mask mask = {0};
    unsigned i;
    for_each_cpu(i, &d->dirty_cpus) {
        uint32_t user = READ_ONCE(loaded[i].user);
        unsigned vcpu = user & 0xffff;
        if (user == user_of(d, vcpu) && vcpu < d->max_vcpus && bit_test(wanted, vcpu))
            bit_set(mask.bits, i);
    }
    flush(&mask, r);
    return 0;
}
