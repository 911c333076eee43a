/*
 * Reading 64-bit x86 ELF files and the Xen notes in them (System V ABI ch. 4-5;
 * /usr/include/xen/elfnote.h). Every offset is checked against the image's size.
 */
#ifndef LIB_ELF_H
#define LIB_ELF_H

#include "lib/compiler.h"
#include "lib/types.h"

struct elf_segment {
    uint64_t offset, vaddr, paddr, filesz, memsz;
};

struct elf_image {
    const uint8_t *data;
    size_t size;
    uint64_t entry;
    unsigned segments; /* number of program headers */
};

/* -XEN_ENOEXEC and *why set to a phrase when it is not one we can load. */
int __must_check elf_open(struct elf_image *e, const void *data, size_t size, const char **why);

/* Program header @i when it is PT_LOAD with memsz > 0 and in bounds; false otherwise. */
bool elf_load_segment(const struct elf_image *e, unsigned i, struct elf_segment *seg);

/* The Xen note of @type: PT_NOTE first, then SHT_NOTE sections. NULL when absent. */
const void *elf_xen_note(const struct elf_image *e, uint32_t type, size_t *size);

/* A numeric note of 4 or 8 bytes; @fallback when absent. */
uint64_t elf_xen_note_u64(const struct elf_image *e, uint32_t type, uint64_t fallback);

#endif
