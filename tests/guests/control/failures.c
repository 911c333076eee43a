/*
 * Memory that runs out in the middle: debug keys 'F' and 'f' (hypervisor/mm/inject.c) make the
 * first, second, third ... allocation of an operation fail. Each time it must say so, leave nothing
 * behind, and work the next time. Debug builds of Trilby only.
 */
#include "control.h"
#include <xen/grant_table.h>
#include <xen/memory.h>

#define MOST 200 /* allocations of one operation */

static uint16_t child;

static bool press(char key)
{
    memset(&sc, 0, sizeof(sc));
    sc.u.debug_keys.keys.p = &key;
    sc.u.debug_keys.nr_keys = 1;
    return sysctl(XEN_SYSCTL_debug_keys) == 0;
}

/* The key is there: with it pressed a domain cannot be made. */
static bool can_inject(void)
{
    if (!is_trilby() || !press('f') || !press('F'))
        return false;
    long rc = create_with(plain_config(), 0, &child);
    press('f');
    if (rc == 0)
        CHECK_EQ(destroy(child), 0);
    return rc != 0;
}

static void make_child(void)
{
    CHECK_EQ(create_with(plain_config(), 0, &child), 0);
    memset(&dc, 0, sizeof(dc));
    dc.u.max_mem.max_memkb = 64 << 10;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, child), 0);
}

static void bury_child(void)
{
    CHECK_EQ(destroy(child), 0);
}

static long create_domain(void)
{
    return create_with(plain_config(), 0, &child);
}

static long make_vcpus(void)
{
    memset(&dc, 0, sizeof(dc));
    dc.u.max_vcpus.max = 2;
    return domctl(XEN_DOMCTL_max_vcpus, child);
}

/* How many extents were done is the answer; less than all means that memory ran out. */
static long give_memory(void)
{
    static xen_pfn_t list[16];
    for (unsigned i = 0; i < 16; i++)
        list[i] = i;
    return populate(child, list, 16, 0) == 16 ? 0 : -XEN_ENOMEM;
}

static long give_large_extents(void)
{
    static xen_pfn_t list[4];
    for (unsigned i = 0; i < 4; i++)
        list[i] = i * 512;
    return populate(child, list, 4, 9) == 4 ? 0 : -XEN_ENOMEM;
}

static long grow_grant_table(void)
{
    static xen_pfn_t frames[4];
    struct gnttab_setup_table s = {.dom = child, .nr_frames = 4};
    s.frame_list.p = frames;
    CHECK_EQ(HC(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    return s.status == GNTST_okay ? 0 : s.status == GNTST_general_error ? -XEN_ENOMEM : -XEN_EIO;
}

static long many_ports(void)
{
    for (unsigned i = 0; i < 400; i++) {
        struct evtchn_alloc_unbound a = {.dom = child, .remote_dom = 0};
        long rc = HC(event_channel_op, EVTCHNOP_alloc_unbound, &a);
        if (rc)
            return rc;
    }
    return 0;
}

static long set_map(void)
{
    static struct {
        uint64_t base, size;
        uint32_t type;
    } __attribute__((packed))
    map[3] = {{0, 0x10000, 1}, {0x10000, 0x10000, 2}, {1 << 20, 1 << 20, 1}};
    struct xen_foreign_memory_map f = {.domid = child, .map = {.nr_entries = 3}};
    f.map.buffer.p = map;
    return HC(memory_op, XENMEM_set_memory_map, &f);
}

static long allow_ports(void)
{
    for (unsigned i = 0; i < 12; i++) { /* apart, so that the list of ranges grows */
        memset(&dc, 0, sizeof(dc));
        dc.u.ioport_permission.first_port = 0x2000 + 4 * i;
        dc.u.ioport_permission.nr_ports = 1;
        dc.u.ioport_permission.allow_access = 1;
        long rc = domctl(XEN_DOMCTL_ioport_permission, child);
        if (rc)
            return rc;
    }
    return 0;
}

static xen_pfn_t lent[512], got;
static uint64_t lent_pfn[512];

/* Our own frames for one large extent, and back: they must be ours before and after. */
static long exchange_frames(void)
{
    struct xen_memory_exchange x = {
        .in = {.nr_extents = 512, .domid = DOMID_SELF, .extent_start = {lent}},
        .out = {.nr_extents = 1, .extent_order = 9, .domid = DOMID_SELF, .extent_start = {&got}},
    };
    for (unsigned i = 0; i < 512; i++) {
        if (!lent_pfn[i])
            lent_pfn[i] = spare_pfn();
        lent[i] = pfn_to_mfn(lent_pfn[i]);
    }
    got = lent_pfn[0];
    return HC(memory_op, XENMEM_exchange, &x);
}

static void keep_frames(void)
{
    for (unsigned i = 0; i < 512; i++)
        set_p2m(lent_pfn[i], got + i);
}

/* Memory populated on demand: numbers, the pages for them, and what a touch takes. */
static void make_hvm_child(void)
{
    child = pod_build(0);
}

static void make_child_on_demand(void)
{
    child = pod_build(1);
    CHECK_EQ(pod_make(child, 0, 1, 18), 1);
}

static long make_on_demand(void)
{
    return pod_make(child, 511 << 9, 3, 9) == 3 ? 0 : -XEN_ENOMEM;
}

static void bury_fewer(void)
{
    struct xen_pod_target t = {.domid = child};
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &t), 0);
    CHECK(t.pod_entries == 0 || t.pod_entries == 512 || t.pod_entries == 1024);
    bury_child();
}

static long set_target(void)
{
    struct xen_pod_target t = {.domid = child, .target_pages = 20};
    return HC(memory_op, XENMEM_set_pod_target, &t);
}

static void bury_empty(void)
{
    struct xen_pod_target t = {.domid = child};
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &t), 0);
    CHECK_EQ(t.tot_pages, 0);
    bury_child();
}

static long touch(void)
{
    void *at = map_gfn(child, 5);
    if (!at)
        return -XEN_ENOMEM;
    unmap_gfn(at);
    return 0;
}

static void touch_again(void)
{
    CHECK_EQ(touch(), 0);
    bury_child();
}

/* As long as it has other pages, one of these is its table. */
static void touch_with_little(void)
{
    struct xen_pod_target t;
    uint64_t before = free_pages();

    child = pod_build(20);
    CHECK_EQ(pod_make(child, 0, 1, 9), 1);
    press('F');
    CHECK_EQ(touch(), 0);
    press('f');
    t.domid = child;
    CHECK_EQ(HC(memory_op, XENMEM_get_pod_target, &t), 0);
    CHECK_EQ(t.tot_pages, 19);
    CHECK_EQ(t.pod_cache_pages, 18);
    bury_child();
    check_free(before, __FILE__, __LINE__);
}

static void nothing(void)
{
}

static const struct {
    const char *name;
    void (*before)(void);
    long (*op)(void);
    void (*done)(void);  /* after success */
    void (*clean)(void); /* after a failure */
} operations[] = {
    {"create a domain", nothing, create_domain, bury_child, nothing},
    {"make its vCPUs", make_child, make_vcpus, bury_child, bury_child},
    {"give it memory", make_child, give_memory, bury_child, bury_child},
    {"give it large extents", make_child, give_large_extents, bury_child, bury_child},
    {"grow its grant table", make_child, grow_grant_table, bury_child, bury_child},
    {"many event channels", make_child, many_ports, bury_child, bury_child},
    {"set its memory map", make_child, set_map, bury_child, bury_child},
    {"allow it ports", make_child, allow_ports, bury_child, bury_child},
    {"make memory on demand", make_hvm_child, make_on_demand, bury_child, bury_fewer},
    {"set its target", make_hvm_child, set_target, bury_child, bury_empty},
    {"touch it", make_child_on_demand, touch, bury_child, touch_again},
    {"exchange frames", nothing, exchange_frames, keep_frames, nothing},
};

void failures(void)
{
    section("allocations that fail");
    if (!can_inject()) {
        print("  not in this build\n");
        return;
    }
    touch_with_little();
    for (unsigned i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
        uint64_t before = free_pages();
        unsigned failed = 0;
        bool ended = false;
        press('f');
        while (!ended && failed < MOST) {
            operations[i].before();
            press('F');
            long rc = operations[i].op();
            if (rc) {
                CHECK_EQ(rc, -XEN_ENOMEM);
                failed++;
                operations[i].clean();
            } else { /* it has fewer allocations than that */
                press('f');
                operations[i].done();
                ended = true;
            }
            check_free(before, __FILE__, __LINE__);
        }
        print("  %s: %u allocations, each refused once\n", operations[i].name, failed);
        CHECK(failed > 0 && ended);
    }
}
