/*
 * ELF reader (lib/elf.h), pure. The image comes from a loader and may be cut short or hostile:
 * headers are copied out of it field by field after their place was checked against its size, and
 * no offset is added to another before it was checked for overflow.
 */
#include "lib/elf.h"
#include "lib/string.h"

/* System V ABI, AMD64 supplement; gABI chapters 4 and 5. */
struct file_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
_Static_assert(sizeof(struct file_header) == 64, "Elf64_Ehdr");

struct program_header {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
_Static_assert(sizeof(struct program_header) == 56, "Elf64_Phdr");

struct section_header {
    uint32_t name, type;
    uint64_t flags, addr, offset, size;
    uint32_t link, info;
    uint64_t addralign, entsize;
};
_Static_assert(sizeof(struct section_header) == 64, "Elf64_Shdr");

struct note_header {
    uint32_t namesz, descsz, type;
};

#define ET_EXEC   2
#define ET_DYN    3
#define EM_X86_64 62
#define PT_LOAD   1
#define PT_NOTE   4
#define SHT_NOTE  7

/* @size bytes at @offset, or NULL. */
static const void *at(const struct elf_image *e, uint64_t offset, uint64_t size)
{
    if (offset > e->size || size > e->size - offset)
        return NULL;
    return e->data + offset;
}

static bool read_at(const struct elf_image *e, uint64_t offset, void *out, size_t size)
{
    const void *p = at(e, offset, size);
    if (p)
        memcpy(out, p, size);
    return p != NULL;
}

static bool read_segment(const struct elf_image *e, unsigned i, struct program_header *ph)
{
    struct file_header h;
    return i < e->segments && read_at(e, 0, &h, sizeof(h)) &&
           h.phoff <= e->size && /* so that the sum cannot wrap */
           read_at(e, h.phoff + (uint64_t)i * h.phentsize, ph, sizeof(*ph));
}

int elf_open(struct elf_image *e, const void *data, size_t size, const char **why)
{
    struct file_header h;
    *e = (struct elf_image){.data = data, .size = size};
    if (!read_at(e, 0, &h, sizeof(h)) || memcmp(h.ident, "\177ELF", 4)) {
        *why = "not an ELF file";
        return -XEN_ENOEXEC;
    }
    if (h.ident[4] != 2 || h.ident[5] != 1 || h.machine != EM_X86_64) {
        *why = "not a 64-bit x86 ELF file";
        return -XEN_ENOEXEC;
    }
    if (h.type != ET_EXEC && h.type != ET_DYN) {
        *why = "an ELF file, but not an executable";
        return -XEN_ENOEXEC;
    }
    if (!h.phnum || h.phentsize < sizeof(struct program_header) ||
        !at(e, h.phoff, (uint64_t)h.phnum * h.phentsize)) {
        *why = "ELF program headers are missing or cut off";
        return -XEN_ENOEXEC;
    }
    e->entry = h.entry;
    e->segments = h.phnum;

    for (unsigned i = 0; i < e->segments; i++) {
        struct program_header ph;
        if (read_segment(e, i, &ph) && ph.type == PT_LOAD &&
            (!at(e, ph.offset, ph.filesz) || ph.filesz > ph.memsz)) {
            *why = "an ELF segment is cut off";
            return -XEN_ENOEXEC;
        }
    }
    return 0;
}

bool elf_load_segment(const struct elf_image *e, unsigned i, struct elf_segment *seg)
{
    struct program_header ph;
    if (!read_segment(e, i, &ph) || ph.type != PT_LOAD || !ph.memsz || ph.filesz > ph.memsz ||
        !at(e, ph.offset, ph.filesz))
        return false;
    *seg = (struct elf_segment){ph.offset, ph.vaddr, ph.paddr, ph.filesz, ph.memsz};
    return true;
}

/* Notes are packed, each part padded to 4 bytes (the Xen notes are, whatever p_align says). */
static const void *find_note(const uint8_t *notes, uint64_t size, uint32_t type, size_t *desc_size)
{
    struct note_header n;
    while (size >= sizeof(n)) {
        memcpy(&n, notes, sizeof(n));
        uint64_t name = ROUND_UP((uint64_t)n.namesz, 4), desc = ROUND_UP((uint64_t)n.descsz, 4);
        notes += sizeof(n);
        size -= sizeof(n);
        if (name > size || n.descsz > size - name)
            return NULL;
        if (n.type == type && n.namesz == 4 && !memcmp(notes, "Xen", 4)) {
            *desc_size = n.descsz;
            return notes + name;
        }
        if (desc > size - name)
            return NULL;
        notes += name + desc;
        size -= name + desc;
    }
    return NULL;
}

const void *elf_xen_note(const struct elf_image *e, uint32_t type, size_t *size)
{
    for (unsigned i = 0; i < e->segments; i++) {
        struct program_header ph;
        const uint8_t *notes;
        if (!read_segment(e, i, &ph) || ph.type != PT_NOTE ||
            !(notes = at(e, ph.offset, ph.filesz)))
            continue;
        const void *desc = find_note(notes, ph.filesz, type, size);
        if (desc)
            return desc;
    }

    struct file_header h;
    if (!read_at(e, 0, &h, sizeof(h)) || h.shentsize < sizeof(struct section_header) ||
        !at(e, h.shoff, (uint64_t)h.shnum * h.shentsize))
        return NULL;
    for (unsigned i = 0; i < h.shnum; i++) {
        struct section_header sh;
        const uint8_t *notes;
        if (!read_at(e, h.shoff + (uint64_t)i * h.shentsize, &sh, sizeof(sh)) ||
            sh.type != SHT_NOTE || !(notes = at(e, sh.offset, sh.size)))
            continue;
        const void *desc = find_note(notes, sh.size, type, size);
        if (desc)
            return desc;
    }
    return NULL;
}

uint64_t elf_xen_note_u64(const struct elf_image *e, uint32_t type, uint64_t fallback)
{
    size_t size;
    const void *desc = elf_xen_note(e, type, &size);
    if (!desc)
        return fallback;
    if (size == 8) {
        uint64_t v;
        memcpy(&v, desc, sizeof(v));
        return v;
    }
    if (size == 4) {
        uint32_t v;
        memcpy(&v, desc, sizeof(v));
        return v;
    }
    return fallback;
}
