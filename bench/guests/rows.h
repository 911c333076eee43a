/* First processes of measured guests (init.c, bench/devices/io.c): a table of rows, done in order.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../counter/mark.h"

#define PAGE      4096
#define MIB       (1 << 20)

#define MARK_DONE 4 /* guests.py */

/* Nothing that fails is measured: the guest says what it was and stops. */
#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("bench: line %d: %s: %s\n", __LINE__, #what, strerror(errno));                  \
            fflush(stdout);                                                                        \
            pause();                                                                               \
        }                                                                                          \
    } while (0)

/* Operations at first, to be warm; then so many, counted. */
struct row {
    const char *name;
    void (*run)(long n);
    long warm, n;
};

static inline void open_console(void)
{
    int console = open("/dev/console", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(console, i);
}

static inline void run_rows(const struct row *rows, size_t count)
{
    for (const struct row *row = rows; row < rows + count; row++) {
        row->run(row->warm);
        MARK(MARK_BEGIN);
        row->run(row->n);
        MARK(MARK_END);
    }
    MARK(MARK_DONE);
}

#endif
