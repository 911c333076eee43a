/* SOURCES: lib/elf.c */
/* A kernel image as a boot loader hands it over: everything that elf.h can be asked about it. */
#include "fuzz.h"

#include "lib/elf.h"

static volatile uint64_t sink;

static void read_bytes(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sink += p[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elf_image e;
    struct elf_segment s;
    const char *why = NULL;
    if (elf_open(&e, data, size, &why)) {
        CHECK(why);
        return 0;
    }
    for (unsigned i = 0; i < e.segments; i++) {
        if (!elf_load_segment(&e, i, &s))
            continue;
        CHECK(s.filesz <= s.memsz);
        read_bytes(data + s.offset, s.filesz);
    }
    for (uint32_t type = 0; type < 20; type++) {
        size_t n;
        const void *note = elf_xen_note(&e, type, &n);
        if (note)
            read_bytes(note, n);
        sink += elf_xen_note_u64(&e, type, 0);
    }
    return 0;
}
