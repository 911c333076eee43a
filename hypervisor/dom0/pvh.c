/*
 * Domain 0 as a PVH guest (dom0=pvh): a kernel with the note XEN_ELFNOTE_PHYS32_ENTRY is loaded at
 * its physical addresses and started in 32-bit protected mode with struct hvm_start_info
 * (xen/arch-x86/hvm/start_info.h) behind it. Its memory begins at 0, with the hole that PCs have
 * below 1 MiB and one from LOW_END to 4 GiB.
 *
 * Its frames are not the machine's, so it cannot drive devices that do DMA: this is for kernels
 * that do not.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "dom0/internal.h"
#include "hvm/hvm.h"
#include "lib/string.h"

#include <xen/arch-x86/hvm/start_info.h>
#include <xen/domctl.h>

#define LOW_END  0xc0000000UL
#define HIGH     0x100000000UL
#define VGA_HOLE 0xa0000UL
#define ONE_MIB  0x100000UL

/* Guest frame of the @n-th frame of its memory. */
static uint64_t gfn_of(uint64_t n)
{
    return n < LOW_END >> PAGE_SHIFT ? n : n - (LOW_END >> PAGE_SHIFT) + (HIGH >> PAGE_SHIFT);
}

static void populate(struct domain *d, uint64_t pages)
{
    unsigned order = BUDDY_MAX_ORDER;
    for (uint64_t n = 0; n < pages;) {
        while ((1UL << order) > pages - n || n & ((1UL << order) - 1))
            order--;
        struct page *p = page_alloc(order, ALLOC_ZERO);
        if (!p && order) {
            order--;
            continue;
        }
        if (!p || page_assign(d, p, order) || p2m_add(d, gfn(gfn_of(n)), p, order))
            panic("no memory for domain 0: %lu of %lu frames given", n, pages);
        for (uint64_t i = 0; i < 1UL << order; i++)
            m2p_set(mfn(page_to_mfn(p).n + i), gfn_of(n) + i);
        n += 1UL << order;
        order = min(order + 1, (unsigned)BUDDY_MAX_ORDER);
    }
}

static void set_map(struct domain *d, uint64_t bytes)
{
    uint64_t low = min(bytes, LOW_END);
    struct e820_range *map = zalloc_array(4, sizeof(*map));
    if (!map)
        panic("no memory for domain 0's memory map");
    unsigned n = 0;
    map[n++] = (struct e820_range){0, VGA_HOLE, E820_RAM};
    map[n++] = (struct e820_range){VGA_HOLE, ONE_MIB - VGA_HOLE, E820_RESERVED};
    map[n++] = (struct e820_range){ONE_MIB, low - ONE_MIB, E820_RAM};
    if (bytes > low)
        map[n++] = (struct e820_range){HIGH, bytes - low, E820_RAM};
    d->memory_map = map;
    d->memory_map_entries = n;
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

/* What the kernel is told, in one page and the command line behind it. */
struct info_page {
    struct hvm_start_info si;
    struct hvm_modlist_entry initrd;
    struct hvm_memmap_table_entry map[4];
};

static void describe(struct domain *d, uint64_t at, uint64_t initrd_at, uint64_t initrd_size)
{
    struct info_page p = {
        .si =
            {
                .magic = XEN_HVM_START_MAGIC_VALUE,
                .version = 1,
                .flags = SIF_PRIVILEGED | SIF_INITDOMAIN,
                .nr_modules = initrd_size ? 1 : 0,
                .modlist_paddr = at + offsetof(struct info_page, initrd),
                .cmdline_paddr = at + sizeof(p),
                .memmap_paddr = at + offsetof(struct info_page, map),
                .memmap_entries = d->memory_map_entries,
            },
        .initrd = {.paddr = initrd_at, .size = initrd_size},
    };
    for (unsigned i = 0; i < d->memory_map_entries; i++)
        p.map[i] = (struct hvm_memmap_table_entry){.addr = d->memory_map[i].base,
                                                   .size = d->memory_map[i].size,
                                                   .type = d->memory_map[i].type};
    const char *cmdline = bootinfo.module[0].cmdline;
    put(d, at, &p, sizeof(p));
    put(d, at + sizeof(p), cmdline, strlen(cmdline) + 1);
}

struct domain *dom0_build_pvh(const struct dom0_image *img, uint64_t pages, bool whole_pc)
{
    const struct boot_module *initrd = bootinfo.modules > 1 ? &bootinfo.module[1] : NULL;
    uint64_t initrd_size = initrd ? initrd->size : 0;
    uint64_t initrd_at = ROUND_UP(img->end, PAGE_SIZE);
    uint64_t info_at = ROUND_UP(initrd_at + initrd_size, PAGE_SIZE);
    uint64_t bytes = pages << PAGE_SHIFT;
    if (!hvm_available())
        panic("dom0=pvh: this machine has no virtualization extension that we use");
    if (img->start < ONE_MIB || info_at + 2 * PAGE_SIZE > min(bytes, LOW_END))
        panic("domain 0 kernel: 0x%lx to 0x%lx with what goes behind it is not its memory's",
              img->start, img->end);

    struct domain *d = dom0_create(pages, XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
                                   whole_pc ? HVM_EMULATION_PC : XEN_X86_EMU_LAPIC);
    populate(d, pages);
    set_map(d, bytes);
    load_kernel(d, img);
    if (initrd_size)
        put(d, initrd_at, maddr_to_virt(initrd->start), initrd_size);
    describe(d, info_at, initrd_at, initrd_size);
    hvm_vcpu_start_pvh(d->vcpu[0], img->entry, info_at);
    sched_unblock(&d->vcpu[0]->sched, SCHED_DOWN);
    return d;
}
