/*
 * What runs in the child, on each of its vCPUs: calls from a generator that is seeded by the run's
 * seed and the vCPU's number. Arguments are mostly plausible, and the vCPUs have the same pages to
 * play with. A tame child spares what it runs on and must come to the end; a wild one does not.
 */
#include "hostile.h"
#include <xen/callback.h>
#include <xen/grant_table.h>

/*
 * rdi = number of the vCPU. A fault of the one instruction that may (mov %rax, (%rdx)) goes on
 * behind it; an event is left pending and masked by its frame's IF; a selector that cannot be
 * loaded any more, which the failsafe callback is told, is done without.
 */
asm(".text\n.globl hostile_start, hostile_fault, hostile_event, hostile_failsafe\n"
    "hostile_start: call hostile_run\n ud2\n"
    "hostile_fault: pop %rcx\n pop %r11\n add $8, %rsp\n addq $3, (%rsp)\n"
    "1: push $0\n push %rcx\n push %r11\n push %rax\n mov $23, %eax\n syscall\n"
    "hostile_event: pop %rcx\n pop %r11\n andl $~0x200, 16(%rsp)\n jmp 1b\n"
    "hostile_failsafe: pop %rcx\n pop %r11\n add $32, %rsp\n jmp 1b\n");

#define nest ((struct nest *)VA(NEST_PFN))

struct hand { /* one vCPU's */
    uint64_t state;
    unsigned id, used; /* bytes of scratch */
};

static uint64_t next(struct hand *h) /* splitmix64 */
{
    uint64_t z = h->state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t pick(struct hand *h, uint64_t n)
{
    return next(h) % n;
}

/* What a tame child must leave alone: the frames it runs on. */
static bool spared(uint64_t mfn)
{
    for (unsigned i = 0; !nest->wild && i < nest->pages; i++)
        if ((i < PLAY_PFN || i >= PLAY_PFN + PLAY) && nest->mfn[i] == mfn)
            return true;
    return false;
}

static uint64_t a_mfn(struct hand *h)
{
    uint64_t mfn;

    if (nest->wild && !pick(h, 64))
        return nest->mfn[pick(h, nest->pages)];
    switch (pick(h, 32)) {
    case 0:
        mfn = pick(h, 1 << 17); /* anybody's */
        break;
    case 1:
        mfn = next(h) >> pick(h, 64);
        break;
    case 2:
        return 0xfee00;
    default:
        return nest->mfn[PLAY_PFN + pick(h, PLAY)];
    }
    return spared(mfn) ? 0 : mfn;
}

static uint64_t a_pte(struct hand *h)
{
    static const uint64_t flags[] = {0,
                                     PTE_P,
                                     PTE_RO,
                                     PTE_KERN,
                                     PTE_TABLE,
                                     PTE_KERN,
                                     PTE_RO | PTE_G,
                                     PTE_P | PTE_PS,
                                     PTE_RO,
                                     PTE_TABLE,
                                     PTE_KERN | PTE_NX,
                                     PTE_KERN | PTE_PCD};

    uint64_t pte;

    if (!pick(h, 16))
        return next(h);
    pte = MAKE_PTE(a_mfn(h), flags[pick(h, 12)]) | (pick(h, 16) ? 0 : 1UL << pick(h, 64));
    return spared((pte & PTE_ADDR) >> PAGE_SHIFT) ? pte & ~PTE_P : pte;
}

static uint64_t a_number(struct hand *h)
{
    switch (pick(h, 4)) {
    case 0:
        return pick(h, 64);
    case 1:
        return 1UL << pick(h, 64);
    case 2:
        return (1UL << pick(h, 64)) - 1;
    default:
        return a_mfn(h);
    }
}

static uint64_t *a_buffer(struct hand *h, unsigned words)
{
    uint64_t *p = (uint64_t *)(VA(SCRATCH_PFN + h->id) + h->used);

    h->used += words * 8;
    for (unsigned i = 0; i < words; i++)
        p[i] = a_number(h);
    return p;
}

static uint64_t a_place(struct hand *h)
{
    return (uint64_t)VA(PLAY_PFN + pick(h, PLAY));
}

/* Now and then the pointer itself is a bad one, or one into a page that changes meanwhile. */
static uint64_t bent(struct hand *h, const void *p)
{
    static const uint64_t odd[] = {0, BAD_UNMAPPED, BAD_HYPERVISOR, BAD_NONCANONICAL, ~0UL, 8};

    if (pick(h, 16))
        return (uint64_t)p;
    return pick(h, 2) ? odd[pick(h, 6)] : a_place(h) + pick(h, 512) * 8;
}

#define ENTRY(nr, ...)                                                                             \
    (struct multicall_entry)                                                                       \
    {                                                                                              \
        .op = __HYPERVISOR_##nr, .args = { __VA_ARGS__ }                                           \
    }

static struct multicall_entry extended(struct hand *h)
{
    static const unsigned cmds[] = {
        MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE,    MMUEXT_PIN_L3_TABLE,  MMUEXT_PIN_L4_TABLE,
        MMUEXT_UNPIN_TABLE,  MMUEXT_UNPIN_TABLE,     MMUEXT_UNPIN_TABLE,   MMUEXT_NEW_USER_BASEPTR,
        MMUEXT_CLEAR_PAGE,   MMUEXT_COPY_PAGE,       MMUEXT_TLB_FLUSH_ALL, MMUEXT_INVLPG_ALL,
        MMUEXT_SET_LDT,      MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_MARK_SUPER,    MMUEXT_NEW_BASEPTR};
    struct mmuext_op *op = (void *)a_buffer(h, 9);
    unsigned n = 1 + (unsigned)pick(h, 3);

    for (unsigned i = 0; i < n; i++) {
        op[i] = (struct mmuext_op){.cmd = cmds[pick(h, nest->wild ? 16 : 15)],
                                   .arg1.mfn = a_mfn(h),
                                   .arg2.src_mfn = a_mfn(h)};
        if (op[i].cmd == MMUEXT_SET_LDT) {
            op[i].arg1.linear_addr = a_place(h);
            op[i].arg2.nr_ents = (unsigned)pick(h, 600);
        }
    }
    return ENTRY(mmuext_op, bent(h, op), n, 0, pick(h, 16) ? DOMID_SELF : pick(h, 4));
}

static struct multicall_entry tables(struct hand *h)
{
    if (pick(h, 3) == 0)
        return extended(h);
    if (pick(h, 2))
        return ENTRY(update_va_mapping, a_place(h), a_pte(h), pick(h, 8));
    uint64_t *u = a_buffer(h, 8);
    for (unsigned i = 0; i < 4; i++) {
        u[2 * i] = a_mfn(h) << PAGE_SHIFT | pick(h, 512) * 8 | pick(h, 4);
        u[2 * i + 1] = a_pte(h);
    }
    return ENTRY(mmu_update, bent(h, u), pick(h, 5), 0, pick(h, 16) ? DOMID_SELF : pick(h, 4));
}

static struct multicall_entry events(struct hand *h)
{
    static const unsigned cmds[] = {
        EVTCHNOP_bind_interdomain, EVTCHNOP_bind_virq,     EVTCHNOP_close,    EVTCHNOP_send,
        EVTCHNOP_status,           EVTCHNOP_alloc_unbound, EVTCHNOP_bind_ipi, EVTCHNOP_bind_vcpu,
        EVTCHNOP_unmask,           EVTCHNOP_set_priority,  EVTCHNOP_send,     EVTCHNOP_close};
    uint32_t *w = (void *)a_buffer(h, 4);
    unsigned cmd = cmds[pick(h, 12)];

    for (int i = 0; i < 6; i++)
        w[i] = pick(h, 8) ? (uint32_t)pick(h, 40) : (uint32_t)a_number(h);
    *(domid_t *)w = pick(h, 3) ? DOMID_SELF : 0;
    if (cmd == EVTCHNOP_alloc_unbound)
        ((domid_t *)w)[1] = pick(h, 2) ? DOMID_SELF : 0;
    if (cmd == EVTCHNOP_bind_interdomain && pick(h, 2)) {
        *(domid_t *)w = 0;
        w[1] = nest->port;
    } else if (cmd == EVTCHNOP_send || cmd == EVTCHNOP_close || cmd == EVTCHNOP_bind_vcpu) {
        w[0] = (uint32_t)pick(h, 40);
        w[1] = (uint32_t)pick(h, VCPUS + 1);
    }
    return ENTRY(event_channel_op, cmd, bent(h, w));
}

static struct multicall_entry grants(struct hand *h)
{
    volatile struct grant_entry_v1 *table = (void *)VA(GRANT_PFN);
    unsigned ref = 8 + (unsigned)pick(h, 16);
    uint16_t lender = pick(h, 2) ? 0 : (uint16_t)nest->id;

    if (pick(h, 2)) { /* granted anew, or revoked, mapped or not */
        table[ref].frame = (uint32_t)a_mfn(h);
        table[ref].domid = pick(h, 8) ? (domid_t)nest->id : (domid_t)pick(h, 0x8000);
        table[ref].flags =
            (uint16_t)(pick(h, 4) ? GTF_permit_access | pick(h, 2) << 2 : pick(h, 2) * next(h));
    }
    if (pick(h, 2)) {
        struct gnttab_map_grant_ref *m = (void *)a_buffer(h, 4);

        *m = (struct gnttab_map_grant_ref){
            .host_addr = a_place(h), .flags = (uint32_t)pick(h, 32), .ref = ref, .dom = lender};
        if (m->flags & GNTMAP_contains_pte)
            m->host_addr = a_mfn(h) << PAGE_SHIFT | pick(h, 512) * 8;
        return ENTRY(grant_table_op, GNTTABOP_map_grant_ref, bent(h, m), 1);
    }
    if (pick(h, 2)) {
        uint64_t *u = a_buffer(h, 4); /* host address, other address, handle */

        u[0] = a_place(h);
        u[1] = pick(h, 2) ? 0 : a_place(h);
        u[2] = pick(h, 32);
        return ENTRY(grant_table_op,
                     pick(h, 4) ? GNTTABOP_unmap_grant_ref : GNTTABOP_unmap_and_replace, bent(h, u),
                     1);
    }
    struct gnttab_copy *c = (void *)a_buffer(h, 8);

    memset(c, 0, sizeof(*c));
    c->flags = (uint16_t)pick(h, 4);
    c->len = (uint16_t)pick(h, 4200);
    c->source.u.gmfn = c->flags & 1 ? ref : a_mfn(h);
    c->dest.u.gmfn = c->flags & 2 ? ref : a_mfn(h);
    c->source.domid = c->flags & 1 ? lender : DOMID_SELF;
    c->dest.domid = c->flags & 2 ? lender : DOMID_SELF;
    c->source.offset = (uint16_t)(pick(h, 2) * pick(h, 4200));
    c->dest.offset = (uint16_t)(pick(h, 2) * pick(h, 4200));
    return ENTRY(grant_table_op, GNTTABOP_copy, bent(h, c), 1);
}

static struct multicall_entry others(struct hand *h)
{
    static const unsigned vcpu_ops[] = {VCPUOP_initialise,
                                        VCPUOP_up,
                                        VCPUOP_is_up,
                                        VCPUOP_get_runstate_info,
                                        VCPUOP_register_runstate_memory_area,
                                        VCPUOP_stop_periodic_timer,
                                        VCPUOP_set_singleshot_timer,
                                        VCPUOP_stop_singleshot_timer,
                                        VCPUOP_register_vcpu_info,
                                        VCPUOP_register_vcpu_time_memory_area};
    static const char flood[] = "flood of the log\n";
    uint64_t *b = a_buffer(h, 16);

    switch (pick(h, 10)) {
    case 0:
        return ENTRY(update_descriptor, a_mfn(h) << PAGE_SHIFT | pick(h, 512) * 8, next(h));
    case 1:
        return ENTRY(set_gdt, bent(h, b), pick(h, 1200));
    case 2:
        return ENTRY(set_segment_base, pick(h, 5), a_number(h));
    case 3:
        return ENTRY(vm_assist, pick(h, 3), a_number(h));
    case 4:
        return ENTRY(set_timer_op, pick(h, 2) ? pick(h, 1UL << 40) : a_number(h));
    case 5:
        return ENTRY(xen_version, pick(h, 12), bent(h, b));
    case 6:
        return ENTRY(memory_op, pick(h, 30), bent(h, b));
    case 7:
        return ENTRY(set_debugreg, pick(h, 7), a_number(h));
    case 8:
        return ENTRY(vcpu_op, vcpu_ops[pick(h, 10)], pick(h, VCPUS + 1), bent(h, b));
    default:
        return pick(h, 4) ? ENTRY(sched_op, SCHEDOP_yield)
                          : ENTRY(console_io, CONSOLEIO_write, sizeof(flood) - 1, (uint64_t)flood);
    }
}

/* Any call at all. */
static struct multicall_entry anything(struct hand *h)
{
    struct multicall_entry m = {.op = pick(h, 50)};
    uint64_t *b = a_buffer(h, 8);

    for (int i = 0; i < 6; i++)
        m.args[i] = pick(h, 3) ? a_number(h) : bent(h, b);
    return m;
}

static struct multicall_entry a_call(struct hand *h)
{
    if (nest->wild && !pick(h, 100))
        return anything(h);
    switch (pick(h, 8)) {
    case 0:
        return events(h);
    case 1:
    case 2:
        return grants(h);
    case 3:
        return others(h);
    default:
        return tables(h);
    }
}

/* A frame exchanged, or given back and another taken, while the others use it. */
static void turnover(struct hand *h)
{
    unsigned pfn = PLAY_PFN + (unsigned)pick(h, PLAY);
    xen_pfn_t in = nest->mfn[pfn], out = pfn;
    struct xen_memory_exchange e = {
        .in = {.nr_extents = 1, .domid = DOMID_SELF, .extent_start = {&in}},
        .out = {.nr_extents = 1, .domid = DOMID_SELF, .extent_start = {&out}},
    };
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF, .extent_start = {&in}};

    HC(update_va_mapping, VA(pfn), 0, pick(h, 2) ? UVMF_INVLPG | UVMF_ALL : 0);
    if (pick(h, 2)) {
        if (HC(memory_op, XENMEM_exchange, &e) == 0)
            nest->mfn[pfn] = out;
    } else if (HC(memory_op, XENMEM_decrease_reservation, &r) == 1) {
        r.extent_start.p = &out;
        if (HC(memory_op, XENMEM_populate_physmap, &r) == 1)
            nest->mfn[pfn] = out;
    }
    HC(update_va_mapping, VA(pfn), MAKE_PTE(nest->mfn[pfn], PTE_KERN), 0);
}

static void step(struct hand *h)
{
    struct multicall_entry m[6];
    unsigned n = 1 + (unsigned)pick(h, 6);

    h->used = 0;
    switch (pick(h, 8)) {
    case 0:
        turnover(h);
        return;
    case 1: /* to whatever is mapped there: data, a page table, nothing */
        asm volatile("mov %%rax, (%%rdx)"
                     :
                     : "a"(a_pte(h)), "d"(a_place(h) + pick(h, 512) * 8)
                     : "memory");
        return;
    case 2:
        for (unsigned i = 0; i < n; i++)
            m[i] = a_call(h);
        HC(multicall, m, n);
        return;
    default:
        m[0] = a_call(h);
        hypercall_raw((unsigned)m[0].op, m[0].args[0], m[0].args[1], m[0].args[2], m[0].args[3],
                      m[0].args[4], m[0].args[5]);
    }
}

static void set_up(void)
{
    xen_pfn_t frame = 0;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1, .frame_list = {&frame}};
    struct callback_register cb = {.type = CALLBACKTYPE_event, .address = (uint64_t)hostile_event};
    struct callback_register failsafe = {.type = CALLBACKTYPE_failsafe,
                                         .address = (uint64_t)hostile_failsafe};
    struct trap_info traps[] = {
        {.vector = T_PF, .cs = FLAT_KERNEL_CS, .address = (uint64_t)hostile_fault},
        {.vector = T_GP, .cs = FLAT_KERNEL_CS, .address = (uint64_t)hostile_fault},
        {0}};

    HC(set_trap_table, traps);
    HC(callback_op, CALLBACKOP_register, &cb);
    HC(callback_op, CALLBACKOP_register, &failsafe);
    HC(grant_table_op, GNTTABOP_setup_table, &s, 1);
    HC(update_va_mapping, VA(GRANT_PFN), MAKE_PTE(frame, PTE_KERN), UVMF_INVLPG | UVMF_ALL);
}

_Noreturn void hostile_run(unsigned id);
_Noreturn void hostile_run(unsigned id)
{
    struct hand h = {.state = nest->seed * VCPUS + id, .id = id};

    set_up();
    for (uint64_t i = 0; i < nest->calls; i++) {
        step(&h);
        nest->done[id] = i + 1;
    }
    for (;;)
        HC(vcpu_op, VCPUOP_down, id, 0);
}
