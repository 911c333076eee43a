/*
 * Domain 0 as a PVH guest (dom0=pvh): a kernel with the note XEN_ELFNOTE_PHYS32_ENTRY is loaded at
 * its physical addresses and started in 32-bit protected mode with struct hvm_start_info
 * (xen/arch-x86/hvm/start_info.h).
 *
 * Nothing translates the addresses that its devices use, so its memory stands where it is in the
 * machine: guest frame and machine frame have one number. It gets the lowest free memory, out of
 * which the modules are moved first. The exception is what is below 640 KiB, which is ours to
 * start CPUs and the firmware's: there it has ordinary pages, which kernels use to start CPUs too.
 * Memory that it gives away by ballooning and takes back later is not one to one any more, nor are
 * pages that guests grant to it: the log says so, and how Linux does its DMA to those by way of
 * memory that is (swiotlb=force).
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "dom0/internal.h"
#include "hvm/hvm.h"
#include "hvm/hwdom.h"
#include "lib/string.h"

#include <xen/arch-x86/hvm/start_info.h>
#include <xen/domctl.h>

#define LOW_END   0xa0000UL /* of the RAM below 1 MiB */
#define ACPI_AT   0x9c000UL /* our tables, up to LOW_END */
#define ROM_START 0xf0000UL /* what firmware leaves there is found by looking */
#define ONE_MIB   0x100000UL

static void give(struct domain *d, struct page *p, uint64_t g, unsigned order)
{
    if (page_assign(d, p, order) || p2m_add(d, gfn(g), p, order))
        panic("no memory for domain 0: frame 0x%lx cannot be given", g);
    for (uint64_t i = 0; i < 1UL << order; i++)
        m2p_set(mfn(page_to_mfn(p).n + i), g + i);
}

/* What continues the last range is added to it. */
static void add_range(struct domain *d, uint64_t base, uint64_t size, uint32_t type)
{
    struct e820_range *last =
        d->memory_map_entries ? &d->memory_map[d->memory_map_entries - 1] : NULL;
    if (!size)
        return;
    if (last && last->type == type && last->base + last->size == base) {
        last->size += size;
        return;
    }
    if (d->memory_map_entries == DOMAIN_MAX_MAP) {
        log_warn("domain 0's memory map: no room for 0x%lx-0x%lx", base, base + size - 1);
        return;
    }
    d->memory_map[d->memory_map_entries++] = (struct e820_range){base, size, type};
}

/* Gives what is free of [first, end), up to @left frames, one to one. How many are left. */
static uint64_t populate(struct domain *d, uint64_t first, uint64_t end, uint64_t left)
{
    while (first < end) {
        unsigned order = min((unsigned)__builtin_ctzl(first), (unsigned)BUDDY_MAX_ORDER);
        struct page *p = NULL;
        for (;; order--) {
            uint64_t n = 1UL << order;
            if (n <= left && n <= end - first)
                p = page_alloc_at(mfn(first), order, ALLOC_ZERO);
            if (p || !order)
                break;
        }
        add_range(d, first << PAGE_SHIFT, PAGE_SIZE << order, p ? E820_RAM : E820_RESERVED);
        if (p) {
            give(d, p, first, order);
            left -= 1UL << order;
        }
        first += 1UL << order;
    }
    return left;
}

static uint64_t populate_low(struct domain *d, uint64_t left)
{
    for (uint64_t g = 0; g < LOW_END >> PAGE_SHIFT; g++, left--) {
        struct page *p = page_alloc(0, ALLOC_ZERO);
        if (!p)
            panic("no memory for domain 0");
        give(d, p, g, 0);
    }
    add_range(d, 0, ACPI_AT, E820_RAM);
    add_range(d, ACPI_AT, LOW_END - ACPI_AT, E820_ACPI);
    add_range(d, ROM_START, ONE_MIB - ROM_START, E820_RESERVED);
    return left;
}

/* The machine's map, in which what is not domain 0's RAM is reserved. */
static void give_memory(struct domain *d, uint64_t pages)
{
    d->memory_map = zalloc_array(DOMAIN_MAX_MAP, sizeof(*d->memory_map));
    if (!d->memory_map)
        panic("no memory for domain 0's memory map");
    uint64_t left = populate_low(d, pages);
    for (unsigned i = 0; i < bootinfo.ranges; i++) {
        const struct e820_range *r = &bootinfo.map[i];
        uint64_t first = max(r->base, ONE_MIB), end = r->base + r->size;
        if (first >= end)
            continue;
        if (r->type != E820_RAM)
            add_range(d, first, end - first, r->type);
        else
            left = populate(d, ROUND_UP(first, PAGE_SIZE) >> PAGE_SHIFT, end >> PAGE_SHIFT, left);
    }
    log_info("domain 0's memory is one to one with the machine's, as no IOMMU is used: its devices "
             "reach neither what it balloons in nor what guests grant to it, unless its kernel "
             "bounces them (Linux: swiotlb=force)");
    if (left)
        log_warn("domain 0 got %lu of %lu MiB", (pages - left) >> 8, pages >> 8);
}

static void put(struct domain *d, uint64_t gpa, const void *src, size_t n)
{
    if (hvm_copy_to_gpa(d, gpa, src, n))
        panic("domain 0: nothing can be put at 0x%lx", gpa);
}

static void load_kernel(struct domain *d, const struct dom0_image *img)
{
    struct elf_segment s;
    for (unsigned i = 0; i < img->elf.segments; i++)
        if (elf_load_segment(&img->elf, i, &s))
            put(d, s.paddr, img->elf.data + s.offset, s.filesz);
}

/* What the kernel is told, and the command line behind it. */
struct info {
    struct hvm_start_info si;
    struct hvm_modlist_entry initrd;
    struct hvm_memmap_table_entry map[DOMAIN_MAX_MAP];
};

static void describe(struct domain *d, uint64_t at, uint64_t initrd_at, uint64_t initrd_size)
{
    struct info *p = zalloc(sizeof(*p));
    if (!p)
        panic("no memory for domain 0's start_info");
    p->si = (struct hvm_start_info){
        .magic = XEN_HVM_START_MAGIC_VALUE,
        .version = 1,
        .flags = SIF_PRIVILEGED | SIF_INITDOMAIN,
        .nr_modules = initrd_size ? 1 : 0,
        .modlist_paddr = at + offsetof(struct info, initrd),
        .cmdline_paddr = at + sizeof(*p),
        .rsdp_paddr = ACPI_AT,
        .memmap_paddr = at + offsetof(struct info, map),
        .memmap_entries = d->memory_map_entries,
    };
    p->initrd = (struct hvm_modlist_entry){.paddr = initrd_at, .size = initrd_size};
    for (unsigned i = 0; i < d->memory_map_entries; i++)
        p->map[i] = (struct hvm_memmap_table_entry){.addr = d->memory_map[i].base,
                                                    .size = d->memory_map[i].size,
                                                    .type = d->memory_map[i].type};
    const char *cmdline = bootinfo.module[0].cmdline;
    put(d, at, p, sizeof(*p));
    put(d, at + sizeof(*p), cmdline, strlen(cmdline) + 1);
    zfree(p);
}

static void put_acpi(struct domain *d)
{
    const size_t most = LOW_END - ACPI_AT;
    void *tables = zalloc(most);
    size_t size = tables ? dom0_acpi_build(tables, most, ACPI_AT, d->max_vcpus) : 0;
    if (!size)
        panic("domain 0's ACPI tables: the firmware's are not enough, or more than %lu KiB",
              most >> 10);
    put(d, ACPI_AT, tables, size);
    zfree(tables);
}

/* All of @n bytes from @at on is its RAM. */
static bool has(const struct domain *d, uint64_t at, uint64_t n)
{
    for (uint64_t g = at >> PAGE_SHIFT; g <= (at + n - 1) >> PAGE_SHIFT; g++)
        if (p2m_kind(d, gfn(g)) == P2M_NONE)
            return false;
    return true;
}

struct domain *dom0_build_pvh(const struct dom0_image *img, uint64_t pages, bool whole_pc)
{
    const struct boot_module *initrd = bootinfo.modules > 1 ? &bootinfo.module[1] : NULL;
    uint64_t initrd_size = initrd ? initrd->size : 0;
    uint64_t initrd_at = ROUND_UP(img->end, PAGE_SIZE);
    uint64_t info_at = ROUND_UP(initrd_at + initrd_size, PAGE_SIZE);
    uint64_t end = info_at + sizeof(struct info) + sizeof(bootinfo.module_cmdline[0]);
    if (!hvm_available())
        panic("dom0=pvh: this machine has no virtualization extension that we use");

    struct domain *d = dom0_create(pages, XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
                                   whole_pc ? HVM_EMULATION_PC : XEN_X86_EMU_LAPIC);
    if (!whole_pc && hwdom_init(d)) /* a PC of its own drives nothing of the machine's */
        panic("no memory for domain 0's devices");
    give_memory(d, pages);
    if (!has(d, img->start, end - img->start))
        panic("domain 0 kernel: not all of 0x%lx to 0x%lx, where it and its initrd go, is free "
              "memory of this machine that it was given",
              img->start, end);
    load_kernel(d, img);
    if (initrd_size)
        put(d, initrd_at, maddr_to_virt(initrd->start), initrd_size);
    describe(d, info_at, initrd_at, initrd_size);
    put_acpi(d);
    hvm_vcpu_start_pvh(d->vcpu[0], img->entry, info_at);
    sched_unblock(&d->vcpu[0]->sched, SCHED_DOWN);
    return d;
}
