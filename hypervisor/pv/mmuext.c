/*
 * mmuext_op (xen/xen.h): pins, base pointers, TLB and cache flushes, LDT, clearing and copying
 * pages. A batch ends at the first operation that fails; *pdone says how many were done.
 */
#include "console/console.h"
#include "hypercall/table.h"
#include "lib/string.h"
#include "pv/pagetable.h"

/* The frame as the guest may use it; a reference and, for @writable, a type use. NULL: refused. */
static struct page *take_frame(struct domain *d, uint64_t frame, bool writable)
{
    if (!mfn_is_ram(mfn(frame)))
        return NULL;
    struct page *page = mfn_to_page(mfn(frame));
    if (!page_get(page, d))
        return NULL;
    if (writable && page_get_type_fast(page, PAGE_WRITABLE)) {
        page_put(page);
        return NULL;
    }
    return page;
}

static int unpin(struct domain *d, uint64_t frame)
{
    struct page *page = take_frame(d, frame, false);
    if (!page)
        return -XEN_EINVAL;
    int rc = -XEN_EINVAL;
    if (page_type_unpin(page)) {
        page_put_and_type(page);
        rc = 0;
    }
    page_put(page);
    return rc;
}

static int clear_page(struct domain *d, uint64_t frame)
{
    struct page *page = take_frame(d, frame, true);
    if (!page)
        return -XEN_EINVAL;
    page_clear(page_to_virt(page));
    page_put_and_type(page);
    return 0;
}

static int copy_page(struct domain *d, uint64_t to, uint64_t from)
{
    struct page *source = take_frame(d, from, false);
    if (!source)
        return -XEN_EINVAL;
    struct page *target = take_frame(d, to, true);
    if (target) {
        memcpy(page_to_virt(target), page_to_virt(source), PAGE_SIZE);
        page_put_and_type(target);
    }
    page_put(source);
    return target ? 0 : -XEN_EINVAL;
}

static void write_back_caches(void *arg)
{
    __asm__ volatile("wbinvd" ::: "memory");
}

/* Only who drives devices needs this, and it is slow for everybody. */
static int flush_cache(bool everywhere)
{
    if (!current_domain()->privileged)
        return -XEN_EACCES;
    write_back_caches(NULL);
    if (everywhere) {
        struct cpu_mask others = cpus_online;
        bit_clear(others.bits, this_cpu()->id);
        ipi_call(&others, write_back_caches, NULL, true);
    }
    return 0;
}

/* What a caller that is no PV guest may do, to PV guests: it has no page tables of ours itself. */
static bool is_for_others(unsigned cmd)
{
    return cmd <= MMUEXT_PIN_L4_TABLE || cmd == MMUEXT_UNPIN_TABLE || cmd == MMUEXT_CLEAR_PAGE ||
           cmd == MMUEXT_COPY_PAGE;
}

static int run_one(const struct mmuext_op *op, struct domain *pg_owner)
{
    struct domain *d = current_domain();
    struct vcpu *v = current_vcpu();
    struct tlb_request all = {0};
    struct tlb_request one = {.page = true, .va = op->arg1.linear_addr};
    if (unlikely(pg_owner->is_hvm || (d->is_hvm && !is_for_others(op->cmd))))
        return -XEN_EOPNOTSUPP;

    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE:
    case MMUEXT_PIN_L2_TABLE:
    case MMUEXT_PIN_L3_TABLE:
    case MMUEXT_PIN_L4_TABLE:
        return pv_pin_table(pg_owner, mfn(op->arg1.mfn), PAGE_L1 + (op->cmd - MMUEXT_PIN_L1_TABLE));
    case MMUEXT_UNPIN_TABLE:
        return unpin(pg_owner, op->arg1.mfn);
    case MMUEXT_NEW_BASEPTR:
        return pv_set_l4(v, mfn(op->arg1.mfn), false);
    case MMUEXT_NEW_USER_BASEPTR:
        return pv_set_l4(v, mfn(op->arg1.mfn), true);
    case MMUEXT_TLB_FLUSH_LOCAL:
        pv_flush_local(&all);
        return 0;
    case MMUEXT_INVLPG_LOCAL:
        pv_flush_local(&one);
        return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
        return pv_flush_vcpus(guest_handle(op->arg2.vcpumask), &all);
    case MMUEXT_INVLPG_MULTI:
        return pv_flush_vcpus(guest_handle(op->arg2.vcpumask), &one);
    case MMUEXT_TLB_FLUSH_ALL:
        pv_flush_all(d, &all);
        return 0;
    case MMUEXT_INVLPG_ALL:
        pv_flush_all(d, &one);
        return 0;
    case MMUEXT_FLUSH_CACHE:
        return flush_cache(false);
    case MMUEXT_FLUSH_CACHE_GLOBAL:
        return flush_cache(true);
    case MMUEXT_SET_LDT:
        return pv_set_ldt(v, op->arg1.linear_addr, op->arg2.nr_ents);
    case MMUEXT_CLEAR_PAGE:
        return clear_page(pg_owner, op->arg1.mfn);
    case MMUEXT_COPY_PAGE:
        return copy_page(pg_owner, op->arg1.mfn, op->arg2.src_mfn);
    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER:
        return -XEN_EOPNOTSUPP; /* no superpages for PV guests */
    default:
        return -XEN_ENOSYS;
    }
}

long hc_mmuext_op(uint64_t ops, uint64_t count, uint64_t pdone, uint64_t foreign)
{
    struct domain *pg_owner;
    const struct pv_batch_args args = {ops, count, pdone, foreign, sizeof(struct mmuext_op)};
    uint32_t done = 0, most = (uint32_t)count & ~PV_BATCH_REST;
    int rc = pv_foreign_get(__HYPERVISOR_mmuext_op, foreign, &pg_owner);
    if (!rc) {
        for (; done < most; done++) {
            struct mmuext_op op;
            rc = copy_element_from_guest(&op, guest_ptr(ops), done);
            if (rc)
                break;
            rc = run_one(&op, pg_owner);
            if (rc) {
                log_guest(current_domain()->id, LOG_DEBUG, "mmuext_op %u, 0x%lx refused (%d)",
                          op.cmd, op.arg1.linear_addr, rc);
                break;
            }
            if (done % 16 == 15 && vcpu_wanted()) {
                done++;
                break;
            }
        }
        pv_foreign_put(pg_owner);
    }
    return pv_batch_end(__HYPERVISOR_mmuext_op, &args, done, rc);
}
