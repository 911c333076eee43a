/* SOURCES: lib/unpack.c */
/* LIBS: -llzma -lzstd -llz4 -lz */
/*
 * Files made by gzip, xz, zstd and lz4, plain and wrapped as Linux wraps them, taken apart again by
 * the libraries that the hypervisor links; then cut short, damaged, and without memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/unpack.h"

/* More than one of lz4's 8 MiB blocks. */
#define KERNEL_SIZE ((9u << 20) + 12345)

static uint8_t *kernel;
static char folder[] = "/tmp/unpack_test.XXXXXX";

/* Memory that is never given back until the test is over, as in the hypervisor. */
static void *block[256];
static unsigned blocks, fail_in;

static void *take(void *opaque, size_t size)
{
    assert_ptr_equal(opaque, &blocks);
    if (fail_in && --fail_in == 0)
        return NULL;
    assert_true(blocks < 256);
    return block[blocks++] = malloc(size);
}

static const struct unpack_arena arena = {take, &blocks};

static void drop_all(void)
{
    while (blocks)
        free(block[--blocks]);
}

static const struct {
    const char *name, *command;
} format[] = {
    {"gzip", "gzip -9nc"},
    {"xz", "xz -1 -c"}, /* CRC64: the library's constructor */
    {"xz as Linux does", "xz -1 --check=crc32 --x86 --lzma2=dict=1MiB -c"},
    {"zstd", "zstd -q -3 -c"},
    {"zstd without size", "cat kernel | zstd -q -3 -c"},
    {"lz4 as Linux does", "lz4 -q -l -c"},
};

static uint8_t *read_file(const char *name, size_t *size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

static struct {
    uint8_t *data;
    size_t size;
} packed_file[ARRAY_SIZE(format)];

/* Made once, a copy each time. */
static uint8_t *compress(unsigned i, size_t *size)
{
    char command[256];
    uint8_t *copy;
    if (packed_file[i].data)
        goto out;
    bool pipe = strchr(format[i].command, '|');
    snprintf(command, sizeof(command), "cd %s && %s %s >packed", folder, format[i].command,
             pipe ? "" : "kernel");
    if (system(command))
        fail_msg("%s: is the tool installed?", command);
    packed_file[i].data = read_file("packed", &packed_file[i].size);
out:
    *size = packed_file[i].size;
    copy = malloc(*size);
    return memcpy(copy, packed_file[i].data, *size);
}

/* The payload behind a setup part of two sectors, as arch/x86/boot lays it out. */
static uint8_t *wrap(const uint8_t *packed, size_t n, bool append_size, size_t *size)
{
    uint32_t offset = 0x30, length = (uint32_t)n + (append_size ? 4 : 0), plain = KERNEL_SIZE;
    *size = 3 * 512 + offset + length + 100;
    uint8_t *z = calloc(1, *size);
    z[0x1f1] = 2;
    z[0x1fe] = 0x55;
    z[0x1ff] = 0xaa;
    memcpy(z + 0x202, "HdrS\x0f\x02", 6);
    memcpy(z + 0x248, &offset, 4);
    memcpy(z + 0x24c, &length, 4);
    memcpy(z + 3 * 512 + offset, packed, n);
    if (append_size)
        memcpy(z + 3 * 512 + offset + n, &plain, 4);
    return z;
}

static int unpack(const void *data, size_t size, const char **why)
{
    const void *elf = NULL;
    size_t elf_size = 0;
    *why = NULL;
    int rc = unpack_kernel(data, size, &arena, &elf, &elf_size, why);
    if (rc) {
        assert_non_null(*why);
        assert_true(rc == -XEN_ENOEXEC || rc == -XEN_ENOMEM);
    } else {
        assert_true(elf_size >= KERNEL_SIZE || elf != kernel);
        if (elf_size != KERNEL_SIZE || memcmp(elf, kernel, KERNEL_SIZE))
            rc = 1; /* something else came out */
    }
    drop_all();
    return rc;
}

static void test_good(void **state)
{
    const char *why;
    assert_int_equal(unpack(kernel, KERNEL_SIZE, &why), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(format); i++) {
        size_t n, wrapped_size;
        uint8_t *packed = compress(i, &n);
        if (unpack(packed, n, &why))
            fail_msg("%s: %s", format[i].name, why ? why : "wrong contents");
        uint8_t *z = wrap(packed, n, i != 0, &wrapped_size);
        if (unpack(z, wrapped_size, &why))
            fail_msg("%s in a bzImage: %s", format[i].name, why ? why : "wrong contents");
        free(z);
        free(packed);
    }
}

static void test_cut_short(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(format); i++) {
        size_t n, wrapped_size;
        const char *why;
        uint8_t *packed = compress(i, &n);
        for (unsigned part = 0; part < 8; part++) {
            size_t some = n * part / 8 + (part == 7 ? n / 8 - 1 : 0);
            uint8_t *cut = malloc(some);
            memcpy(cut, packed, some);
            if (unpack(cut, some, &why) == 0)
                fail_msg("%s, %zu of %zu bytes: not noticed", format[i].name, some, n);
            free(cut);
        }
        uint8_t *z = wrap(packed, n, i != 0, &wrapped_size);
        for (unsigned part = 0; part < 8; part++) {
            size_t some = (wrapped_size - 200) * part / 8;
            uint8_t *cut = malloc(some);
            memcpy(cut, z, some);
            assert_int_equal(unpack(cut, some, &why), -XEN_ENOEXEC);
            free(cut);
        }
        free(z);
        free(packed);
    }
}

/* Any error or any output will do: LZ4 has no checksum. Nothing may be read or written outside. */
static void test_damaged(void **state)
{
    srand(11);
    for (unsigned i = 0; i < ARRAY_SIZE(format); i++) {
        size_t n;
        const char *why;
        uint8_t *packed = compress(i, &n);
        for (unsigned round = 0; round < 8; round++) {
            size_t at = round < 4 ? 4 + (size_t)rand() % 24 : (size_t)rand() % n;
            uint8_t old = packed[at];
            packed[at] ^= (uint8_t)(1 + rand() % 255);
            unpack(packed, n, &why);
            packed[at] = old;
        }
        free(packed);
    }
}

static void test_no_memory(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(format); i++) {
        size_t n;
        const char *why;
        uint8_t *packed = compress(i, &n);
        int rc = 1;
        for (unsigned k = 1; k < 30 && rc; k++) {
            fail_in = k;
            rc = unpack(packed, n, &why);
            assert_true(rc == 0 || rc == -XEN_ENOMEM);
        }
        assert_int_equal(rc, 0); /* at last it had all it wanted */
        fail_in = 0;
        free(packed);
    }
}

static void test_wrappers(void **state)
{
    const char *why;
    size_t size;
    uint8_t junk[1024] = {0};
    assert_int_equal(unpack(junk, 0, &why), -XEN_ENOEXEC);
    assert_int_equal(unpack(junk, sizeof(junk), &why), -XEN_ENOEXEC);

    uint8_t *z = wrap((const uint8_t *)"LZO?....", 8, true, &size);
    assert_int_equal(unpack(z, size, &why), -XEN_ENOEXEC);
    assert_non_null(strstr(why, "payload"));
    z[0x206] = 0x07; /* protocol 2.07 has no payload fields */
    z[0x207] = 0x02;
    assert_int_equal(unpack(z, size, &why), -XEN_ENOEXEC);
    assert_non_null(strstr(why, "2.08"));
    z[0x206] = 0x08;
    memset(z + 0x24c, 0, 4);
    assert_int_equal(unpack(z, size, &why), -XEN_ENOEXEC);
    memset(z + 0x248, 0xff, 8);
    assert_int_equal(unpack(z, size, &why), -XEN_ENOEXEC);
    free(z);

    /* A size that no kernel has. */
    uint8_t bomb[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    assert_int_equal(unpack(bomb, sizeof(bomb), &why), -XEN_ENOEXEC);
    assert_non_null(strstr(why, "absurd"));
}

static int setup(void **state)
{
    kernel = malloc(KERNEL_SIZE);
    srand(2);
    for (unsigned i = 0; i < KERNEL_SIZE; i++) /* compresses, but not to nothing */
        kernel[i] = (uint8_t)(i % 1024 ? kernel[i - 1] + (i % 32 == 0) : rand());
    memcpy(kernel, "\177ELF", 4);
    if (!mkdtemp(folder))
        return -1;
    char path[128];
    snprintf(path, sizeof(path), "%s/kernel", folder);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(kernel, 1, KERNEL_SIZE, f) == KERNEL_SIZE;
    return f && !fclose(f) && ok ? 0 : -1;
}

static int teardown(void **state)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/kernel", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/packed", folder);
    unlink(path);
    rmdir(folder);
    for (unsigned i = 0; i < ARRAY_SIZE(format); i++)
        free(packed_file[i].data);
    free(kernel);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),     cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_damaged),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_wrappers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
