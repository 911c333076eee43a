/* Between the files of this room: how loaders fill `bootinfo`. All of it runs before main(). */
#ifndef BOOT_INTERNAL_H
#define BOOT_INTERNAL_H

#include "boot/bootinfo.h"

/* Magic in EAX (Multiboot Specification 0.6.96 section 3.2; Multiboot2 2.0 section 3.3.2). */
#define MULTIBOOT1_MAGIC 0x2badb002u
#define MULTIBOOT2_MAGIC 0x36d76289u

/* What a loader says, before it is checked. */
struct raw_map {
    unsigned count;
    struct e820_range range[BOOT_MAX_RANGES];
};

/* Fill *b and *raw from the information at @info. */
void multiboot1_read(struct bootinfo *b, struct raw_map *raw, uint32_t info);
void multiboot2_read(struct bootinfo *b, struct raw_map *raw, uint32_t info);

void raw_map_add(struct raw_map *raw, uint64_t base, uint64_t size, uint32_t type);

/*
 * Sorts @raw into b->map: no overlaps (where types differ the less usable one wins), no empty or
 * wrapping entries, neighbours of one type joined, RAM in whole pages. @raw is clobbered.
 */
void e820_sanitise(struct bootinfo *b, struct raw_map *raw);

/* The same map with RAM above @limit made reserved. */
void e820_limit(struct bootinfo *b, uint64_t limit);

#endif
