/*
 * What every loader fills and all that anybody after boot/ knows of how we were started:
 * memory map, modules, command line, firmware tables. Filled while still identity-mapped; the
 * memory it points to is reserved until bootinfo_release().
 */
#ifndef BOOT_BOOTINFO_H
#define BOOT_BOOTINFO_H

#include "lib/compiler.h"
#include "lib/types.h"

#define BOOT_MAX_RANGES  256
#define BOOT_MAX_MODULES 8

/* Types of the BIOS's int 15h E820 (ACPI 6.5 section 15.1). */
enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4, E820_UNUSABLE = 5 };

struct e820_range {
    uint64_t base, size; /* bytes */
    uint32_t type;       /* enum e820_type */
};

struct boot_module {
    maddr_t start;
    uint64_t size;       /* bytes */
    const char *cmdline; /* "" when there is none; hypervisor-accessible copy */
};

/* The graphics mode in which the loader left the screen. */
struct framebuffer {
    maddr_t base;                  /* 0: it is in text mode, if there is one */
    uint32_t pitch, width, height; /* bytes, points; 0 when we do not understand the mode */
    uint8_t bits;                  /* of a point: 16, 24, 32 */
    uint8_t red_position, red_size, green_position, green_size, blue_position, blue_size;
};

struct bootinfo {
    const char *loader; /* "multiboot1", "multiboot2", "pvh" */
    char cmdline[2048];
    unsigned ranges;
    struct e820_range map[BOOT_MAX_RANGES]; /* sorted, not overlapping, as sanitised */
    unsigned modules;
    struct boot_module module[BOOT_MAX_MODULES];
    char module_cmdline[BOOT_MAX_MODULES][2048];
    maddr_t rsdp;             /* 0 when the loader did not say: search low memory */
    maddr_t efi_system_table; /* 0 on BIOS */
    maddr_t efi_memory_map;   /* copied; 0 when none */
    uint32_t efi_memory_map_size, efi_descriptor_size;
    struct framebuffer framebuffer;
};

extern struct bootinfo bootinfo;

/*
 * Entry.S calls this with the loader's magic and information address once 64-bit paging with the
 * identity map of the low 4 GiB is on; it fills bootinfo and calls main() (main.c).
 */
void boot_start(uint32_t magic, uint32_t info) __noreturn;

/* Command line (boot/cmdline.c): each option is a row of one table there. Values after parsing: */
struct boot_options {
    char console[64]; /* console=com1,vga */
    char com1[64];    /* com1=115200,8n1[,port[,irq]] */
    char com2[64];
    char dom0[16];            /* "", "pv", "pvh" or "pvh,platform" */
    uint64_t dom0_mem;        /* bytes; 0 = all that is free but a reserve */
    uint64_t dom0_mem_min;    /* bytes; too little memory when less is free */
    uint64_t dom0_mem_max;    /* bytes; 0 = as dom0_mem */
    uint64_t mem;             /* mem=: ignore RAM above; 0 = no limit */
    unsigned dom0_max_vcpus;  /* 0 = as many as CPUs */
    bool dom0_vcpus_pin;      /* each to a CPU */
    unsigned maxcpus;         /* 0 = all */
    int loglvl, guest_loglvl; /* highest enum log_level shown; -1 = none */
    uint64_t conring_size;    /* bytes */
    bool noreboot;
    bool sync_console;
    bool no_smep, no_smap, no_x2apic;
    char clocksource[16]; /* "", "hpet", "acpi", "pit", "tsc" */
};

extern struct boot_options boot_options;

/* Unknown or malformed options are reported by name, then ignored. */
void cmdline_parse(const char *cmdline);

/* Logs loader, command line, memory map and modules. */
void bootinfo_report(void);

/* Starts the other CPUs (INIT-SIPI-SIPI through a trampoline below 1 MiB). boot/smp.c */
void smp_start_cpus(void);

/*
 * Memory that must not be given to the allocator although the map calls it RAM: the first 1 MiB,
 * the hypervisor's image (init part too), the modules, copies made of firmware tables. Sorted, not
 * overlapping, page-aligned outwards; final once boot_start() calls main(). Iterate from *i = 0;
 * false when there are no more.
 */
bool bootinfo_next_reserved(unsigned *i, maddr_t *start, uint64_t *size);

/*
 * The command line's mem= applied to a map: RAM above @limit bytes of address becomes reserved.
 * Called by main() between cmdline_parse() and mm_init().
 */
void bootinfo_limit_ram(uint64_t limit);

/*
 * The modules leave the addresses where the loader has put them, for a domain 0 that wants that
 * memory. Once the allocator works. False: no memory for one of them, which stays.
 */
bool __must_check bootinfo_move_modules(void);

/*
 * Gives init memory (__init_start..__init_end) and the modules back to the allocator by
 * buddy_add_range(); dom0/ is done with them by then.
 */
void bootinfo_release(void);

#endif
