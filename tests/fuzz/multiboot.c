/* SOURCES: boot/multiboot.c boot/e820.c lib/bitmap.c fake/cpu.c */
/*
 * What a boot loader tells by multiboot 2, in memory that ends with the input: no tag is read
 * beyond its end, and the memory map that comes out is sorted and has no overlaps whatever went in.
 * Multiboot 1 is addresses of addresses, which can only be believed; so is EFI's system table.
 */
#include "fuzz.h"

#include "boot/internal.h"
#include "mm/mm.h"

uint8_t *fake_ram;
struct page *frame_table;
uint64_t *fake_m2p;

static void check_map(const struct bootinfo *b)
{
    for (unsigned i = 0; i < b->ranges; i++) {
        CHECK(b->map[i].size && b->map[i].base + b->map[i].size > b->map[i].base);
        CHECK(!i || b->map[i - 1].base + b->map[i - 1].size <= b->map[i].base);
    }
}

#define INFO     16 /* where the information is */
#define EFI_TAGS 11 /* and 12: addresses of EFI's system table */

static uint32_t word(const uint8_t *data, uint64_t at)
{
    uint32_t v;
    memcpy(&v, data + at, 4);
    return v;
}

static bool asks_for_belief(const uint8_t *data, uint64_t total)
{
    if (total > input_left)
        return true;
    for (uint64_t at = 8; at + 8 <= total;) {
        uint32_t type = word(data, at), size = word(data, at + 4);
        if (type == EFI_TAGS || type == EFI_TAGS + 1)
            return true;
        if (size < 8)
            break;
        at += ROUND_UP((uint64_t)size, 8);
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bootinfo b;
    static struct raw_map raw;
    input_left = size;
    if (size < 8 || asks_for_belief(data, word(data, 0)))
        return 0;
    memset(&b, 0, sizeof(b));
    memset(&raw, 0, sizeof(raw));
    fake_ram = malloc(INFO + size);
    memcpy(fake_ram + INFO, data, size);
    multiboot2_read(&b, &raw, INFO);
    free(fake_ram);
    e820_sanitise(&b, &raw);
    check_map(&b);
    e820_limit(&b, (uint64_t)data[4] << 24);
    check_map(&b);
    return 0;
}
