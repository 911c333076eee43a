/*
 * Between the files of this room. A device is a row of console.c's table; all its functions are
 * called under the console lock.
 */
#ifndef CONSOLE_INTERNAL_H
#define CONSOLE_INTERNAL_H

#include "console/console.h"
#include "lib/compiler.h"
#include "lib/types.h"

#include <stdarg.h>

/* --- log.c: the ring, pure but for the caller's lock --- */
#define LOG_RING_DEFAULT (64u << 10)
#define LOG_RING_MAX     (16u << 20)

/* Positions count all bytes ever put; differences are right across their wrap. */
void log_ring_put(const char *text, size_t n);
uint32_t log_ring_end(void);
/* Up to @n bytes from *pos on, which moves (past what is lost too). */
size_t log_ring_copy(char *buf, size_t n, uint32_t *pos);
/* A larger ring instead; @size is a power of two. Contents move over; the first one is static. */
void log_ring_grow(char *memory, uint32_t size);

/* --- console.c --- */
void console_put_line(const char *line, size_t n); /* to ring and devices */
void console_receive(char c);                      /* from the serial line, no lock held */
void console_set_panicking(void);
/* Brackets for the ring and the devices. False: somebody else has it and we must not wait. */
bool __must_check console_lock(void);
void console_unlock(void);

/* --- ns16550.c --- */
/* Takes the UART that @config ("baud,8n1,port,irq", parts from the right may miss) describes.
 * False: nothing there, or @config is malformed (reported). */
bool uart_init(const char *name, const char *config, uint16_t port, unsigned irq);
void uart_write(const char *buf, size_t n);
void uart_start_input(void); /* interrupts, or a timer when the line cannot be had */
uint16_t uart_port(void);

/* --- screens: a place that moves, and what to do there --- */
struct text_place {
    unsigned columns, row, column;
};

static inline void text_write(struct text_place *at, const char *buf, size_t n,
                              void (*draw)(unsigned char c), void (*new_line)(void))
{
    for (; n; n--, buf++) {
        if (*buf == '\n') {
            new_line();
        } else if (*buf == '\r') {
            at->column = 0;
        } else {
            if (at->column == at->columns)
                new_line();
            draw((unsigned char)*buf);
            at->column++;
        }
    }
}

/* --- vga.c --- */
bool vga_init(void *memory);
void vga_write(const char *buf, size_t n);

/* --- framebuffer.c --- */
struct framebuffer;
bool framebuffer_init(const struct framebuffer *fb); /* maps it: after mm_init() */
void framebuffer_write(const char *buf, size_t n);

/* --- keys.c --- */
void keys_init(void);

#endif
