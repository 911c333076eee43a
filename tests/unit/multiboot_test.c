/* SOURCES: boot/multiboot.c boot/e820.c lib/bitmap.c fake/cpu.c */
/*
 * Both protocols' information as GRUB and QEMU write it, from a faked low memory that ends where
 * the information does, so that a look beyond it is seen; then damaged at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/internal.h"
#include "mm/mm.h"

uint8_t *fake_ram;
struct page *frame_table;
uint64_t *fake_m2p;

static struct bootinfo b;
static struct raw_map raw;
static uint8_t low[16384];
static size_t used;

static void begin(void)
{
    memset(low, 0, sizeof(low));
    memset(&b, 0, sizeof(b));
    memset(&raw, 0, sizeof(raw));
    used = 256; /* the information is at 16 */
}

static void put32(size_t at, uint32_t v)
{
    memcpy(low + at, &v, 4);
}

static void put64(size_t at, uint64_t v)
{
    memcpy(low + at, &v, 8);
}

static uint32_t add(const void *data, size_t n)
{
    uint32_t at = (uint32_t)used;
    memcpy(low + used, data, n);
    used += n;
    return at;
}

static uint32_t add_text(const char *s)
{
    return add(s, strlen(s) + 1);
}

/* What is behind the last byte does not exist. */
static void with_exact_memory(void (*read)(struct bootinfo *, struct raw_map *, uint32_t))
{
    fake_ram = malloc(used);
    memcpy(fake_ram, low, used);
    read(&b, &raw, 16);
    free(fake_ram);
}

static uint32_t mb1_map(void)
{
    uint32_t map = (uint32_t)used;
    struct {
        uint32_t size;
        uint64_t base, length;
        uint32_t type;
    } __attribute__((packed)) e[] = {{20, 0, 0x9fc00, 1}, {20, 0x100000, 0x1000000, 1}};
    add(e, sizeof(e));
    return map;
}

static void test_mb1_qemu(void **state)
{
    begin();
    put32(16 + 64, add_text("qemu"));
    put32(16 + 16, add_text("/path/trilby console=com1"));
    uint32_t first = add_text("vmlinuz root=/dev/sda1 quiet"), second = add_text("initrd");
    uint32_t modules[] = {0x300000, 0x301234, first, 0, 0x400000, 0x400010, second, 0};
    put32(16 + 24, add(modules, sizeof(modules)));
    put32(16 + 20, 2);
    put32(16 + 48, mb1_map());
    put32(16 + 44, 48);
    put32(16, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    /* Strings are read up to a limit that lies beyond this memory, their end does not. */
    with_exact_memory(multiboot1_read);
    assert_string_equal(b.loader, "multiboot1");
    assert_string_equal(b.cmdline, "console=com1");
    assert_int_equal(b.modules, 2);
    assert_int_equal(b.module[0].start.a, 0x300000);
    assert_int_equal(b.module[0].size, 0x1234);
    assert_string_equal(b.module[0].cmdline, "root=/dev/sda1 quiet");
    assert_int_equal(b.module[1].size, 0x10);
    assert_string_equal(b.module[1].cmdline, "");
    assert_int_equal(raw.count, 2);
    assert_int_equal(raw.range[1].base, 0x100000);
    assert_int_equal(raw.range[1].size, 0x1000000);
    assert_int_equal(b.framebuffer.base.a, 0);
}

static void test_mb1_grub(void **state)
{
    begin();
    put32(16 + 64, add_text("GRUB 2.06-13"));
    put32(16 + 16, add_text("placeholder loglvl=all"));
    uint32_t text = add_text("root=/dev/sda1");
    uint32_t modules[] = {0x300000, 0x200000, text, 0, 0x500000, 0x500001, 0, 0};
    put32(16 + 24, add(modules, sizeof(modules)));
    put32(16 + 20, 2);
    put32(16 + 4, 639); /* no map, only sizes */
    put32(16 + 8, 31 << 10);
    put64(16 + 88, 0xe0000000);
    put32(16 + 96, 1024 * 4);
    put32(16 + 100, 1024);
    put32(16 + 104, 768);
    memcpy(low + 16 + 108, "\x20\1\x10\x8\x8\x8\0\x8", 8); /* 32 bits, RGB */
    put32(16, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 12);
    with_exact_memory(multiboot1_read);
    assert_string_equal(b.cmdline, "loglvl=all");
    assert_int_equal(b.modules, 2);
    assert_int_equal(b.module[0].size, 0); /* it ends before it starts */
    assert_string_equal(b.module[0].cmdline, "root=/dev/sda1");
    assert_string_equal(b.module[1].cmdline, ""); /* no string at all */
    assert_int_equal(raw.count, 2);
    assert_int_equal(raw.range[0].size, 639 << 10);
    assert_int_equal(raw.range[1].size, 31 << 20);
    assert_int_equal(b.framebuffer.base.a, 0xe0000000);
    assert_int_equal(b.framebuffer.width, 1024);
    assert_int_equal(b.framebuffer.height, 768);
    assert_int_equal(b.framebuffer.pitch, 4096);
    assert_int_equal(b.framebuffer.bits, 32);
    assert_int_equal(b.framebuffer.red_position, 16);
    assert_int_equal(b.framebuffer.green_size, 8);
    assert_int_equal(b.framebuffer.blue_position, 0);
}

static void test_mb1_bad(void **state)
{
    begin();
    with_exact_memory(multiboot1_read); /* no flags: nothing is looked at */
    assert_int_equal(b.modules + raw.count, 0);

    /* More modules than we keep; a map entry whose size cannot be; an endless command line. */
    begin();
    uint32_t modules[4 * 20] = {0};
    for (int i = 0; i < 20; i++)
        modules[i * 4] = modules[i * 4 + 1] = 0x300000;
    put32(16 + 24, add(modules, sizeof(modules)));
    put32(16 + 20, 20);
    put32(16 + 48, mb1_map());
    put32(16 + 44, 48);
    put32(used - 24, 4);
    char lengthy[3000];
    memset(lengthy, 'x', sizeof(lengthy));
    memcpy(lengthy, "trilby ", 7);
    lengthy[sizeof(lengthy) - 1] = '\0';
    put32(16 + 16, add(lengthy, sizeof(lengthy)));
    put32(16, 1 << 2 | 1 << 3 | 1 << 6);
    with_exact_memory(multiboot1_read);
    assert_int_equal(b.modules, BOOT_MAX_MODULES);
    assert_int_equal(raw.count, 1);
    assert_int_equal(strlen(b.cmdline), sizeof(b.cmdline) - 1 - 7);
}

/* --- multiboot 2: tags from 24 on, 8 bytes aligned --- */

static void mb2_begin(void)
{
    begin();
    used = 24;
}

static void tag(uint32_t type, const void *data, size_t n)
{
    put32(used, type);
    put32(used + 4, (uint32_t)n + 8);
    memcpy(low + used + 8, data, n);
    used += (8 + n + 7) & ~7UL;
}

static void mb2_end(void)
{
    tag(0, "", 0);
    put32(16, (uint32_t)used - 16);
}

static void add_usual_tags(void)
{
    struct {
        uint32_t start, end;
        char text[32];
    } module = {0x300000, 0x309999, "placeholder root=/dev/vda"};
    struct {
        uint32_t entry_size, version;
        struct {
            uint64_t base, length;
            uint32_t type, zero;
        } e[2];
    } map = {24, 0, {{0, 0xa0000, 1, 0}, {0x3f000000, 0x1000, 3, 0}}};
    struct {
        uint32_t size, version;
        uint8_t descriptor[2][48];
    } efi = {48, 1, {{7}, {11}}};
    uint64_t system_table = 8; /* not one: the signature is looked at */
    uint8_t framebuffer[24] = {0, 0, 0, 0xfd, 0, 0, 0, 0};
    tag(1, "placeholder console=com1 noreboot", 34);
    tag(2, "GRUB 2.06", 10);
    tag(3, &module, 8 + strlen(module.text) + 1);
    tag(6, &map, sizeof(map));
    tag(99, "unknown", 8);
    tag(12, &system_table, 8);
    tag(14, "RSD PTR old.........", 20);
    tag(15, "RSD PTR new.........................", 36);
    tag(17, &efi, sizeof(efi));
    framebuffer[21] = 1;
    tag(8, framebuffer, sizeof(framebuffer));
}

static void test_mb2(void **state)
{
    mb2_begin();
    add_usual_tags();
    mb2_end();
    with_exact_memory(multiboot2_read);
    assert_string_equal(b.loader, "multiboot2");
    assert_string_equal(b.cmdline, "console=com1 noreboot");
    assert_int_equal(b.modules, 1);
    assert_int_equal(b.module[0].size, 0x9999);
    assert_string_equal(b.module[0].cmdline, "root=/dev/vda");
    assert_int_equal(raw.count, 2);
    assert_int_equal(raw.range[1].type, E820_ACPI);
    assert_int_equal(b.efi_system_table.a, 8);
    assert_memory_equal((void *)b.rsdp.a, "RSD PTR new", 11);
    assert_int_equal(b.efi_memory_map_size, 96);
    assert_int_equal(b.efi_descriptor_size, 48);
    assert_int_equal(((uint8_t *)b.efi_memory_map.a)[48], 11);
    assert_int_equal(b.framebuffer.base.a, 0xfd000000);
    assert_int_equal(b.framebuffer.width, 0); /* no colours: not usable */
}

static void test_mb2_framebuffer(void **state)
{
    static const struct {
        uint32_t width, pitch;
        uint8_t bits, type, usable;
    } modes[] = {
        {1280, 5120, 32, 1, 1},    {1280, 3840, 24, 1, 1}, {800, 1600, 16, 1, 1},
        {1280, 1280, 8, 0, 0},     {1280, 1280, 8, 1, 0},  {1280, 5119, 32, 1, 0},
        {70000, 65535, 8, 1, 0},   {80, 160, 16, 2, 0},    {0x10000, 0x40000, 32, 1, 0},
        {0x40000001, 4, 32, 1, 0},
    };
    for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        uint8_t data[30] = {0, 0, 0, 0, 8};
        uint32_t height = 600;
        memcpy(data + 8, &modes[i].pitch, 4);
        memcpy(data + 12, &modes[i].width, 4);
        memcpy(data + 16, &height, 4);
        data[20] = modes[i].bits;
        data[21] = modes[i].type;
        memcpy(data + 24, "\xb\5\5\6\0\5", 6);
        mb2_begin();
        tag(8, data, sizeof(data));
        mb2_end();
        with_exact_memory(multiboot2_read);
        assert_int_equal(b.framebuffer.base.a, modes[i].type == 2 ? 0 : 0x800000000);
        assert_int_equal(b.framebuffer.width, modes[i].usable ? modes[i].width : 0);
        assert_int_equal(b.framebuffer.green_position, modes[i].usable ? 5 : 0);
    }
}

static void test_mb2_efi_rsdp(void **state)
{
    static const uint8_t acpi20[16] = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                                       0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
    mb2_begin();
    uint64_t table = 1024;
    tag(12, &table, 8);
    tag(15, "RSD PTR new.........................", 36);
    mb2_end();
    memcpy(low + 1024, "IBI SYST", 8);
    put64(1024 + 104, 2);
    put64(1024 + 112, 2048);
    memcpy(low + 2048 + 24, acpi20, 16);
    put64(2048 + 24 + 16, 3000);
    memcpy(low + 3000, "RSD PTR ", 8);
    used = 4096;
    with_exact_memory(multiboot2_read);
    assert_int_equal(b.rsdp.a, 3000); /* the firmware's own, not the loader's copy */
}

static void test_mb2_damaged(void **state)
{
    mb2_begin();
    add_usual_tags();
    mb2_end();
    static uint8_t good[sizeof(low)];
    memcpy(good, low, sizeof(low));
    size_t size = used;
    srand(4);
    for (int round = 0; round < 20000; round++) {
        memcpy(low, good, sizeof(low));
        memset(&b, 0, sizeof(b));
        memset(&raw, 0, sizeof(raw));
        used = size;
        for (int i = 0; i < 1 + round % 3; i++) {
            size_t at = 24 + (size_t)rand() % (size - 24);
            low[at] = (uint8_t)(rand() % 4 ? rand() % 64 : 0xff);
        }
        /* The EFI tables are trusted where they say they are; keep that tag out of it. */
        for (size_t at = 24; at + 16 <= size; at += 8)
            if (low[at] == 12 && low[at + 1] + low[at + 2] + low[at + 3] == 0)
                low[at] = 99;
        with_exact_memory(multiboot2_read);
        assert_true(raw.count <= BOOT_MAX_RANGES && b.modules <= BOOT_MAX_MODULES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mb1_qemu),        cmocka_unit_test(test_mb1_grub),
        cmocka_unit_test(test_mb1_bad),         cmocka_unit_test(test_mb2),
        cmocka_unit_test(test_mb2_framebuffer), cmocka_unit_test(test_mb2_efi_rsdp),
        cmocka_unit_test(test_mb2_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
