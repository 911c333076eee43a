/* SOURCES: lib/elf.c */
/* An image made by hand, then cut short at every byte and damaged at random: ASan watches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/elf.h"

struct file {
    Elf64_Ehdr h;
    Elf64_Phdr ph[4];
    Elf64_Shdr sh[2];
    struct {
        Elf64_Nhdr n;
        char name[4];
        char text[8];
    } other, guest_os; /* type 6 */
    struct {
        Elf64_Nhdr n;
        char name[4];
        uint64_t value;
    } __attribute__((packed)) entry; /* type 1, in a section only */
    struct {
        Elf64_Nhdr n;
        char name[4];
        uint32_t value;
    } base; /* type 3 */
    char text[64];
};

static void make(struct file *f)
{
    *f = (struct file){
        .h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
              .e_type = ET_EXEC,
              .e_machine = EM_X86_64,
              .e_version = 1,
              .e_entry = 0x1000,
              .e_phoff = offsetof(struct file, ph),
              .e_phentsize = sizeof(Elf64_Phdr),
              .e_phnum = 4,
              .e_shoff = offsetof(struct file, sh),
              .e_shentsize = sizeof(Elf64_Shdr),
              .e_shnum = 2},
        .ph = {{.p_type = PT_LOAD,
                .p_offset = offsetof(struct file, text),
                .p_vaddr = 0xffffffff81000000,
                .p_paddr = 0x1000000,
                .p_filesz = 64,
                .p_memsz = 4096},
               {.p_type = PT_LOAD}, /* nothing in it */
               {.p_type = PT_NOTE,
                .p_offset = offsetof(struct file, other),
                .p_filesz = sizeof(f->other) + sizeof(f->guest_os)},
               {.p_type = PT_GNU_STACK}},
        .sh = {{.sh_type = SHT_NULL},
               {.sh_type = SHT_NOTE,
                .sh_offset = offsetof(struct file, entry),
                .sh_size = sizeof(f->entry) + sizeof(f->base)}},
        .other = {{4, 8, 6}, "GNU", "no"},
        .guest_os = {{4, 6, 6}, "Xen", "linux"},
        .entry = {{4, 8, 1}, "Xen", 0xffffffff83000123},
        .base = {{4, 4, 3}, "Xen", 0x80000000},
    };
}

static void test_good(void **state)
{
    struct file f;
    struct elf_image e;
    struct elf_segment s;
    const char *why = NULL;
    make(&f);
    assert_int_equal(elf_open(&e, &f, sizeof(f), &why), 0);
    assert_int_equal(e.entry, 0x1000);
    assert_int_equal(e.segments, 4);
    assert_true(elf_load_segment(&e, 0, &s));
    assert_int_equal(s.vaddr, 0xffffffff81000000);
    assert_int_equal(s.paddr, 0x1000000);
    assert_int_equal(s.filesz, 64);
    assert_int_equal(s.memsz, 4096);
    assert_int_equal(s.offset, offsetof(struct file, text));
    for (unsigned i = 1; i < 6; i++)
        assert_false(elf_load_segment(&e, i, &s));

    size_t size;
    const char *os = elf_xen_note(&e, 6, &size);
    assert_non_null(os);
    assert_int_equal(size, 6);
    assert_string_equal(os, "linux");
    assert_int_equal(elf_xen_note_u64(&e, 1, 7), 0xffffffff83000123);
    assert_int_equal(elf_xen_note_u64(&e, 3, 7), 0x80000000);
    assert_int_equal(elf_xen_note_u64(&e, 2, 7), 7); /* absent */
    assert_int_equal(elf_xen_note_u64(&e, 6, 7), 7); /* not a number */
}

static void refuse(const struct file *f, size_t size)
{
    struct elf_image e;
    const char *why = NULL;
    assert_int_equal(elf_open(&e, f, size, &why), -XEN_ENOEXEC);
    assert_non_null(why);
}

static void test_refused(void **state)
{
    struct file f;
    make(&f);
    refuse(&f, 0);
    refuse(&f, 63);
#define REFUSE(field, value)                                                                       \
    make(&f);                                                                                      \
    f.field = (value);                                                                             \
    refuse(&f, sizeof(f))
    REFUSE(h.e_ident[1], 'e');
    REFUSE(h.e_ident[EI_CLASS], ELFCLASS32);
    REFUSE(h.e_ident[EI_DATA], ELFDATA2MSB);
    REFUSE(h.e_machine, EM_386);
    REFUSE(h.e_type, ET_REL);
    REFUSE(h.e_phnum, 0);
    REFUSE(h.e_phnum, 60000);
    REFUSE(h.e_phentsize, 8);
    REFUSE(h.e_phoff, sizeof(f));
    REFUSE(h.e_phoff, ~0UL - 8);
    REFUSE(ph[0].p_offset, sizeof(f) - 63);
    REFUSE(ph[0].p_offset, ~0UL);
    REFUSE(ph[0].p_filesz, ~0UL);
    REFUSE(ph[0].p_memsz, 63); /* less than the file has */
}

static void read_all(const void *data, size_t size)
{
    struct elf_image e;
    struct elf_segment s;
    const char *why;
    size_t note;
    if (elf_open(&e, data, size, &why))
        return;
    for (unsigned i = 0; i < e.segments; i++)
        if (elf_load_segment(&e, i, &s))
            assert_true(s.offset <= size && s.filesz <= size - s.offset);
    for (uint32_t type = 0; type < 20; type++) {
        const uint8_t *p = elf_xen_note(&e, type, &note);
        if (p)
            assert_true(p >= e.data && p + note <= e.data + size);
        elf_xen_note_u64(&e, type, 0);
    }
}

static void test_damaged(void **state)
{
    struct file f;
    make(&f);
    for (size_t n = 0; n <= sizeof(f); n++) {
        uint8_t *cut = malloc(n);
        memcpy(cut, &f, n);
        read_all(cut, n);
        free(cut);
    }
    srand(5);
    uint8_t *bad = malloc(sizeof(f));
    for (int round = 0; round < 20000; round++) {
        memcpy(bad, &f, sizeof(f));
        for (int i = 0; i < 1 + round % 4; i++) {
            size_t at = 16 + (size_t)rand() % (sizeof(f) - 16);
            bad[at] = (uint8_t)(rand() % 3 ? rand() : 0xff);
        }
        read_all(bad, sizeof(f));
    }
    free(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
