/*
 * platform_op (xen/platform.h): what domain 0 does to the machine on our behalf or asks of it: the
 * clock, sleep states, firmware facts, CPU numbers, our symbols.
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "control/internal.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/platform.h>

typedef int (*platform_handler)(struct xen_platform_op *op);

static int platform_settime64(struct xen_platform_op *op)
{
    const struct xenpf_settime64 *t = &op->u.settime64;
    if (t->mbz || t->nsecs >= SECONDS(1))
        return -XEN_EINVAL;
    wallclock_set(t->secs, t->nsecs, t->system_time);
    for (unsigned id = 0;;) {
        struct domain *d = domain_next(id);
        if (!d)
            return 0;
        guest_wallclock_update(d);
        id = d->id + 1;
        domain_put(d);
        preempt_point();
    }
}

static int platform_settime32(struct xen_platform_op *op)
{
    const struct xenpf_settime32 t = op->u.settime32;
    op->u.settime64 = (struct xenpf_settime64){t.secs, t.nsecs, 0, t.system_time};
    return platform_settime64(op);
}

static int platform_get_cpuinfo(struct xen_platform_op *op)
{
    struct xenpf_pcpuinfo *p = &op->u.pcpu_info;
    p->max_present = cpus_present - 1;
    const struct cpu *c = p->xen_cpuid < cpus_present ? cpus[p->xen_cpuid] : NULL;
    if (!c) {
        p->flags = XEN_PCPU_FLAGS_INVALID;
        p->apic_id = p->acpi_id = ~0u;
        return 0;
    }
    p->apic_id = c->apic_id;
    p->acpi_id = c->acpi_id;
    p->flags = bit_test(cpus_online.bits, c->id) ? XEN_PCPU_FLAGS_ONLINE : 0;
    return 0;
}

static int platform_get_cpu_version(struct xen_platform_op *op)
{
    struct xenpf_pcpu_version *p = &op->u.pcpu_version;
    uint32_t r[4];
    p->max_present = cpus_present - 1;
    if (p->xen_cpuid >= cpus_present || !bit_test(cpus_online.bits, p->xen_cpuid)) {
        memset(p->vendor_id, 0, sizeof(p->vendor_id));
        p->family = p->model = p->stepping = 0;
        return 0;
    }
    /* All CPUs of a machine are alike: this one answers (SDM vol. 2, CPUID leaves 0 and 1). */
    cpuid(0, 0, r);
    memcpy(p->vendor_id, &r[1], 4);
    memcpy(p->vendor_id + 4, &r[3], 4);
    memcpy(p->vendor_id + 8, &r[2], 4);
    cpuid(1, 0, r);
    p->family = cpu_features.family;
    p->model = cpu_features.model;
    p->stepping = r[0] & 0xf;
    return 0;
}

static int platform_getidletime(struct xen_platform_op *op)
{
    struct xenpf_getidletime *g = &op->u.getidletime;
    const struct xenctl_bitmap map = {{(void *)g->cpumap_bitmap.p}, g->cpumap_nr_cpus};
    struct cpu_mask asked, present = {{0}};
    int rc = bitmap_from_tools(&asked, &map);
    unsigned i;
    if (rc)
        return rc;
    g->now = time_now();
    for_each_cpu(i, &asked) {
        if (i >= cpus_present || !cpus[i] || !cpus[i]->idle)
            continue;
        uint64_t idle = vcpu_run_time(cpus[i]->idle);
        rc = copy_element_to_guest(guest_handle(g->idletime), i, &idle);
        if (rc)
            return rc;
        bit_set(present.bits, i);
    }
    return bitmap_to_tools(&map, present.bits, MAX_CPUS);
}

/* The symbol of number symnum, for domain 0's /proc/xen/xensyms; the one after the last is "". */
static int platform_get_symbol(struct xen_platform_op *op)
{
    struct xenpf_symdata *s = &op->u.symdata;
    const char *name = symbol_by_number(s->symnum, &s->address);
    uint32_t room = s->namelen, length = name ? strlen(name) : 0;
    s->type = 't';
    s->namelen = length;
    if (!name) { /* the same number again says: that was all */
        s->address = 0;
        return 0;
    }
    s->symnum++;
    return copy_to_guest(guest_handle(s->name), name, min(room, length + 1));
}

/* Offsets in EFI_SYSTEM_TABLE (UEFI 2.10 section 4.3.1). */
#define EFI_REVISION          8
#define EFI_TABLE_COUNT       104
#define EFI_TABLE_POINTER     112
#define EFI_SYSTEM_TABLE_SIZE 120

static int efi_system_table(uint8_t out[EFI_SYSTEM_TABLE_SIZE])
{
    maddr_t at = bootinfo.efi_system_table;
    if (!at.a)
        return -XEN_ENODEV;
    unsigned offset = at.a & (PAGE_SIZE - 1);
    uint8_t *map = vmap_contiguous(maddr_to_mfn(at), 2, MAP_RO);
    if (!map)
        return -XEN_ENOMEM;
    memcpy(out, map + offset, EFI_SYSTEM_TABLE_SIZE);
    vunmap(map, 2);
    return 0;
}

static int efi_info(struct xenpf_firmware_info *f)
{
    uint8_t table[EFI_SYSTEM_TABLE_SIZE];
    int rc = efi_system_table(table);
    if (rc)
        return rc;
    switch (f->index) {
    case XEN_FW_EFI_VERSION:
        memcpy(&f->u.efi_info.version, table + EFI_REVISION, sizeof(uint32_t));
        return 0;
    case XEN_FW_EFI_CONFIG_TABLE:
        memcpy(&f->u.efi_info.cfg.addr, table + EFI_TABLE_POINTER, sizeof(uint64_t));
        memcpy(&f->u.efi_info.cfg.nent, table + EFI_TABLE_COUNT, sizeof(uint32_t));
        return 0;
    default:
        return -XEN_EOPNOTSUPP; /* runtime services are not called: domain 0 has none */
    }
}

static int platform_firmware_info(struct xen_platform_op *op)
{
    struct xenpf_firmware_info *f = &op->u.firmware_info;
    switch (f->type) {
    case XEN_FW_EFI_INFO:
        return efi_info(f);
    case XEN_FW_DISK_INFO:
    case XEN_FW_DISK_MBR_SIGNATURE:
        return -XEN_ENOENT; /* BIOS disks are not asked about before boot */
    default:
        return -XEN_EOPNOTSUPP;
    }
}

#define ACPI_S5    5
#define PM1_SLP_EN (1u << 13) /* ACPI 6.5 table 4.12 */

static int platform_enter_acpi_sleep(struct xen_platform_op *op)
{
    const struct xenpf_enter_acpi_sleep *s = &op->u.enter_acpi_sleep;
    if (s->sleep_state != ACPI_S5 || s->flags || !acpi_info.pm1a_control_port)
        return -XEN_EOPNOTSUPP;
    log_info("domain 0 asks for power-off (ACPI S5)");
    console_force_sync();
    ipi_stop_others();
    outw(acpi_info.pm1a_control_port, s->val_a | PM1_SLP_EN);
    if (acpi_info.pm1b_control_port)
        outw(acpi_info.pm1b_control_port, s->val_b | PM1_SLP_EN);
    machine_halt();
}

/* As the sysctl: not done. */
static int platform_cpu_hotplug(struct xen_platform_op *op)
{
    return op->u.cpu_ol.cpuid < cpus_present ? -XEN_EOPNOTSUPP : -XEN_EINVAL;
}

static const struct {
    uint32_t cmd;
    platform_handler handler;
} platform_ops[] = {
    {XENPF_settime64, platform_settime64},
    {XENPF_settime32, platform_settime32},
    {XENPF_get_cpuinfo, platform_get_cpuinfo},
    {XENPF_get_cpu_version, platform_get_cpu_version},
    {XENPF_getidletime, platform_getidletime},
    {XENPF_get_symbol, platform_get_symbol},
    {XENPF_firmware_info, platform_firmware_info},
    {XENPF_enter_acpi_sleep, platform_enter_acpi_sleep},
    {XENPF_cpu_online, platform_cpu_hotplug},
    {XENPF_cpu_offline, platform_cpu_hotplug},
};

long hc_platform_op(uint64_t arg)
{
    struct xen_platform_op op;
    int rc = copy_from_guest(&op, guest_ptr(arg), sizeof(op));
    if (rc)
        return rc;
    if (op.interface_version != XENPF_INTERFACE_VERSION)
        return -XEN_EACCES;
    rc = permission_check(current_domain(), __HYPERVISOR_platform_op, op.cmd, NULL);
    if (rc)
        return rc;
    for (unsigned i = 0; i < ARRAY_SIZE(platform_ops); i++) {
        if (platform_ops[i].cmd != op.cmd)
            continue;
        rc = platform_ops[i].handler(&op);
        return rc ? rc : copy_to_guest(guest_ptr(arg), &op, sizeof(op));
    }
    return -XEN_ENOSYS;
}
