/*
 * Domains that run: each is 16 pages built here, running one of the snippets below, which leave
 * what they saw in a page that we map too. First what an ordinary domain may and may not do, then
 * ways to die: each must end that domain alone, as a crash, and give all its pages back.
 */
#include "control.h"
#include <xen/grant_table.h>
#include <xen/platform.h>

/*
 * Pages of a child, by pfn: 0 hypercall page, 1 code, 2 stack, 3 the page we share, 4-7 its page
 * tables from level 4 down, 8-15 plain. All are mapped from CHILD_BASE, tables read-only.
 */
#define CHILD_PAGES 16
#define CHILD_BASE  0xffffffff80000000UL
#define CODE_PFN    1
#define STACK_PFN   2
#define SHARE_PFN   3
#define L4_PFN      4

struct child {
    uint16_t id;
    xen_pfn_t mfn[CHILD_PAGES];
    volatile uint64_t *share; /* our mapping of page 3 */
    uint64_t free_before;
};

/* The snippets: rbx = share page, rbp = hypercall page; up to 4 KiB of position-independent code.
 */
#define CALL(nr) "lea " #nr "*32(%rbp), %rax\n call *%rax\n"
#define SHUTDOWN(reason)                                                                           \
    "movl $" #reason ", 4000(%rbx)\n mov $2, %edi\n lea 4000(%rbx), %rsi\n" CALL(29) "ud2\n"
#define SNIPPET(name, text)                                                                        \
    extern char child_##name[], child_##name##_end[];                                              \
    asm(".text\n.globl child_" #name "\nchild_" #name ":\n" text "\nchild_" #name "_end:\n")

SNIPPET(hello, "movq $0x1234, (%rbx)\n" SHUTDOWN(0));
SNIPPET(reboot, SHUTDOWN(1));
SNIPPET(spin, "1: incq (%rbx)\n jmp 1b\n");
SNIPPET(sleep, "movq $1, (%rbx)\n 1: mov $1, %edi\n xor %esi, %esi\n" CALL(29) "jmp 1b\n");
/* Sixteen hypercalls as the share page lists them: number*32, six arguments, result. */
SNIPPET(script, "lea 64(%rbx), %r12\n mov $40, %r13d\n"
                "1: mov (%r12), %rax\n test %rax, %rax\n js 2f\n add %rbp, %rax\n"
                "mov 8(%r12), %rdi\n mov 16(%r12), %rsi\n mov 24(%r12), %rdx\n"
                "mov 32(%r12), %r10\n mov 40(%r12), %r8\n mov 48(%r12), %r9\n"
                "call *%rax\n mov %rax, 56(%r12)\n add $64, %r12\n dec %r13d\n jnz 1b\n"
                "2: movq $1, (%rbx)\n 3: mov $1, %edi\n xor %esi, %esi\n" CALL(29) "jmp 3b\n");
/* Ways to die. */
SNIPPET(ud2, "ud2\n");
SNIPPET(fault, "movq $0, 0\n");
SNIPPET(badstack, "mov $0x123456789000, %rsp\n ud2\n");
SNIPPET(xenstack, "mov $0xffff830000001000, %rsp\n ud2\n");
SNIPPET(oddstack, "mov $0x8000000000000000, %rsp\n ud2\n");
SNIPPET(wrapstack, "mov $8, %rsp\n ud2\n");
SNIPPET(iret_nostack, "mov $0x123456789000, %rsp\n mov $23, %eax\n syscall\n");
SNIPPET(iret_xenstack, "mov $0xffff830000001000, %rsp\n mov $23, %eax\n syscall\n");
SNIPPET(iret_nouser, "push $0xe02b\n push $0\n push $0x202\n push $0xe033\n push $0\n"
                     "push $0\n push $0\n push $0\n push $0\n mov $23, %eax\n syscall\n");
SNIPPET(triple, "cli\n hlt\n ud2\n");
SNIPPET(ownpt, "mov $0x123456, %eax\n mov %rax, %cr3\n ud2\n");
SNIPPET(crash, SHUTDOWN(3));

static void *map_foreign(struct child *c, unsigned pfn)
{
    void *at = page_alloc();

    CHECK_EQ(
        HC(update_va_mapping_otherdomain, at, MAKE_PTE(c->mfn[pfn], PTE_KERN), UVMF_INVLPG, c->id),
        0);
    return at;
}

static void unmap_foreign(void *at)
{
    CHECK_EQ(map_rw(at), 0);
    page_free(at);
}

static bool build(struct child *c, const char *code, const char *end)
{
    static struct vcpu_guest_context ctx;
    struct xen_domctl_getdomaininfo info;
    uint8_t *page;
    uint64_t *table;

    memset(c, 0, sizeof(*c));
    c->free_before = free_pages();
    if (create_with(plain_config(), 0, &c->id)) {
        CHECK(!"a child was created");
        return false;
    }
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 4 * (CHILD_PAGES + 16);
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, c->id), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_vcpus.max = 2; /* as at creation */
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, c->id), 0);
    for (unsigned i = 0; i < CHILD_PAGES; i++)
        c->mfn[i] = i;
    CHECK_EQ(populate(c->id, c->mfn, CHILD_PAGES, 0), CHILD_PAGES);

    page = map_foreign(c, CODE_PFN);
    memcpy(page, code, (size_t)(end - code));
    unmap_foreign(page);
    c->share = map_foreign(c, SHARE_PFN);
    memset((void *)c->share, 0, PAGE_SIZE);
    for (unsigned level = 4; level >= 1; level--) {
        table = map_foreign(c, L4_PFN + 4 - level);
        if (level > 1)
            table[(CHILD_BASE >> (12 + 9 * (level - 1))) & 511] =
                MAKE_PTE(c->mfn[L4_PFN + 5 - level], PTE_TABLE);
        else
            for (unsigned i = 0; i < CHILD_PAGES; i++)
                table[i] = MAKE_PTE(c->mfn[i], i >= L4_PFN && i < L4_PFN + 4 ? PTE_RO : PTE_KERN);
        unmap_foreign(table);
    }
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = c->mfn[L4_PFN]};

    CHECK_EQ(HC(mmuext_op, &pin, 1, 0, c->id), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.hypercall_init.gmfn = c->mfn[0];
    CHECK_EQ(domctl(XEN_DOMCTL_hypercall_init, c->id), 0);
    CHECK(domain_info(c->id, &info));

    memset(&ctx, 0, sizeof(ctx));
    ctx.flags = VGCF_IN_KERNEL | VGCF_online;
    ctx.user_regs.rip = CHILD_BASE + CODE_PFN * PAGE_SIZE;
    ctx.user_regs.rsp = CHILD_BASE + (STACK_PFN + 1) * PAGE_SIZE;
    ctx.user_regs.rbx = CHILD_BASE + SHARE_PFN * PAGE_SIZE;
    ctx.user_regs.rbp = CHILD_BASE;
    ctx.user_regs.cs = FLAT_KERNEL_CS;
    ctx.user_regs.ss = FLAT_KERNEL_SS;
    ctx.user_regs.rflags = 0x200;
    ctx.kernel_ss = FLAT_KERNEL_SS;
    ctx.kernel_sp = ctx.user_regs.rsp;
    ctx.ctrlreg[3] = xen_pfn_to_cr3(c->mfn[L4_PFN]);
    memset(&dc, 0, sizeof(dc));
    dc.u.vcpucontext.ctxt.p = &ctx;
    CHECK_EQ(domctl(XEN_DOMCTL_setvcpucontext, c->id), 0);
    return true;
}

#define BUILD(c, name) build(c, child_##name, child_##name##_end)

static void start(struct child *c)
{
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, c->id), 0);
}

int wait_shutdown(uint16_t d)
{
    struct xen_domctl_getdomaininfo info;

    for (int i = 0; i < 1500; i++) {
        if (!domain_info(d, &info))
            return -2;
        if (info.flags & XEN_DOMINF_shutdown)
            return (int)(info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask);
        nap(2000000);
    }
    return -1;
}

bool wait_change(const volatile uint32_t *word, uint32_t from)
{
    for (int i = 0; i < 300 && *word == from; i++)
        nap(10000000);
    return *word != from;
}

static bool wait_share(struct child *c)
{
    return wait_change((const volatile uint32_t *)c->share, 0);
}

static void bury(struct child *c)
{
    unmap_foreign((void *)c->share);
    CHECK_EQ(destroy(c->id), 0);
    check_free(c->free_before, __FILE__, __LINE__);
}

static void lives(void)
{
    struct xen_domctl_getdomaininfo info;
    static struct vcpu_guest_context ctx;
    struct child c;
    uint64_t seen;

    section("children that live");
    if (!BUILD(&c, hello))
        return;
    start(&c);
    CHECK_EQ(wait_shutdown(c.id), SHUTDOWN_poweroff);
    CHECK_EQ(c.share[0], 0x1234);
    bury(&c);
    BUILD(&c, reboot);
    start(&c);
    CHECK_EQ(wait_shutdown(c.id), SHUTDOWN_reboot);
    bury(&c);

    /* One that spins: preempted, paused, looked at, killed while it runs. */
    BUILD(&c, spin);
    start(&c);
    CHECK(wait_share(&c));
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, c.id), 0);
    seen = c.share[0];
    nap(50000000);
    CHECK_EQ(c.share[0], seen);
    memset(&dc, 0, sizeof(dc));
    dc.u.vcpucontext.ctxt.p = &ctx;
    CHECK_EQ(domctl(XEN_DOMCTL_getvcpucontext, c.id), 0);
    CHECK_EQ(ctx.user_regs.rip & ~0xfffUL, CHILD_BASE + CODE_PFN * PAGE_SIZE);
    CHECK_EQ(ctx.user_regs.rbx, CHILD_BASE + SHARE_PFN * PAGE_SIZE);
    CHECK_EQ(ctx.ctrlreg[3], xen_pfn_to_cr3(c.mfn[L4_PFN]));
    CHECK(domain_info(c.id, &info));
    CHECK_EQ(info.nr_online_vcpus, 1);
    CHECK(info.cpu_time > 0);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, c.id), 0);
    nap(50000000);
    CHECK(c.share[0] > seen);
    bury(&c);

    BUILD(&c, sleep);
    start(&c);
    CHECK(wait_share(&c));
    nap(30000000);
    CHECK(domain_info(c.id, &info));
    CHECK_EQ(info.flags & XEN_DOMINF_blocked, XEN_DOMINF_blocked);
    bury(&c);
}

/* --- an unprivileged domain's calls --- */
static void call(struct child *c, unsigned i, long nr, uint64_t a, uint64_t b, uint64_t d,
                 uint64_t e)
{
    volatile uint64_t *at = c->share + 8 + i * 8;

    at[0] = nr < 0 ? ~0UL : (uint64_t)nr * 32;
    at[1] = a;
    at[2] = b;
    at[3] = d;
    at[4] = e;
    at[7] = 0x7777;
}

static long result(struct child *c, unsigned i)
{
    return (long)c->share[8 + i * 8 + 7];
}

static void may_not(void)
{
    struct child c;
    uint64_t arg, mine = page_alloc() ? mfn_of(user_stack) : 0;
    struct evtchn_alloc_unbound au = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};

    section("what an ordinary domain may not do");
    if (!BUILD(&c, script))
        return;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_alloc_unbound, &au), 0); /* ours, for ourselves */
    /* Arguments lie in the upper half of the share page. */
    arg = CHILD_BASE + SHARE_PFN * PAGE_SIZE + 2800;
    volatile struct xen_domctl *d = (void *)((uint8_t *)c.share + 2800);

    d->cmd = XEN_DOMCTL_getdomaininfo;
    d->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    d->domain = 0;
    call(&c, 0, __HYPERVISOR_domctl, arg, 0, 0, 0);
    call(&c, 1, __HYPERVISOR_update_va_mapping, CHILD_BASE + 8 * PAGE_SIZE,
         MAKE_PTE(mine, PTE_KERN), 0, 0);
    call(&c, 2, __HYPERVISOR_update_va_mapping, CHILD_BASE + 8 * PAGE_SIZE, MAKE_PTE(0x200, PTE_RO),
         0, 0);
    call(&c, 3, __HYPERVISOR_update_va_mapping, CHILD_BASE + 8 * PAGE_SIZE,
         MAKE_PTE(0xb8, PTE_KERN), 0, 0); /* video memory is not its own */
    call(&c, 4, __HYPERVISOR_update_va_mapping_otherdomain, CHILD_BASE + 8 * PAGE_SIZE,
         MAKE_PTE(mine, PTE_KERN), 0, 0);
    call(&c, 5, __HYPERVISOR_console_io, CONSOLEIO_read, 4, arg, 0);
    call(&c, 6, __HYPERVISOR_platform_op, arg, 0, 0, 0);
    call(&c, 7, __HYPERVISOR_sysctl, arg, 0, 0, 0);
    call(&c, 8, __HYPERVISOR_memory_op, XENMEM_machine_memory_map, arg, 0, 0);
    call(&c, 9, __HYPERVISOR_mmuext_op, arg + 256, 1, 0, 0); /* foreigndom 0: pin in domain 0 */
    struct mmuext_op *m = (void *)((uint8_t *)c.share + 2800 + 256);

    m->cmd = MMUEXT_PIN_L1_TABLE;
    m->arg1.mfn = mine;
    call(&c, 10, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_interdomain, arg + 320, 0, 0);
    struct evtchn_bind_interdomain *bi = (void *)((uint8_t *)c.share + 2800 + 320);

    bi->remote_dom = 0;
    bi->remote_port = au.port;
    call(&c, 11, __HYPERVISOR_mmu_update, arg + 384, 1, 0, DOMID_SELF);
    struct mmu_update *mu = (void *)((uint8_t *)c.share + 2800 + 384);

    mu->ptr = cr3_mfn() << PAGE_SHIFT; /* our page table */
    mu->val = 0;
    call(&c, 12, __HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, arg + 448, 0, 0);
    struct sched_remote_shutdown *rs = (void *)((uint8_t *)c.share + 2800 + 448);

    rs->domain_id = 0;
    rs->reason = SHUTDOWN_crash;
    call(&c, 13, __HYPERVISOR_physdev_op, 6 /* set_iopl */, arg + 512, 0, 0);
    call(&c, 14, __HYPERVISOR_mmuext_op, arg + 576, 1, 0, DOMID_SELF); /* NEW_BASEPTR: ours */
    struct mmuext_op *nb = (void *)((uint8_t *)c.share + 2800 + 576);

    nb->cmd = MMUEXT_NEW_BASEPTR;
    nb->arg1.mfn = cr3_mfn();
    call(&c, 15, __HYPERVISOR_xen_version, XENVER_commandline, arg + 600, 0, 0);
    call(&c, 16, __HYPERVISOR_memory_op, XENMEM_current_reservation, arg + 640, 0, 0);
    *(domid_t *)((uint8_t *)c.share + 2800 + 640) = 0;
    call(&c, 17, __HYPERVISOR_xen_version, XENVER_version, 0, 0, 0);
    call(&c, 18, __HYPERVISOR_memory_op, XENMEM_populate_physmap, arg + 656, 0, 0);
    struct xen_memory_reservation *pod = (void *)((uint8_t *)c.share + 2800 + 656);

    pod->domid = DOMID_SELF;
    pod->mem_flags = XENMEMF_populate_on_demand;
    call(&c, 19, -1, 0, 0, 0, 0);
    start(&c);
    CHECK(wait_share(&c));
    for (unsigned i = 0; i < 17; i++) {
        if (i == 13 || i == 15) /* its own iopl; a command line that is hidden, not refused */
            continue;
        if (result(&c, i) >= 0)
            print("  call %u: %ld\n", i, result(&c, i));
        CHECK_REFUSED(result(&c, i));
    }
    CHECK_EQ(result(&c, 0), -XEN_EPERM);
    CHECK_EQ(result(&c, 7), -XEN_EPERM);
    CHECK_EQ(result(&c, 8), -XEN_EPERM);
    CHECK_EQ(result(&c, 17), 4 << 16 | 17);
    CHECK_EQ(result(&c, 18), -XEN_EPERM);
    bury(&c);
}

/* Grants and events between it and us, and its death while we hold them. */
static void between(bool first)
{
    struct child c;
    static xen_pfn_t frame[1];
    struct gnttab_setup_table st = {.nr_frames = 1};
    struct evtchn_alloc_unbound au = {.remote_dom = 0};
    struct evtchn_bind_interdomain bi;
    uint64_t *at = page_alloc(), v;
    volatile struct grant_entry_v1 *table;
    struct xen_domctl_getdomaininfo info;

    if (!BUILD(&c, sleep))
        return;
    st.dom = c.id;
    st.frame_list.p = frame;
    CHECK_EQ(HC(grant_table_op, GNTTABOP_setup_table, &st, 1), 0);
    CHECK_EQ(st.status, GNTST_okay);
    void *saved = page_alloc();

    CHECK_EQ(
        HC(update_va_mapping_otherdomain, saved, MAKE_PTE(frame[0], PTE_KERN), UVMF_INVLPG, c.id),
        0);
    table = saved;
    table[8].frame = (uint32_t)c.mfn[9];
    table[8].domid = 0;
    table[8].flags = GTF_permit_access;
    CHECK_EQ(map_rw(saved), 0);
    page_free(saved);
    CHECK_EQ(va_map(at, 0), 0);
    struct gnttab_map_grant_ref m = {
        .host_addr = (uint64_t)at, .flags = GNTMAP_host_map, .ref = 8, .dom = c.id};

    CHECK_EQ(HC(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(try_write(at, 0xabcd));
    au.dom = c.id;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_alloc_unbound, &au), 0);
    bi = (struct evtchn_bind_interdomain){.remote_dom = c.id, .remote_port = au.port};
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_interdomain, &bi), 0);
    start(&c);
    CHECK(wait_share(&c));
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &(struct evtchn_send){bi.local_port}), 0);
    unmap_foreign((void *)c.share);
    CHECK_EQ(destroy(c.id), 0);
    nap(200000000);
    CHECK(domain_info(c.id, &info)); /* a zombie: we hold a page of its */
    CHECK(try_read(at, &v));
    CHECK_EQ(v, 0xabcd);
    struct evtchn_status es = {.dom = DOMID_SELF, .port = bi.local_port};

    CHECK_EQ(HC(event_channel_op, EVTCHNOP_status, &es), 0);
    CHECK_EQ(es.status, EVTCHNSTAT_unbound);
    struct gnttab_unmap_grant_ref u = {.host_addr = (uint64_t)at, .handle = m.handle};

    CHECK_EQ(HC(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK_EQ(u.status, GNTST_okay);
    CHECK(!try_read(at, &v));
    if (first) /* our own tables of mappings and ports may have grown */
        nap(500000000);
    else
        check_free(c.free_before, __FILE__, __LINE__);
    CHECK(!domain_info(c.id, &info));
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){bi.local_port}), 0);
    CHECK_EQ(map_rw(at), 0);
    page_free(at);
}

static void deaths(void)
{
    static const struct {
        const char *name, *code, *end;
    } ways[] = {
#define WAY(n) {#n, child_##n, child_##n##_end}
        WAY(ud2),         WAY(fault),     WAY(badstack),     WAY(xenstack),
        WAY(oddstack),    WAY(wrapstack), WAY(iret_nostack), WAY(iret_xenstack),
        WAY(iret_nouser), WAY(triple),    WAY(ownpt),        WAY(crash),
    };
    struct child c;

    section("ways to die");
    for (unsigned i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        print("  %s\n", ways[i].name);
        if (!build(&c, ways[i].code, ways[i].end))
            return;
        start(&c);
        CHECK_EQ(wait_shutdown(c.id), SHUTDOWN_crash);
        bury(&c);
    }
}

/*
 * A call that would take hours: its list is one page, mapped over and over by tables that name each
 * other. Who pauses or destroys the domain does not wait for its end.
 */
#define LONG_VA    0xffffff8000000000UL /* the first entry of the child's level 3 table */
#define LONG_COUNT 0xffffffffUL

static void alias(struct child *c)
{
    struct mmu_update u = {.ptr = c->mfn[L4_PFN + 3] << PAGE_SHIFT};
    uint32_t foreign = (c->id + 1u) << 16 | c->id;
    uint64_t *p = map_foreign(c, 10);

    for (unsigned i = 0; i < 512; i++) /* any three words: a flush of the local TLB */
        p[i] = MMUEXT_TLB_FLUSH_LOCAL;
    unmap_foreign(p);
    for (unsigned pfn = 9; pfn >= 8; pfn--) {
        p = map_foreign(c, pfn);
        for (unsigned i = 0; i < 512; i++)
            p[i] = MAKE_PTE(c->mfn[pfn + 1], pfn == 9 ? PTE_KERN : PTE_TABLE);
        unmap_foreign(p);
        u.ptr = c->mfn[L4_PFN + 3] << PAGE_SHIFT | pfn * 8;
        u.val = MAKE_PTE(c->mfn[pfn], PTE_RO);
        CHECK_EQ(HC(mmu_update, &u, 1, 0, foreign), 0);
    }
    for (unsigned i = 0; i < 256; i++) {
        u.ptr = c->mfn[L4_PFN + 1] << PAGE_SHIFT | i * 8;
        u.val = MAKE_PTE(c->mfn[8], PTE_TABLE);
        if (HC(mmu_update, &u, 1, 0, foreign))
            CHECK(!"the list was mapped once more");
    }
}

static void long_calls(void)
{
    static struct vcpu_guest_context ctx;
    struct child c;

    section("calls that would take hours");
    for (unsigned i = 0; i < 3; i++) {
        if (!BUILD(&c, script))
            return;
        alias(&c);
        if (i == 0)
            call(&c, 0, __HYPERVISOR_mmuext_op, LONG_VA, LONG_COUNT, 0, DOMID_SELF);
        else if (i == 1)
            call(&c, 0, __HYPERVISOR_console_io, CONSOLEIO_write, 0x7fffffff, LONG_VA, 0);
        else
            call(&c, 0, __HYPERVISOR_multicall, LONG_VA, LONG_COUNT, 0, 0);
        call(&c, 1, -1, 0, 0, 0, 0);
        start(&c);
        nap(50000000);
        CHECK_EQ(c.share[0], 0); /* in the middle of it */
        print("  %u: paused\n", i);
        CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, c.id), 0);
        memset(&dc, 0, sizeof(dc));
        dc.u.vcpucontext.ctxt.p = &ctx;
        CHECK_EQ(domctl(XEN_DOMCTL_getvcpucontext, c.id), 0);
        CHECK_EQ(ctx.user_regs.rip & ~0xfffUL, CHILD_BASE); /* in the hypercall page */
        CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, c.id), 0);
        nap(50000000);
        CHECK_EQ(c.share[0], 0); /* goes on */
        print("  %u: destroyed\n", i);
        bury(&c);
    }
}

void children(void)
{
    lives();
    long_calls();
    may_not();
    section("its grants and ports, and its death while we hold them");
    between(true);
    between(false);
    deaths();
}
