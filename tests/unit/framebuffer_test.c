/* SOURCES: console/framebuffer.c lib/string.c */
/*
 * Text on framebuffers of several formats, in memory that ends where the screen does: what is drawn
 * can be read back, a full screen goes on at its top, modes that cannot be are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "boot/bootinfo.h"
#include "console/internal.h"
#include "mm/mm.h"

static uint8_t *screen; /* whole pages, the screen at their end */
static unsigned mapped;

void *vmap_contiguous(mfn_t first, unsigned n, unsigned flags)
{
    assert_int_equal(flags, MAP_UC);
    mapped = n;
    screen = malloc((size_t)n * PAGE_SIZE);
    memset(screen, 0x55, (size_t)n * PAGE_SIZE);
    return screen;
}

static struct framebuffer format(uint32_t width, uint32_t height, uint8_t bits, uint32_t gap)
{
    uint32_t pitch = width * (bits / 8) + gap;
    uint64_t end = 0x900000000;
    return (struct framebuffer){.base = maddr(end - (uint64_t)pitch * height),
                                .pitch = pitch,
                                .width = width,
                                .height = height,
                                .bits = bits,
                                .red_position = bits == 16 ? 11 : 16,
                                .red_size = bits == 16 ? 5 : 8,
                                .green_position = bits == 16 ? 5 : 8,
                                .green_size = bits == 16 ? 6 : 8,
                                .blue_size = bits == 16 ? 5 : 8};
}

/* Dots of the character in a cell, as one number; every point of a dot must be the same. */
static uint64_t cell(const struct framebuffer *fb, unsigned row, unsigned column)
{
    unsigned scale = fb->width < 1280 ? 1 : fb->width / 640, bytes = fb->bits / 8;
    const uint8_t *base = screen + (size_t)mapped * PAGE_SIZE - (size_t)fb->pitch * fb->height;
    uint64_t dots = 0;
    for (unsigned y = 0; y < 8; y++)
        for (unsigned x = 0; x < 6; x++) {
            unsigned lit = 0;
            for (unsigned i = 0; i < scale * scale; i++) {
                const uint8_t *p = base + ((row * 8 + y) * scale + i / scale) * fb->pitch +
                                   ((column * 6 + x) * scale + i % scale) * bytes;
                static const uint8_t on[] = {0xff, 0xff, 0xff, 0}, off[4];
                bool is_on = !memcmp(p, on, bytes);
                assert_true(is_on || !memcmp(p, off, bytes));
                lit += is_on;
            }
            assert_true(lit == 0 || lit == scale * scale);
            dots = dots << 1 | !!lit;
        }
    return dots;
}

static void test_formats(void **state)
{
    static const struct {
        uint32_t width, height;
        uint8_t bits;
        uint32_t gap;
    } modes[] = {{640, 480, 32, 0}, {800, 600, 16, 32}, {1024, 768, 24, 0}, {1920, 1080, 32, 64}};
    for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        struct framebuffer fb =
            format(modes[i].width, modes[i].height, modes[i].bits, modes[i].gap);
        assert_true(framebuffer_init(&fb));
        char all[96];
        for (char c = 32; c < 127; c++)
            all[c - 32] = c;
        framebuffer_write("Ab\n", 3);
        framebuffer_write(all, 95);
        framebuffer_write("\r\001", 2);
        assert_int_not_equal(cell(&fb, 0, 0), cell(&fb, 0, 1));
        assert_true(cell(&fb, 0, 0) == cell(&fb, 1, 'A' - 32));
        assert_true(cell(&fb, 0, 1) == cell(&fb, 1, 'b' - 32));
        assert_true(cell(&fb, 0, 2) == 0);
        /* All differ, each lies within five by seven dots. What is no character is a '?', here over
         * the blank of the row. */
        for (unsigned a = 0; a < 95; a++) {
            uint64_t dots = cell(&fb, 1, a);
            assert_true(!(dots & 0x041041041041) && !(dots & 0x3f));
            for (unsigned b = 1; b < a; b++)
                assert_true(dots != cell(&fb, 1, b));
        }
        assert_true(cell(&fb, 1, 0) == cell(&fb, 1, '?' - 32));
        free(screen);
    }
}

static void test_goes_round(void **state)
{
    struct framebuffer fb = format(640, 85, 32, 0); /* ten rows of 106, and five lines below */
    assert_true(framebuffer_init(&fb));
    for (unsigned line = 0; line < 12; line++) {
        char text[] = {(char)('a' + line), '\n'};
        framebuffer_write(text, 2);
    }
    /* a to j filled it, k and l came over a and b, two empty rows follow. */
    uint64_t row[10];
    for (unsigned r = 0; r < 10; r++)
        row[r] = cell(&fb, r, 0);
    assert_true(row[2] == 0 && row[3] == 0);
    framebuffer_write("el", 2);
    assert_true(cell(&fb, 2, 0) == row[4] && cell(&fb, 2, 1) == row[1]);

    /* A line that is too long goes on in the next row. */
    char lengthy[108];
    memset(lengthy, 'x', sizeof(lengthy));
    framebuffer_write("\n", 1);
    framebuffer_write(lengthy, 107);
    assert_true(cell(&fb, 3, 105) != 0 && cell(&fb, 4, 0) == cell(&fb, 3, 105));
    assert_true(cell(&fb, 4, 1) == 0 && cell(&fb, 5, 0) == 0 && cell(&fb, 6, 0) == row[6]);
    free(screen);
}

static void test_refused(void **state)
{
    struct framebuffer unknown = {.base = maddr(0xe0000000)};
    struct framebuffer low = format(640, 15, 32, 0), narrow = format(5, 600, 32, 0);
    struct framebuffer huge = format(16384, 2048, 32, 0);
    assert_false(framebuffer_init(&unknown));
    assert_false(framebuffer_init(&low));
    assert_false(framebuffer_init(&narrow));
    assert_false(framebuffer_init(&huge));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_goes_round),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
