/*
 * What does the hypervisor tell a new domain about itself? Every xen_version operation, the
 * features, start_info, and the bootstrap mapping that xen/xen.h ("Start-of-day memory layout")
 * promises. The simplest guest: the first domain 0 of a new hypervisor.
 */
#include "guest.h"

extern char image_end[];
const char test_name[] = "info";

static bool terminated(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!s[i])
            return true;
    return false;
}

static void version(void)
{
    static char text[1024];
    static struct xen_compile_info compile;
    long v = HC(xen_version, XENVER_version, 0);

    section("version strings");
    print("version %ld.%ld\n", v >> 16, v & 0xffff);
    CHECK_EQ(v, 4 << 16 | 17);
    memset(text, 'x', sizeof(text));
    CHECK_EQ(HC(xen_version, XENVER_extraversion, text), 0);
    CHECK(terminated(text, sizeof(xen_extraversion_t)));
    CHECK_EQ(text[sizeof(xen_extraversion_t)], 'x');
    print("extraversion '%s'\n", text);
    memset(&compile, 'x', sizeof(compile));
    CHECK_EQ(HC(xen_version, XENVER_compile_info, &compile), 0);
    CHECK(terminated(compile.compiler, sizeof(compile.compiler)));
    CHECK(terminated(compile.compile_by, sizeof(compile.compile_by)));
    CHECK(terminated(compile.compile_domain, sizeof(compile.compile_domain)));
    CHECK(terminated(compile.compile_date, sizeof(compile.compile_date)));
    print("compiler '%s' by '%s' at '%s' on '%s'\n", compile.compiler, compile.compile_by,
          compile.compile_domain, compile.compile_date);
    memset(text, 'x', sizeof(text));
    CHECK_EQ(HC(xen_version, XENVER_capabilities, text), 0);
    CHECK(terminated(text, sizeof(text)));
    print("capabilities '%s'\n", text);
    CHECK(!strncmp(text, "xen-3.0-x86_64 ", 15));
    memset(text, 'x', sizeof(text));
    CHECK_EQ(HC(xen_version, XENVER_changeset, text), 0);
    CHECK(terminated(text, sizeof(xen_changeset_info_t)));
    print("changeset '%s'\n", text);
    memset(text, 'x', sizeof(text));
    CHECK_EQ(HC(xen_version, XENVER_commandline, text), 0);
    CHECK(terminated(text, sizeof(text)));
    print("hypervisor command line '%s'\n", text);
}

static void numbers(void)
{
    struct xen_platform_parameters params = {.virt_start = 0};
    struct xen_feature_info f = {.submap_idx = 0};
    xen_domain_handle_t handle;
    uint8_t zero[sizeof(handle)] = {0};

    section("numbers");
    CHECK_EQ(HC(xen_version, XENVER_pagesize, 0), PAGE_SIZE);
    CHECK_EQ(HC(xen_version, XENVER_platform_parameters, &params), 0);
    CHECK_EQ(params.virt_start, HYPERVISOR_VIRT_START);
    CHECK_EQ(HC(xen_version, XENVER_get_features, &f), 0);
    print("features 0x%x\n", f.submap);
    CHECK(f.submap & 1u << XENFEAT_mmu_pt_update_preserve_ad);
    CHECK(f.submap & 1u << XENFEAT_highmem_assist);
    CHECK(f.submap & 1u << XENFEAT_gnttab_map_avail_bits);
    /* Neither flag means direct-mapped too (features.h). */
    CHECK(!(f.submap & 1u << XENFEAT_not_direct_mapped));
    CHECK_EQ(!!(f.submap & 1u << XENFEAT_dom0), is_dom0());
    CHECK(!(f.submap & 1u << XENFEAT_auto_translated_physmap));
    CHECK(!(f.submap & 1u << XENFEAT_writable_page_tables));
    CHECK(!(f.submap & 1u << XENFEAT_supervisor_mode_kernel));
    CHECK(!(f.submap & 1u << XENFEAT_hvm_callback_vector));
    f.submap_idx = 1;
    CHECK_EQ(HC(xen_version, XENVER_get_features, &f), -XEN_EINVAL);
    memset(handle, 0xff, sizeof(handle));
    CHECK_EQ(HC(xen_version, XENVER_guest_handle, handle), 0);
    if (is_dom0())
        CHECK(!memcmp(handle, zero, sizeof(zero)));
}

static void build_id(void)
{
    static struct {
        uint32_t len;
        unsigned char buf[64];
    } id;
    long size = HC(xen_version, XENVER_build_id, 0);

    section("build id");
    if (size == -XEN_ENODATA) {
        print("no build id\n");
        return;
    }
    CHECK(size > 0 && size <= 64);
    id.len = 64;
    CHECK_EQ(HC(xen_version, XENVER_build_id, &id), size);
    id.len = 1;
    CHECK_EQ(HC(xen_version, XENVER_build_id, &id), -XEN_ENOBUFS);
    id.len = 0;
    CHECK_EQ(HC(xen_version, XENVER_build_id, &id), -XEN_EINVAL);
}

static void refusals(void)
{
    section("xen_version refusals");
    CHECK_EQ(HC(xen_version, 11, 0), -XEN_ENOSYS);
    CHECK_EQ(HC(xen_version, -1, 0), -XEN_ENOSYS);
    CHECK_EQ(HC(xen_version, XENVER_extraversion, 0), -XEN_EFAULT);
    CHECK_EQ(HC(xen_version, XENVER_extraversion, BAD_HYPERVISOR), -XEN_EFAULT);
    CHECK_EQ(HC(xen_version, XENVER_compile_info, BAD_NONCANONICAL), -XEN_EFAULT);
    CHECK_EQ(HC(xen_version, XENVER_get_features, BAD_UNMAPPED), -XEN_EFAULT);
    CHECK_EQ(HC(xen_version, XENVER_capabilities, -512L), -XEN_EFAULT);
}

static void start_of_day(void)
{
    uint64_t root, pages = start_info->nr_pages, end;

    section("start_info");
    print("magic '%s', %lu pages, flags 0x%x\n", start_info->magic, pages, start_info->flags);
    print("shared_info 0x%lx pt_base 0x%lx (%lu frames) mfn_list 0x%lx stack 0x%lx\n",
          start_info->shared_info, start_info->pt_base, start_info->nr_pt_frames,
          start_info->mfn_list, boot_stack);
    print("module 0x%lx + 0x%lx, p2m pfns 0x%lx + 0x%lx, command line '%s'\n",
          start_info->mod_start, start_info->mod_len, start_info->first_p2m_pfn,
          start_info->nr_p2m_frames, (char *)start_info->cmd_line);
    CHECK(!strncmp(start_info->magic, "xen-3.0-x86_64", 14));
    CHECK(terminated((char *)start_info->cmd_line, MAX_GUEST_CMDLINE));
    CHECK_EQ((uint64_t)start_info % PAGE_SIZE, 0);
    CHECK_EQ(start_info->shared_info % PAGE_SIZE, 0);
    CHECK_EQ(start_info->pt_base % PAGE_SIZE, 0);
    CHECK(start_info->nr_pt_frames >= 4);
    CHECK(pages >= 1024);
    CHECK_EQ(start_info->flags & (SIF_MULTIBOOT_MOD | SIF_MOD_START_PFN), 0);
    if (is_dom0()) {
        CHECK_EQ(start_info->flags & SIF_PRIVILEGED, SIF_PRIVILEGED);
        CHECK_EQ(start_info->store_mfn, 0);
        CHECK_EQ(start_info->store_evtchn, 0);
    }
    CHECK(has_argument("probe")); /* the runner passes it */

    section("order and mapping of the bootstrap region");
    end = (boot_stack + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    CHECK(start_info->mfn_list >= (uint64_t)image_end);
    CHECK((uint64_t)start_info > start_info->mfn_list);
    CHECK((uint64_t)start_info - start_info->mfn_list >= pages * 8);
    CHECK(start_info->pt_base > (uint64_t)start_info);
    CHECK(boot_stack > start_info->pt_base + start_info->nr_pt_frames * PAGE_SIZE - 1);
    /* At least 512 KiB of mapped padding, up to a multiple of 4 MiB. */
    for (uint64_t va = VIRT_BASE; va < end + 0x80000; va += PAGE_SIZE) {
        uint64_t *e = pt_entry((void *)va, 1);
        bool table = va >= start_info->pt_base &&
                     va < start_info->pt_base + start_info->nr_pt_frames * PAGE_SIZE;

        if ((void *)va == shared())
            continue; /* our own doing */
        if (!e || !(*e & PTE_P) || (*e & PTE_ADDR) >> 12 != mfn_of((void *)va) ||
            !(*e & PTE_RW) != table || mfn_to_pfn(mfn_of((void *)va)) != pfn_of((void *)va)) {
            print("at 0x%lx entry 0x%lx, frame 0x%lx\n", va, e ? *e : 0, mfn_of((void *)va));
            CHECK(!"bootstrap page is mapped as promised");
            break;
        }
    }
    root = mfn_of((void *)start_info->pt_base);
    asm("mov %%cr3, %0" : "=r"(end));
    CHECK_EQ(end >> 12, root);

    section("machine-to-physical table");
    for (uint64_t pfn = 0, bad = 0; pfn < pages && !bad; pfn++)
        if ((bad = mfn_to_pfn(pfn_to_mfn(pfn)) != pfn))
            CHECK_EQ(mfn_to_pfn(pfn_to_mfn(pfn)), pfn);
    checks_passed++;
}

static void entry_state(void)
{
    uint16_t cs, ss, ds, es, fs, gs;
    struct vcpu_info *v = vcpu_info(0);

    section("state at entry");
    asm("mov %%cs, %0; mov %%ss, %1; mov %%ds, %2" : "=r"(cs), "=r"(ss), "=r"(ds));
    asm("mov %%es, %0; mov %%fs, %1; mov %%gs, %2" : "=r"(es), "=r"(fs), "=r"(gs));
    print("cs %x ss %x ds %x es %x fs %x gs %x\n", cs, ss, ds, es, fs, gs);
    CHECK_EQ(cs, FLAT_KERNEL_CS);
    CHECK_IN(ss, FLAT_KERNEL_SS, 0);
    CHECK_EQ(fs, 0);
    CHECK_EQ(gs, 0);
    if (v) {
        CHECK_EQ(v->evtchn_upcall_mask, 1);
        CHECK(v->time.version && !(v->time.version & 1));
        CHECK(v->time.tsc_to_system_mul != 0);
        CHECK(shared()->wc_sec != 0);
        print("wall clock %u s\n", shared()->wc_sec);
    }
}

void test_main(void)
{
    version();
    numbers();
    build_id();
    refusals();
    start_of_day();
    entry_state();
}
