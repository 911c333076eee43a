/*
 * Domain 0, built from the boot modules: memory, image, page tables, start_info, the first vCPU's
 * registers, the right to use the machine. Runs once, on the boot CPU, before any guest: whatever
 * fails here ends the boot with one line that says why.
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "dom0/dom0.h"
#include "dom0/internal.h"
#include "event/event.h"
#include "irq/irq.h"
#include "lib/string.h"
#include "pv/pv.h"

/* Kept back from a domain 0 that takes all memory: 1/16 of it, at most 128 MiB. */
#define RESERVE_SHIFT 4
#define RESERVE_MAX   (128UL << (20 - PAGE_SHIFT))
#define LEAST_PAGES   (16UL << (20 - PAGE_SHIFT))

static uint64_t choose_pages(void)
{
    uint64_t free = buddy_free_pages();
    uint64_t reserve = min(free >> RESERVE_SHIFT, RESERVE_MAX);
    uint64_t wanted = boot_options.dom0_mem >> PAGE_SHIFT;
    if (!wanted)
        wanted = free - reserve;
    if (wanted > free - reserve) {
        log_warn("dom0_mem=%luM is more than there is: domain 0 gets %luM of %luM free",
                 wanted >> 8, (free - reserve) >> 8, free >> 8);
        wanted = free - reserve;
    }
    if (wanted < boot_options.dom0_mem_min >> PAGE_SHIFT)
        panic("too little memory for domain 0: dom0_mem=min:%luM, %luM can be given",
              boot_options.dom0_mem_min >> 20, wanted >> 8);
    if (wanted < LEAST_PAGES)
        panic("too little memory for domain 0: %lu KiB free, %lu KiB needed at least", wanted << 2,
              LEAST_PAGES << 2);
    return wanted;
}

/* The machine frame of every pseudo-physical one, largest blocks first. */
static mfn_t *allocate(struct domain *d, uint64_t pages, unsigned *list_order)
{
    unsigned order = page_order(pages * sizeof(mfn_t));
    struct page *list = page_alloc(order, 0);
    if (!list)
        panic("no memory for the list of domain 0's %lu frames", pages);
    *list_order = order;

    mfn_t *frames = page_to_virt(list);
    unsigned block = BUDDY_MAX_ORDER;
    for (uint64_t pfn = 0; pfn < pages;) {
        while ((1UL << block) > pages - pfn)
            block--;
        struct page *p = page_alloc(block, ALLOC_ZERO);
        if (!p && block) {
            block--;
            continue;
        }
        if (!p || page_assign(d, p, block))
            panic("no memory for domain 0: %lu of %lu frames given", pfn, pages);
        for (uint64_t i = 0; i < 1UL << block; i++, pfn++) {
            frames[pfn] = mfn(page_to_mfn(p).n + i);
            m2p_set(frames[pfn], pfn);
        }
    }
    return frames;
}

/* Copies into pseudo-physical memory, byte by frame; the rest of it is zero already. */
static void write_guest(const mfn_t *frames, uint64_t offset, const void *src, uint64_t n)
{
    while (n) {
        uint64_t in_page = offset & (PAGE_SIZE - 1);
        uint64_t chunk = min(n, PAGE_SIZE - in_page);
        memcpy((char *)mfn_to_virt(frames[offset >> PAGE_SHIFT]) + in_page, src, chunk);
        offset += chunk;
        src = (const char *)src + chunk;
        n -= chunk;
    }
}

static void load_kernel(const struct dom0_image *img, const mfn_t *frames)
{
    struct elf_segment s;
    for (unsigned i = 0; i < img->elf.segments; i++)
        if (elf_load_segment(&img->elf, i, &s))
            write_guest(frames, s.paddr - img->paddr_offset, img->elf.data + s.offset, s.filesz);
    if (img->hypercall_page)
        pv_write_hypercall_page(
            mfn_to_virt(frames[(img->hypercall_page - img->virt_base) >> PAGE_SHIFT]));
}

/* What the screen shows: VGA text as the BIOS left it, or the loader's graphics mode. */
static void describe_screen(struct start_info *si)
{
    struct dom0_vga_console_info *vga = (void *)(si + 1);
    const struct framebuffer *fb = &bootinfo.framebuffer;
    bool efi = bootinfo.efi_system_table.a;
    if (fb->width) {
        vga->video_type = efi ? XEN_VGATYPE_EFI_LFB : XEN_VGATYPE_VESA_LFB;
        vga->u.vesa_lfb.width = (uint16_t)fb->width;
        vga->u.vesa_lfb.height = (uint16_t)fb->height;
        vga->u.vesa_lfb.bytes_per_line = (uint16_t)fb->pitch;
        vga->u.vesa_lfb.bits_per_pixel = fb->bits;
        vga->u.vesa_lfb.lfb_base = (uint32_t)fb->base.a;
        vga->u.vesa_lfb.ext_lfb_base = (uint32_t)(fb->base.a >> 32);
        vga->u.vesa_lfb.lfb_size = (fb->pitch * fb->height + 0xffff) >> 16; /* in 64 KiB */
        vga->u.vesa_lfb.red_pos = fb->red_position;
        vga->u.vesa_lfb.red_size = fb->red_size;
        vga->u.vesa_lfb.green_pos = fb->green_position;
        vga->u.vesa_lfb.green_size = fb->green_size;
        vga->u.vesa_lfb.blue_pos = fb->blue_position;
        vga->u.vesa_lfb.blue_size = fb->blue_size;
    } else if (!fb->base.a && !efi) {
        vga->video_type = XEN_VGATYPE_TEXT_MODE_3; /* 80 by 25 */
        vga->u.text_mode_3.font_height = 16;
        vga->u.text_mode_3.rows = 25;
        vga->u.text_mode_3.columns = 80;
    } else {
        return;
    }
    si->console.dom0.info_off = sizeof(*si);
    si->console.dom0.info_size = sizeof(*vga);
}

static void fill_start_info(struct domain *d, const struct dom0_layout *l,
                            const struct dom0_image *img, const mfn_t *frames, uint64_t pages)
{
    struct start_info *si = mfn_to_virt(frames[(l->start_info - l->v_start) >> PAGE_SHIFT]);
    const struct boot_module *initrd = bootinfo.modules > 1 ? &bootinfo.module[1] : NULL;

    str_copy(si->magic, "xen-3.0-x86_64", sizeof(si->magic));
    si->nr_pages = pages;
    si->shared_info = mfn_to_maddr(d->shared_frame).a;
    si->flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    si->pt_base = l->page_tables;
    si->nr_pt_frames = l->pt_frames;
    si->mfn_list = l->p2m;
    if (img->init_p2m) {
        si->first_p2m_pfn = l->p2m_pfn;
        si->nr_p2m_frames = l->p2m_frames;
    }
    if (initrd && initrd->size) {
        si->mod_start = img->initrd_unmapped ? l->initrd_pfn : l->initrd;
        si->mod_len = initrd->size;
        if (img->initrd_unmapped)
            si->flags |= SIF_MOD_START_PFN;
    }
    str_copy((char *)si->cmd_line, bootinfo.module[0].cmdline, sizeof(si->cmd_line));
    describe_screen(si);
}

/* The first vCPU, as xen/arch-x86/xen.h has it at the start: flat segments, start_info in RSI. */
static void start_vcpu(struct domain *d, const struct dom0_layout *l, const struct dom0_image *img,
                       mfn_t l4)
{
    struct vcpu_guest_context *c = zalloc(sizeof(*c));
    if (!c)
        panic("no memory for domain 0's first context");
    c->flags = VGCF_in_kernel | VGCF_online;
    c->user_regs.rip = img->entry;
    c->user_regs.rsp = l->stack + PAGE_SIZE;
    c->user_regs.rsi = l->start_info;
    c->user_regs.rflags = RFLAGS_IF;
    c->user_regs.cs = FLAT_KERNEL_CS;
    c->user_regs.ss = FLAT_KERNEL_SS;
    c->kernel_ss = FLAT_KERNEL_SS;
    c->kernel_sp = l->stack + PAGE_SIZE;
    c->ctrlreg[3] = xen_pfn_to_cr3(l4.n);
    int rc = pv_set_context(d->vcpu[0], c);
    if (rc)
        panic("domain 0's first context is refused: error %d", rc);
    d->vcpu[0]->initialised = true;
    sched_unblock(&d->vcpu[0]->sched, SCHED_DOWN);
    zfree(c);
}

/* Everything but what the hypervisor drives itself. */
static void give_machine(struct domain *d)
{
    static const struct {
        uint16_t first, last;
    } ours[] = {
        {0x20, 0x21},
        {0xa0, 0xa1}, /* interrupt controllers */
        {0x40, 0x43}, /* interval timer */
    };
    int rc = range_add(&d->ioports, 0, 0xffff);
    for (unsigned i = 0; !rc && i < ARRAY_SIZE(ours); i++)
        rc = range_remove(&d->ioports, ours[i].first, ours[i].last);
    uint16_t serial = console_serial_port();
    if (!rc && serial)
        rc = range_remove(&d->ioports, serial, serial + 7);

    uint64_t frames = 1UL << (cpu_features.phys_bits - PAGE_SHIFT);
    if (!rc)
        rc = range_add(&d->iomem, 0, frames - 1);
    uint64_t lapic = acpi_info.lapic_address.a >> PAGE_SHIFT;
    if (!rc)
        rc = range_remove(&d->iomem, lapic, lapic);
    for (unsigned i = 0; !rc && i < acpi_info.ioapics; i++) {
        uint64_t frame = acpi_info.ioapic[i].address.a >> PAGE_SHIFT;
        rc = range_remove(&d->iomem, frame, frame);
    }
    if (!rc && d->is_hvm && acpi_info.hpet.a) /* such kernels would set it up anew */
        rc =
            range_remove(&d->iomem, acpi_info.hpet.a >> PAGE_SHIFT, acpi_info.hpet.a >> PAGE_SHIFT);
    if (!rc)
        rc = range_add(&d->irqs, 0, MAX_IRQS - 1);
    if (rc)
        panic("cannot record what domain 0 may use: error %d", rc);
}

struct domain *dom0_create(uint64_t pages, uint32_t flags, uint32_t emulation)
{
    unsigned online = bitmap_weight(cpus_online.bits, MAX_CPUS);
    struct domain_config config = {
        .max_vcpus = boot_options.dom0_max_vcpus ? boot_options.dom0_max_vcpus : online,
        .max_evtchn_port = ~0u,
        .max_grant_frames = -1,
        .max_maptrack_frames = -1,
        .flags = flags,
        .emulation = emulation,
        .privileged = true,
    };
    config.max_vcpus = min(config.max_vcpus, (unsigned)MAX_VCPUS);
    struct domain *d;
    int rc = domain_create(0, &config, &d);
    if (rc)
        panic("cannot create domain 0: error %d", rc);
    uint64_t most = boot_options.dom0_mem_max >> PAGE_SHIFT;
    d->max_pages = max(pages, most);
    for (unsigned i = 0; i < config.max_vcpus; i++) {
        rc = vcpu_create(d, i, i % online);
        if (rc)
            panic("cannot create vCPU %u of domain 0: error %d", i, rc);
    }
    return d;
}

/* vCPU n on the CPU on which it was created. */
static void pin_vcpus(struct domain *d)
{
    struct vcpu *v;
    for_each_vcpu(d, v) {
        struct cpu_mask one = {0}, soft = v->sched.soft;
        bit_set(one.bits, v->sched.cpu);
        int rc = sched_set_affinity(&v->sched, &one, &soft);
        if (rc)
            panic("cannot pin vCPU %u of domain 0: error %d", v->id, rc);
    }
}

static struct domain *build_pv(const struct dom0_image *img, uint64_t pages)
{
    const struct boot_module *initrd = bootinfo.modules > 1 ? &bootinfo.module[1] : NULL;
    struct dom0_layout l;
    const char *why = dom0_layout_plan(&l, img, pages, initrd ? initrd->size : 0);
    if (why)
        panic("domain 0 kernel: %s (%lu KiB given)", why, pages << 2);

    struct domain *d = dom0_create(pages, 0, 0);
    unsigned list_order;
    mfn_t *frames = allocate(d, pages, &list_order);
    load_kernel(img, frames);
    if (initrd)
        write_guest(frames, l.initrd_pfn << PAGE_SHIFT, maddr_to_virt(initrd->start), initrd->size);
    write_guest(frames, l.p2m_pfn << PAGE_SHIFT, frames, pages * sizeof(mfn_t));
    fill_start_info(d, &l, img, frames, pages);

    mfn_t l4 = frames[dom0_pagetables_build(&l, img, frames)];
    int rc = pv_pin_table(d, l4, PAGE_L4);
    if (rc)
        panic("domain 0's first page tables are refused: error %d", rc);
    start_vcpu(d, &l, img, l4);
    page_free(virt_to_page(frames), list_order);
    return d;
}

void dom0_build(void)
{
    struct dom0_image img;
    /* With a whole PC's devices, for tests of these by tiny kernels. */
    bool platform = !strcmp(boot_options.dom0, "pvh,platform");
    bool pvh = platform || !strcmp(boot_options.dom0, "pvh");
    if (boot_options.dom0[0] && !pvh && strcmp(boot_options.dom0, "pv"))
        log_warn("dom0=%s is not known (pv or pvh): pv", boot_options.dom0);
    if (!bootinfo.modules)
        panic("no domain 0 kernel: the boot loader gave no module");
    const struct boot_module *kernel = &bootinfo.module[0];
    if (pvh && !bootinfo_move_modules())
        panic("no memory to move the modules to, out of domain 0's way");

    const char *why = dom0_image_open(&img, maddr_to_virt(kernel->start), kernel->size, pvh);
    if (why)
        panic("domain 0 kernel (first module, %lu bytes): %s", kernel->size, why);

    uint64_t pages = choose_pages();
    struct domain *d = pvh ? dom0_build_pvh(&img, pages, platform) : build_pv(&img, pages);
    give_machine(d);
    log_info("domain 0: %lu MiB, %u vCPUs, %s kernel at 0x%lx, entry 0x%lx, initrd %lu KiB",
             pages >> 8, d->max_vcpus, pvh ? "PVH" : "PV", img.start, img.entry,
             bootinfo.modules > 1 ? bootinfo.module[1].size >> 10 : 0);
    dom0_image_close(&img);
    dom0 = d;
    if (boot_options.dom0_vcpus_pin)
        pin_vcpus(d);
    int rc = domain_unpause_by_controller(d);
    if (rc)
        panic("domain 0 cannot be started: error %d", rc);
}
