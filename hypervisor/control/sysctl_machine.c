/*
 * sysctls about the machine: its CPUs and how they are built, memory, nodes, devices. All memory
 * counts as one node's.
 */
#include "control/cpuid_policy.h"
#include "hvm/hvm.h"
#include "control/internal.h"
#include "irq/irq.h"
#include "lib/string.h"

/*
 * Which thread, core and package a CPU is: fields of its APIC id, whose widths CPUID tells for the
 * whole machine (Intel SDM vol. 3 section 9.9.3; AMD has the same leaf 0xb).
 */
struct topology {
    unsigned thread, core, package;
};

static struct topology topology_of(const struct cpu *c)
{
    unsigned smt = cpu_features.smt_bits, package = cpu_features.package_bits;
    return (struct topology){
        .thread = c->apic_id & ((1u << smt) - 1),
        .core = (c->apic_id & ((1u << package) - 1)) >> smt,
        .package = c->apic_id >> package,
    };
}

int sysctl_physinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_physinfo *p = &op->u.physinfo;
    const struct cpuid_policy *host = cpuid_policy_host();
    memset(p, 0, sizeof(*p));
    p->threads_per_core = p->cores_per_socket = 1;
    unsigned i;
    for_each_cpu(i, &cpus_online) {
        struct topology t = topology_of(cpus[i]);
        p->threads_per_core = max(p->threads_per_core, t.thread + 1);
        p->cores_per_socket = max(p->cores_per_socket, t.core + 1);
    }
    p->nr_cpus = bitmap_weight(cpus_online.bits, MAX_CPUS);
    p->max_cpu_id = cpus_present - 1;
    p->nr_nodes = 1;
    p->cpu_khz = time_tsc_khz();
    p->capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_gnttab_v1;
    if (hvm_available())
        p->capabilities |= XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap;
    p->total_pages = buddy_total_pages();
    p->free_pages = buddy_free_pages();
    p->outstanding_pages = buddy_outstanding_claims();
    p->max_mfn = max_mfn - 1;
    cpuid_policy_featureset(host, p->hw_cap, ARRAY_SIZE(p->hw_cap));
    return 0;
}

int sysctl_getcpuinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_getcpuinfo *c = &op->u.getcpuinfo;
    uint32_t n = min(c->max_cpus, (uint32_t)cpus_present);
    for (uint32_t i = 0; i < n; i++) {
        xen_sysctl_cpuinfo_t info = {0};
        if (cpus[i] && cpus[i]->idle)
            info.idletime = vcpu_run_time(cpus[i]->idle);
        int rc = copy_element_to_guest(guest_handle(c->info), i, &info);
        if (rc)
            return rc;
    }
    c->nr_cpus = n;
    return 0;
}

int sysctl_availheap(struct xen_sysctl *op)
{
    struct xen_sysctl_availheap *a = &op->u.availheap;
    /* The allocator keeps no counts per address width. */
    if (a->min_bitwidth || a->max_bitwidth || a->node > 0)
        return -XEN_EOPNOTSUPP;
    a->avail_bytes = buddy_free_pages() << PAGE_SHIFT;
    return 0;
}

int sysctl_cputopoinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_cputopoinfo *t = &op->u.cputopoinfo;
    if (t->cputopo.p) {
        uint32_t n = min(t->num_cpus, (uint32_t)cpus_present);
        for (uint32_t i = 0; i < n; i++) {
            xen_sysctl_cputopo_t e = {XEN_INVALID_CORE_ID, XEN_INVALID_SOCKET_ID,
                                      XEN_INVALID_NODE_ID};
            if (bit_test(cpus_online.bits, i)) {
                struct topology where = topology_of(cpus[i]);
                e = (xen_sysctl_cputopo_t){where.core, where.package, 0};
            }
            int rc = copy_element_to_guest(guest_handle(t->cputopo), i, &e);
            if (rc)
                return rc;
        }
    }
    t->num_cpus = cpus_present;
    return 0;
}

int sysctl_numainfo(struct xen_sysctl *op)
{
    struct xen_sysctl_numainfo *n = &op->u.numainfo;
    const uint32_t local = 10; /* ACPI SLIT: the distance of a node to itself */
    int rc = 0;
    if (n->num_nodes && n->meminfo.p) {
        xen_sysctl_meminfo_t m = {buddy_total_pages() << PAGE_SHIFT, buddy_free_pages()
                                                                         << PAGE_SHIFT};
        rc = copy_element_to_guest(guest_handle(n->meminfo), 0, &m);
    }
    if (!rc && n->num_nodes && n->distance.p)
        rc = copy_element_to_guest(guest_handle(n->distance), 0, &local);
    n->num_nodes = 1;
    return rc;
}

#define DEVICES_PER_SLICE 32
#define NO_DEVICE         0xffff /* what configuration space reads as where there is none */

/* Every device that is there is near the only node. */
int sysctl_pcitopoinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_pcitopoinfo *t = &op->u.pcitopoinfo;
    if (!t->devs.p || !t->nodes.p)
        return -XEN_EINVAL;
    for (uint32_t i = 0; i < t->num_devs; i++) {
        struct physdev_pci_device dev;
        int rc = copy_element_from_guest(&dev, guest_handle(t->devs), i);
        if (rc)
            return rc;
        bool there = pci_read(dev.seg, dev.bus, dev.devfn, 0, 2) != NO_DEVICE;
        uint32_t node = there ? 0 : XEN_INVALID_DEV;
        rc = copy_element_to_guest(guest_handle(t->nodes), i, &node);
        if (rc)
            return rc;
        if (i % DEVICES_PER_SLICE == DEVICES_PER_SLICE - 1)
            preempt_point();
    }
    return 0;
}
