/* Shared by the files of dom0/: the kernel image, the layout of its first address space. */
#ifndef DOM0_INTERNAL_H
#define DOM0_INTERNAL_H

#include "domain/domain.h"
#include "lib/elf.h"

/* What the kernel says of itself (xen/elfnote.h), addresses as the kernel sees them. */
struct dom0_image {
    struct elf_image elf;
    uint64_t virt_base; /* where pseudo-physical 0 is mapped at the start */
    uint64_t paddr_offset;
    uint64_t entry, hypercall_page;
    uint64_t init_p2m;    /* 0: the list lies in the initial mapping */
    uint64_t start, end;  /* virtual, of all segments */
    bool initrd_unmapped; /* XEN_ELFNOTE_MOD_START_PFN */
};

/* The initial mapping: bytes are virtual addresses, pfns pseudo-physical frame numbers. */
struct dom0_layout {
    uint64_t v_start, v_end; /* the initial mapping, 4 MiB aligned at the end */
    uint64_t start_info, initrd, p2m, page_tables, stack; /* virtual */
    uint64_t initrd_pfn, p2m_pfn;                         /* first frames */
    uint64_t p2m_frames, pt_frames, initrd_frames;
    uint64_t mapped_frames; /* pfns below this are in the initial mapping */
    uint64_t needed_frames; /* pfns that hold something at the start */
};

/*
 * Finds and reads the kernel in @data (compressed or not). Panics are the caller's: NULL on
 * success, else a phrase saying what is wrong. The image may point into memory freed by
 * dom0_image_close(). @pvh: by its physical addresses, entered there.
 */
const char *dom0_image_open(struct dom0_image *img, const void *data, size_t size, bool pvh);
void dom0_image_close(struct dom0_image *img);

/* Pure: places everything; a phrase when it cannot be, NULL when done. */
const char *dom0_layout_plan(struct dom0_layout *l, const struct dom0_image *img, uint64_t pages,
                             uint64_t initrd_bytes);

/* @frames: machine frame of each pfn. Fills the page-table pages; returns the top-level one's pfn.
 */
uint64_t dom0_pagetables_build(const struct dom0_layout *l, const struct dom0_image *img,
                               const mfn_t *frames);

/* The domain with its vCPUs, as the command line has it; @flags: XEN_DOMCTL_CDF_*;
 * @emulation: XEN_X86_EMU_*. */
struct domain *dom0_create(uint64_t pages, uint32_t flags, uint32_t emulation);

/*
 * ACPI tables for a PVH domain 0 with @vcpus vCPUs, to stand at guest-physical @at: the firmware's,
 * but for those that speak of CPUs, interrupts and timers that are not its own. Bytes used of
 * @size; 0: too many. The root pointer (RSDP) is at the start.
 */
size_t dom0_acpi_build(void *buf, size_t size, uint64_t at, unsigned vcpus);

/* All of it but the right to the machine. Panics. */
struct domain *dom0_build_pvh(const struct dom0_image *img, uint64_t pages, bool whole_pc);

#endif
