/*
 * What the two multiboot protocols tell us (Multiboot Specification 0.6.96 section 3.3; Multiboot2
 * Specification 2.0 section 3.6), copied into `bootinfo`; nothing points into the loader's memory
 * afterwards but the modules themselves. The loader is trusted to mean well, not to be right:
 * counts, lengths and strings are bounded, and what does not fit is reported and left out.
 */
#include "boot/internal.h"
#include "console/console.h"
#include "lib/string.h"
#include "mm/mm.h"

/* Both protocols speak of 32-bit physical addresses, which the early direct map covers. */
static const uint8_t *phys(uint64_t address)
{
    return maddr_to_virt(maddr(address));
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* @max: bytes that may be looked at. */
static void copy_text(char *dst, size_t size, const char *src, size_t max, const char *what)
{
    size_t n = strnlen(src, max);
    if (n >= size) {
        log_warn("%s is longer than %lu characters: cut off", what, size - 1);
        n = size - 1;
    }
    memcpy(dst, src, n);
    dst[n] = '\0';
}

/*
 * Most loaders put the file's name first. GRUB 2 does not, but the script that makes its menu puts
 * the word "placeholder" there.
 */
static void drop_file_name(char *line, bool grub2)
{
    char *p = line;
    while (*p == ' ')
        p++;
    size_t word = 0;
    while (p[word] && p[word] != ' ')
        word++;
    if (!grub2 || (word == 11 && !strncmp(p, "placeholder", 11)))
        p += word;
    while (*p == ' ')
        p++;
    memmove(line, p, strlen(p) + 1);
}

static void add_module(struct bootinfo *b, uint32_t start, uint32_t end, const char *cmdline,
                       size_t max, bool grub2)
{
    if (b->modules == BOOT_MAX_MODULES) {
        log_warn("more than %u modules: the one at 0x%x is ignored", BOOT_MAX_MODULES, start);
        return;
    }
    unsigned i = b->modules++;
    struct boot_module *m = &b->module[i];
    m->start = maddr(start);
    m->size = end > start ? end - start : 0;
    copy_text(b->module_cmdline[i], sizeof(b->module_cmdline[i]), cmdline, max,
              "a module's command line");
    drop_file_name(b->module_cmdline[i], grub2);
    m->cmdline = b->module_cmdline[i];
    if (!m->size)
        log_warn("module %u is empty", i);
}

/* Types of framebuffers, in both protocols. */
#define FRAMEBUFFER_RGB  1
#define FRAMEBUFFER_TEXT 2

/* @from: address, pitch, width, height, bits, type, as both protocols have it. @colours: position
 * and size of red, green and blue; NULL when they are not told. */
static void read_framebuffer(struct framebuffer *fb, const uint8_t *from, const uint8_t *colours)
{
    uint32_t pitch = get32(from + 8), width = get32(from + 12), height = get32(from + 16);
    uint8_t bits = from[20], type = from[21];
    if (type == FRAMEBUFFER_TEXT)
        return;
    *fb = (struct framebuffer){.base = maddr(get64(from))};
    if (type != FRAMEBUFFER_RGB || !colours || (bits != 16 && bits != 24 && bits != 32) ||
        width > UINT16_MAX || height > UINT16_MAX || pitch > UINT16_MAX ||
        pitch / (bits / 8) < width)
        return;
    fb->pitch = pitch;
    fb->width = width;
    fb->height = height;
    fb->bits = bits;
    fb->red_position = colours[0];
    fb->red_size = colours[1];
    fb->green_position = colours[2];
    fb->green_size = colours[3];
    fb->blue_position = colours[4];
    fb->blue_size = colours[5];
}

/* Flags and offsets of the multiboot 1 information structure. */
#define MB1_MEMORY      (1u << 0)
#define MB1_CMDLINE     (1u << 2)
#define MB1_MODULES     (1u << 3)
#define MB1_MAP         (1u << 6)
#define MB1_LOADER      (1u << 9)
#define MB1_FRAMEBUFFER (1u << 12)
#define MB1_TEXT_MAX    4096

void multiboot1_read(struct bootinfo *b, struct raw_map *raw, uint32_t info)
{
    const uint8_t *mbi = phys(info);
    uint32_t flags = get32(mbi);
    bool grub2 = flags & MB1_LOADER && !strncmp((const char *)phys(get32(mbi + 64)), "GRUB 2", 6);
    b->loader = "multiboot1";

    if (flags & MB1_CMDLINE) {
        copy_text(b->cmdline, sizeof(b->cmdline), (const char *)phys(get32(mbi + 16)), MB1_TEXT_MAX,
                  "the command line");
        drop_file_name(b->cmdline, grub2);
    }
    if (flags & MB1_MODULES) {
        uint32_t count = get32(mbi + 20);
        const uint8_t *m = phys(get32(mbi + 24));
        for (uint32_t i = 0; i < count && i <= BOOT_MAX_MODULES; i++, m += 16) {
            uint32_t text = get32(m + 8);
            add_module(b, get32(m), get32(m + 4), text ? (const char *)phys(text) : "",
                       text ? MB1_TEXT_MAX : 0, grub2);
        }
    }
    if (flags & MB1_FRAMEBUFFER)
        read_framebuffer(&b->framebuffer, mbi + 88, mbi + 110);

    if (flags & MB1_MAP) {
        uint64_t at = get32(mbi + 48), end = at + get32(mbi + 44);
        /* The size field does not count itself; entries may be longer than we know. */
        while (at + 24 <= end) {
            const uint8_t *e = phys(at);
            uint32_t size = get32(e);
            if (size < 20)
                break;
            raw_map_add(raw, get64(e + 4), get64(e + 12), get32(e + 20));
            at += (uint64_t)size + 4;
        }
    } else if (flags & MB1_MEMORY) {
        raw_map_add(raw, 0, (uint64_t)get32(mbi + 4) << 10, E820_RAM);
        raw_map_add(raw, 1UL << 20, (uint64_t)get32(mbi + 8) << 10, E820_RAM);
    }
}

enum mb2_tag {
    MB2_END = 0,
    MB2_CMDLINE = 1,
    MB2_LOADER = 2,
    MB2_MODULE = 3,
    MB2_MAP = 6,
    MB2_FRAMEBUFFER = 8,
    MB2_EFI64 = 12,
    MB2_RSDP_OLD = 14,
    MB2_RSDP_NEW = 15,
    MB2_EFI_MAP = 17,
};

/* Firmware tables that the loader only lends; part of the image, so nobody allocates them. */
static uint8_t rsdp_copy[64] __aligned(16);
static uint8_t efi_map_copy[32 << 10] __aligned(16);

#ifdef HOST_TEST
#define COPY_MADDR(object) maddr((uint64_t)(object))
#else
#define COPY_MADDR(object) maddr((uint64_t)(object)-IMAGE_VIRT)
#endif

static void read_map(struct raw_map *raw, const uint8_t *tag, uint32_t size)
{
    uint32_t entry = get32(tag + 8);
    if (entry < 20)
        return;
    for (uint64_t at = 16; at + entry <= size; at += entry)
        raw_map_add(raw, get64(tag + at), get64(tag + at + 8), get32(tag + at + 16));
}

static void read_efi_map(struct bootinfo *b, const uint8_t *tag, uint32_t size)
{
    uint32_t descriptor = get32(tag + 8), bytes = size - 16;
    if (descriptor < 40)
        return;
    if (bytes > sizeof(efi_map_copy)) {
        log_warn("the EFI memory map has %u bytes, %lu are kept", bytes, sizeof(efi_map_copy));
        bytes = sizeof(efi_map_copy);
    }
    bytes -= bytes % descriptor;
    memcpy(efi_map_copy, tag + 16, bytes);
    b->efi_memory_map = COPY_MADDR(efi_map_copy);
    b->efi_memory_map_size = bytes;
    b->efi_descriptor_size = descriptor;
}

static void read_rsdp(struct bootinfo *b, const uint8_t *tag, uint32_t size)
{
    uint32_t bytes = min(size - 8, (uint32_t)sizeof(rsdp_copy));
    memcpy(rsdp_copy, tag + 8, bytes);
    b->rsdp = COPY_MADDR(rsdp_copy);
}

/* The smallest size with which a tag of that type is looked at. */
static uint32_t least_size(uint32_t type)
{
    switch (type) {
    case MB2_MODULE:
    case MB2_MAP:
    case MB2_EFI64:
    case MB2_EFI_MAP:
        return 16;
    case MB2_FRAMEBUFFER:
        return 30;
    case MB2_RSDP_OLD:
        return 8 + 20; /* ACPI 1.0's */
    case MB2_RSDP_NEW:
        return 8 + 36;
    default:
        return 8;
    }
}

static void read_tag(struct bootinfo *b, struct raw_map *raw, const uint8_t *tag, bool grub2)
{
    uint32_t type = get32(tag), size = get32(tag + 4);
    if (size < least_size(type))
        return;
    switch (type) {
    case MB2_CMDLINE:
        copy_text(b->cmdline, sizeof(b->cmdline), (const char *)tag + 8, size - 8,
                  "the command line");
        drop_file_name(b->cmdline, grub2);
        break;
    case MB2_MODULE:
        add_module(b, get32(tag + 8), get32(tag + 12), (const char *)tag + 16, size - 16, grub2);
        break;
    case MB2_MAP:
        read_map(raw, tag, size);
        break;
    case MB2_FRAMEBUFFER:
        read_framebuffer(&b->framebuffer, tag + 8, size >= 38 ? tag + 32 : NULL);
        break;
    case MB2_EFI64:
        b->efi_system_table = maddr(get64(tag + 8));
        break;
    case MB2_RSDP_OLD:
        if (!b->rsdp.a)
            read_rsdp(b, tag, size);
        break;
    case MB2_RSDP_NEW:
        read_rsdp(b, tag, size);
        break;
    case MB2_EFI_MAP:
        read_efi_map(b, tag, size);
        break;
    }
}

/*
 * The loader's copy of the RSDP is enough for us, but domain 0 wants to know where the real one is:
 * EFI's configuration table says so (UEFI 2.10 sections 4.3, 4.6).
 */
static void find_efi_rsdp(struct bootinfo *b)
{
    static const uint8_t acpi20[16] = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                                       0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
    const uint64_t reach = (1UL << 32) - (1UL << 20); /* of the early map */
    uint64_t table = b->efi_system_table.a;
    if (!table || table >= reach || memcmp(phys(table), "IBI SYST", 8))
        return;
    uint64_t count = get64(phys(table) + 104), entry = get64(phys(table) + 112);
    if (entry >= reach)
        return;
    for (uint64_t i = 0; i < count && i < 256; i++, entry += 24) {
        if (memcmp(phys(entry), acpi20, sizeof(acpi20)))
            continue;
        uint64_t rsdp = get64(phys(entry) + 16);
        if (rsdp < reach && !memcmp(phys(rsdp), "RSD PTR ", 8))
            b->rsdp = maddr(rsdp);
        return;
    }
}

void multiboot2_read(struct bootinfo *b, struct raw_map *raw, uint32_t info)
{
    const uint8_t *mbi = phys(info);
    uint32_t total = get32(mbi);
    bool grub2 = false;
    b->loader = "multiboot2";

    /* Twice: which loader it is decides how command lines are read, and its tag may come later. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t at = 8; at + 8 <= total;) {
            const uint8_t *tag = mbi + at;
            uint32_t type = get32(tag), size = get32(tag + 4);
            if (type == MB2_END || size < 8 || size > total - at)
                break;
            if (pass)
                read_tag(b, raw, tag, grub2);
            else if (type == MB2_LOADER && size >= 8 + 6)
                grub2 = !strncmp((const char *)tag + 8, "GRUB 2", 6);
            at += ROUND_UP((uint64_t)size, 8);
        }
    }
    find_efi_rsdp(b);
}
