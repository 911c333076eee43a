/*
 * xen_version (xen/version.h): what the guest runs on. The numbers are those of the ABI that we
 * keep, Xen 4.17; the extra version says who we are.
 */
#include "boot/bootinfo.h"
#include "domain/domain.h"
#include "hvm/hvm.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/features.h>
#include <xen/version.h>

static const char changeset[] = "trilby";
static const char compile_date[] = "unknown"; /* builds are reproducible: no date inside */

static __noinline long get_features(guest_ptr_t arg)
{
    xen_feature_info_t info;
    const struct domain *d = current_domain();
    int rc = copy_from_guest(&info, arg, sizeof(info));
    if (rc)
        return rc;

    if (info.submap_idx >= XENFEAT_NR_SUBMAPS)
        return -XEN_EINVAL;
    info.submap = 0;
    if (info.submap_idx == 0) {
        info.submap = 1u << XENFEAT_mmu_pt_update_preserve_ad | 1u << XENFEAT_highmem_assist |
                      1u << XENFEAT_gnttab_map_avail_bits;
        if (d->is_hvm)
            info.submap = 1u << XENFEAT_writable_page_tables |
                          1u << XENFEAT_writable_descriptor_tables |
                          1u << XENFEAT_auto_translated_physmap |
                          1u << XENFEAT_supervisor_mode_kernel | 1u << XENFEAT_highmem_assist |
                          1u << XENFEAT_hvm_callback_vector | 1u << XENFEAT_hvm_safe_pvclock;
        if (d->vm_assist & (1u << VMASST_TYPE_pae_extended_cr3))
            info.submap |= 1u << XENFEAT_pae_pgdir_above_4gb;
        if (d->privileged)
            info.submap |= 1u << XENFEAT_dom0;
    }
    return copy_to_guest(arg, &info, sizeof(info));
}

static __noinline long get_compile_info(guest_ptr_t arg)
{
    xen_compile_info_t info = {0};
    str_copy(info.compiler, "gcc " __VERSION__, sizeof(info.compiler));
    str_copy(info.compile_by, "trilby", sizeof(info.compile_by));
    str_copy(info.compile_domain, "", sizeof(info.compile_domain));
    str_copy(info.compile_date, compile_date, sizeof(info.compile_date));
    return copy_to_guest(arg, &info, sizeof(info));
}

/* A fixed-size string out, zero-filled. */
static __noinline long put_string(guest_ptr_t arg, const char *s, size_t size)
{
    char buf[sizeof(xen_commandline_t)];
    _Static_assert(sizeof(buf) >= sizeof(xen_capabilities_info_t), "the largest of the strings");
    memset(buf, 0, sizeof(buf));
    str_copy(buf, s, size);
    return copy_to_guest(arg, buf, size);
}

static __noinline long get_platform_parameters(guest_ptr_t arg)
{
    xen_platform_parameters_t params = {.virt_start = HV_VIRT_START};
    return copy_to_guest(arg, &params, sizeof(params));
}

/* What the rarer ones need on the stack, the others need not pay for: they are not inlined. */
long hc_xen_version(uint64_t cmd, uint64_t arg)
{
    guest_ptr_t p = guest_ptr(arg);
    const struct domain *d = current_domain();

    switch (cmd) {
    case XENVER_version:
        return ABI_VERSION;
    case XENVER_extraversion:
        return put_string(p, ".0-trilby", sizeof(xen_extraversion_t));
    case XENVER_compile_info:
        return get_compile_info(p);
    case XENVER_capabilities:
        return put_string(p,
                          hvm_available()
                              ? "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
                              : "xen-3.0-x86_64 ",
                          sizeof(xen_capabilities_info_t));
    case XENVER_changeset:
        return put_string(p, changeset, sizeof(xen_changeset_info_t));
    case XENVER_platform_parameters:
        return get_platform_parameters(p);
    case XENVER_get_features:
        return get_features(p);
    case XENVER_pagesize:
        return arg ? -XEN_EINVAL : (long)PAGE_SIZE;
    case XENVER_guest_handle:
        return copy_to_guest(p, d->uuid, sizeof(xen_domain_handle_t));
    case XENVER_commandline:
        /* May tell of the host: the control domain only, others see an empty line. */
        return put_string(p, d->privileged ? bootinfo.cmdline : "", sizeof(xen_commandline_t));
    case XENVER_build_id:
        return -XEN_ENODATA; /* the image carries none */
    default:
        return -XEN_ENOSYS;
    }
}
