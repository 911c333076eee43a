/* The domain 0 kernel: taken out of its wrapper, read as ELF, its Xen notes checked. */
#include "dom0/internal.h"
#include "lib/string.h"
#include "lib/unpack.h"

#include <xen/elfnote.h>

/* Memory for decompression: whole blocks of the page allocator, remembered to be given back. */
#define ARENA_BLOCKS 128
static struct {
    struct page *page;
    unsigned order;
} arena[ARENA_BLOCKS] __initdata;
static unsigned arena_used __initdata;

static void *arena_alloc(void *opaque, size_t size)
{
    unsigned order = page_order(size);
    if (arena_used == ARENA_BLOCKS)
        return NULL;
    struct page *page = page_alloc(order, 0);
    if (!page)
        return NULL;
    arena[arena_used].page = page;
    arena[arena_used++].order = order;
    return page_to_virt(page);
}

void dom0_image_close(struct dom0_image *img)
{
    while (arena_used) {
        arena_used--;
        page_free(arena[arena_used].page, arena[arena_used].order);
    }
}

static const char *read_extent(struct dom0_image *img)
{
    struct elf_segment s;
    img->start = ~0UL;
    img->end = 0;
    for (unsigned i = 0; i < img->elf.segments; i++) {
        if (!elf_load_segment(&img->elf, i, &s))
            continue;
        uint64_t va = s.paddr - img->paddr_offset + img->virt_base;
        if (va < img->virt_base || va + s.memsz < va)
            return "it has a segment outside of its own address space";
        img->start = min(img->start, va);
        img->end = max(img->end, va + s.memsz);
    }
    return img->end ? NULL : "it has nothing to load";
}

/* Virtual addresses are physical ones here. */
static const char *read_pvh(struct dom0_image *img)
{
    img->entry = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_PHYS32_ENTRY, 0);
    if (!img->entry)
        return "it is not a PVH kernel (no XEN_ELFNOTE_PHYS32_ENTRY)";
    const char *why = read_extent(img);
    if (why)
        return why;
    if (img->entry < img->start || img->entry >= img->end)
        return "its entry point is outside of it";
    return NULL;
}

const char *dom0_image_open(struct dom0_image *img, const void *data, size_t size, bool pvh)
{
    const struct unpack_arena memory = {.alloc = arena_alloc};
    const void *elf;
    size_t elf_size;
    const char *why = "unknown format";
    memset(img, 0, sizeof(*img));

    if (unpack_kernel(data, size, &memory, &elf, &elf_size, &why))
        return why;
    if (elf_open(&img->elf, elf, elf_size, &why))
        return why;
    if (pvh)
        return read_pvh(img);

    img->entry = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_ENTRY, 0);
    if (!img->entry)
        return "it is not a Xen PV kernel (no XEN_ELFNOTE_ENTRY)";
    img->virt_base = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_VIRT_BASE, 0);
    img->paddr_offset = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_PADDR_OFFSET, 0);
    img->hypercall_page = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_HYPERCALL_PAGE, 0);
    img->init_p2m = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_INIT_P2M, 0);
    img->initrd_unmapped = elf_xen_note_u64(&img->elf, XEN_ELFNOTE_MOD_START_PFN, 0) != 0;

    if (img->virt_base & (PAGE_SIZE - 1))
        return "its XEN_ELFNOTE_VIRT_BASE is not page-aligned";
    why = read_extent(img);
    if (why)
        return why;
    if (img->entry < img->start || img->entry >= img->end)
        return "its entry point is outside of it";
    if (img->hypercall_page &&
        (img->hypercall_page & (PAGE_SIZE - 1) || img->hypercall_page < img->start ||
         img->hypercall_page >= img->end))
        return "its hypercall page is outside of it";
    return NULL;
}
