/*
 * Does any hypercall number with any nonsense do harm? Every number from 0 to 63 and every
 * sub-operation that could exist, with pointers to nowhere, to the hypervisor, across holes, with
 * absurd counts. Most answers are errnos, some calls may succeed at nothing; what counts is that
 * the hypervisor and we live, and that our memory is as it was.
 *
 * Left out are calls that end us rightly: iret, shutdown, crash.
 * The log of refusals would be long:
 * ARGS: guest_loglvl=none
 */
#include "guest.h"
#include "calls.h"
#include <xen/callback.h>

const char test_name[] = "badcalls";

static uint8_t *edge;   /* last 8 bytes before a page that is not mapped */
static uint8_t *zeroes; /* a mapped page of zeroes */
static uint8_t *ones;   /* and one of all bits */
static uint8_t *readonly;
static unsigned calls;

static bool alive(void)
{
    return HC(xen_version, XENVER_version, 0) == (4 << 16 | 17);
}

/* Results that a refusal or an empty success may have: not a pointer, not a secret. */
static void judge(long ret, unsigned nr, uint64_t a, uint64_t b, uint64_t c)
{
    calls++;
    if (!alive()) {
        print("FAIL after hypercall %u(0x%lx, 0x%lx, 0x%lx): xen_version fails\n", nr, a, b, c);
        checks_failed++;
    }
    if (ret < -4095 || ret > 0xffffffffL) {
        /* An address or worse; get_debugreg returns registers and may, and memory_op an extent
         * number that its caller gave in the upper bits of the command. */
        if (nr == __HYPERVISOR_get_debugreg || (nr == __HYPERVISOR_memory_op && a >= 64))
            return;
        print("FAIL hypercall %u(0x%lx, 0x%lx, 0x%lx) returned 0x%lx\n", nr, a, b, c, ret);
        checks_failed++;
    }
}

static bool harmless(unsigned nr, uint64_t a)
{
    switch (nr) {
    case __HYPERVISOR_iret:
        return false;
    case __HYPERVISOR_sched_op:
    case __HYPERVISOR_sched_op_compat:
        /* block sleeps for ever, shutdown ends us, a zero watchdog too. */
        return (uint32_t)a != SCHEDOP_block && (uint32_t)a != SCHEDOP_shutdown &&
               (uint32_t)a != SCHEDOP_watchdog && (uint32_t)a != SCHEDOP_poll &&
               (uint32_t)a != SCHEDOP_shutdown_code && (uint32_t)a != SCHEDOP_remote_shutdown;
    case __HYPERVISOR_set_callbacks: /* would take our callbacks away; callback_op is tested */
    case __HYPERVISOR_stack_switch:
    case __HYPERVISOR_set_trap_table: /* NULL clears it */
        return false;
    case __HYPERVISOR_kexec_op:
        return false;
    case __HYPERVISOR_set_gdt:
    case __HYPERVISOR_console_io: /* would write nonsense to the log that this run reads */
    case __HYPERVISOR_vcpu_op:    /* down of ourselves */
        return false;
    case __HYPERVISOR_event_channel_op: /* reset drops our ports: we have none */
    default:
        return true;
    }
}

static void every_number(void)
{
    uint64_t bad[] = {0,
                      8,
                      BAD_UNMAPPED,
                      BAD_HYPERVISOR,
                      HYPERVISOR_VIRT_START,
                      HYPERVISOR_VIRT_START - 8,
                      HYPERVISOR_VIRT_END - 8,
                      BAD_NONCANONICAL,
                      0x00007ffffffffff8UL,
                      ~0UL,
                      ~7UL,
                      0,
                      0,
                      0};
    unsigned n = sizeof(bad) / sizeof(*bad);

    bad[n - 3] = (uint64_t)edge;
    bad[n - 2] = (uint64_t)edge + 3; /* misaligned, crossing */
    bad[n - 1] = (uint64_t)readonly;

    section("numbers that do not exist");
    static const unsigned none[] = {11, 27 + 16, 43, 44, 45, 46, 47, 49, 56, 57, 58, 62, 63};

    for (unsigned i = 0; i < sizeof(none) / sizeof(*none); i++)
        CHECK_REFUSED(HC_NR(none[i], zeroes, zeroes, zeroes));
    CHECK_EQ(hypercall_by_number(64, 0, 0, 0), -XEN_ENOSYS);
    CHECK_EQ(hypercall_by_number(1000, 0, 0, 0), -XEN_ENOSYS);
    CHECK_EQ(hypercall_by_number(0xffffffff, 0, 0, 0), -XEN_ENOSYS);
    CHECK_EQ(hypercall_by_number(0x80000000, 0, 0, 0), -XEN_ENOSYS);

    section("every number, bad pointers first");
    for (unsigned nr = 0; nr < 64; nr++)
        for (unsigned i = 0; i < n; i++)
            if (harmless(nr, bad[i]))
                judge(HC_NR(nr, bad[i], 1, bad[i], DOMID_SELF), nr, bad[i], 1, bad[i]);
    checks_passed++;

    section("every number, every sub-operation, bad pointers second");
    for (unsigned nr = 0; nr < 64; nr++)
        for (uint64_t op = 0; op < 64; op++)
            for (unsigned i = 0; i < n; i++) {
                /* A NULL for one that takes none is a fair call: flushes, stops, yields. */
                if (harmless(nr, op))
                    judge(HC_NR(nr, op, bad[i], 1, DOMID_SELF), nr, op, bad[i], 1);
            }
    checks_passed++;
    print("  %u calls\n", calls);
}

static void counts(void)
{
    static const uint64_t absurd[] = {0x7fffffff, 0x80000000, 0xffffffff,
                                      1UL << 32,  1UL << 63,  ~0UL};

    section("absurd counts");
    for (unsigned i = 0; i < sizeof(absurd) / sizeof(*absurd); i++) {
        uint64_t c = absurd[i];

        judge(HC(mmu_update, ones, c, 0, DOMID_SELF), 1, 0, c, 0);
        judge(HC(mmuext_op, ones, c, 0, DOMID_SELF), 26, 0, c, 0);
        judge(HC(multicall, ones, c), 13, 0, c, 0);
        judge(HC(grant_table_op, 0, ones, c), 20, 0, 0, c);
        judge(HC(grant_table_op, 5, ones, c), 20, 5, 0, c);
        judge(HC(set_gdt, ones, c), 2, 0, c, 0);
        judge(HC(console_io, CONSOLEIO_write, c, BAD_UNMAPPED), 18, 0, c, 0);
        judge(HC(console_io, CONSOLEIO_read, c, BAD_UNMAPPED), 18, 1, c, 0);
        judge(HC(update_va_mapping, c << 12, ~0UL, c), 14, c, 0, 0);
        judge(HC(update_descriptor, c, c), 10, c, c, 0);
        judge(HC(vm_assist, c, c), 21, c, c, 0);
    }
    checks_passed++;
}

/* Arguments that can be read, full of zeroes or ones. */
static void contents(void)
{
    section("structures of zeroes and of ones");
    for (unsigned nr = 0; nr < 64; nr++)
        for (uint64_t op = 0; op < 64; op++) {
            if (!harmless(nr, op) || op == __HYPERVISOR_iret)
                continue;
            /* Zeroes mean something to some: entries cleared, our frame 0, power. Ones do not. */
            memset(ones, 0xff, PAGE_SIZE);
            if (nr == __HYPERVISOR_mmu_update || nr == __HYPERVISOR_mmuext_op ||
                nr == __HYPERVISOR_multicall)
                judge(HC_NR(nr, ones, 1, 0, DOMID_SELF), nr, 0, 1, 0);
            else if (nr != __HYPERVISOR_platform_op)
                judge(HC_NR(nr, op, ones, 1, DOMID_SELF), nr, op, 1, 1);
            if (nr == __HYPERVISOR_domctl || nr == __HYPERVISOR_sysctl ||
                nr == __HYPERVISOR_platform_op) {
                memset(zeroes, 0, PAGE_SIZE);
                ((uint32_t *)zeroes)[0] = (uint32_t)op;
                CHECK_EQ(HC_NR(nr, zeroes), -XEN_EACCES); /* the interface version is wrong */
            }
        }
    memset(ones, 0xff, PAGE_SIZE);
    memset(zeroes, 0, PAGE_SIZE);
    checks_passed++;
}

static void survivors(void)
{
    uint64_t v;

    section("what is left of us");
    /* A multicall of zeroes was a fair set_trap_table(NULL), which clears the table. */
    trap_init();
    CHECK(alive());
    CHECK(try_read(edge, &v));
    CHECK(!try_read(edge + 8, &v));
    CHECK_TRAP(T_PF, 0);
    CHECK(!try_write(readonly, 1));
    TRY("ud2", ::);
    CHECK_TRAP(T_UD, 0);
    CHECK_EQ(HC(memory_op, XENMEM_current_reservation, &(struct xen_memory_domain){DOMID_SELF}),
             start_info->nr_pages);
    CHECK_EQ(mfn_to_pfn(mfn_of(zeroes)), pfn_of(zeroes));
    uint64_t before = time_now();

    time_spin(1000000);
    CHECK(time_now() > before);
}

void test_main(void)
{
    uint8_t *two = page_alloc(), *hole = page_alloc();

    CHECK_EQ(hole, two + PAGE_SIZE);
    CHECK_EQ(va_map(hole, 0), 0);
    edge = hole - 8;
    zeroes = page_alloc();
    ones = page_alloc();
    readonly = page_alloc();
    CHECK_EQ(map_ro(readonly), 0);
    every_number();
    counts();
    contents();
    survivors();
}
