/*
 * VGA text mode 3: 80 by 25 cells of character and attribute at 0xb8000 (IBM VGA reference).
 * Lines scroll up; the hardware cursor follows. Under the console lock.
 */
#include "console/internal.h"
#include "cpu/asm.h"

#define COLUMNS   80
#define ROWS      25
#define BLANK     0x0720 /* space, grey on black */
#define CRTC_PORT 0x3d4  /* index; data one above */

static volatile uint16_t *cells;
static struct text_place at = {.columns = COLUMNS};

static void scroll(void)
{
    for (unsigned i = 0; i < COLUMNS * (ROWS - 1); i++)
        cells[i] = cells[i + COLUMNS];
    for (unsigned i = COLUMNS * (ROWS - 1); i < COLUMNS * ROWS; i++)
        cells[i] = BLANK;
}

static void new_line(void)
{
    at.column = 0;
    if (++at.row == ROWS) {
        scroll();
        at.row--;
    }
}

bool vga_init(void *memory)
{
    bool first = !cells;
    cells = memory;
    for (unsigned i = 0; first && i < COLUMNS * ROWS; i++)
        cells[i] = BLANK;
    return true;
}

static void draw(unsigned char c)
{
    cells[at.row * COLUMNS + at.column] = (uint16_t)(BLANK & 0xff00) | c;
}

void vga_write(const char *buf, size_t n)
{
    text_write(&at, buf, n, draw, new_line);
    unsigned cursor = at.row * COLUMNS + at.column;
    outb(CRTC_PORT, 0x0e); /* cursor location, high and low */
    outb(CRTC_PORT + 1, (uint8_t)(cursor >> 8));
    outb(CRTC_PORT, 0x0f);
    outb(CRTC_PORT + 1, (uint8_t)cursor);
}
