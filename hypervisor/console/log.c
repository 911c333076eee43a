/*
 * The log: lines with a level, kept in a ring that domain 0 can read (xl dmesg).
 *
 * Formatting happens on the caller's stack, without the lock. A line that a guest causes passes a
 * token bucket first, one per domain number (numbers 64 apart share one), so that no guest can make
 * the hypervisor spend its time on the serial line; what was dropped is counted and said with the
 * next line that passes.
 *
 * The ring is written under the console lock (console.c); positions are byte counts since boot, so
 * each reader (a device, a tool) keeps only its own position.
 */
#include "console/internal.h"
#include "boot/bootinfo.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "time/time.h"

#define LINE_MAX 512

static char first_ring[LOG_RING_DEFAULT];
static char *ring = first_ring;
static uint32_t ring_size = LOG_RING_DEFAULT;
static uint32_t ring_start, ring_end; /* end - start <= size */
static uint32_t ring_shown;           /* where a reader without position starts (after "clear") */

void log_ring_put(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ring[(ring_end + i) % ring_size] = text[i];
    ring_end += n;
    if (ring_end - ring_start > ring_size)
        ring_start = ring_end - ring_size;
}

uint32_t log_ring_end(void)
{
    return ring_end;
}

size_t log_ring_copy(char *buf, size_t n, uint32_t *pos)
{
    if (ring_end - *pos > ring_end - ring_start)
        *pos = ring_start;
    n = min(n, (size_t)(ring_end - *pos));
    for (size_t i = 0; i < n; i++)
        buf[i] = ring[(*pos + i) % ring_size];
    *pos += n;
    return n;
}

void log_ring_grow(char *memory, uint32_t size)
{
    uint32_t kept = ring_end - ring_start;
    if (size < kept)
        ring_start = ring_end - size;
    for (uint32_t i = ring_start; i != ring_end; i++)
        memory[i % size] = ring[i % ring_size];
    ring = memory;
    ring_size = size;
}

size_t log_ring_read(char *buf, size_t n, uint32_t *index, bool clear)
{
    if (!console_lock())
        return 0;
    uint32_t pos = *index;
    /* Index 0 and what has been overwritten or cleared mean "the oldest to show". */
    uint32_t oldest = ring_end - ring_shown > ring_end - ring_start ? ring_start : ring_shown;
    if (ring_end - pos > ring_end - oldest)
        pos = oldest;
    n = log_ring_copy(buf, n, &pos);
    if (clear)
        ring_shown = ring_end;
    *index = pos;
    console_unlock();
    return n;
}

/* Cuts an overlong line and ends it. */
static void put_line(char *line, size_t n)
{
    if (n > LINE_MAX - 2)
        n = LINE_MAX - 2;
    while (n && line[n - 1] == '\n')
        n--;
    line[n++] = '\n';
    console_put_line(line, n);
}

static const char *tag(enum log_level level)
{
    static const char *const tags[] = {
        [LOG_ERROR] = "error: ", [LOG_WARNING] = "warning: ", [LOG_DEBUG] = "debug: "};
    return level >= LOG_ERROR && level <= LOG_DEBUG && tags[level] ? tags[level] : "";
}

void log_print(enum log_level level, const char *fmt, ...)
{
    if ((int)level > boot_options.loglvl && !console_panicking())
        return;
    char line[LINE_MAX];
    size_t n = (size_t)snprintf(line, sizeof(line), "(trilby) %s", tag(level));
    va_list ap;
    va_start(ap, fmt);
    n += (size_t)vsnprintf(line + n, sizeof(line) - n, fmt, ap);
    va_end(ap);
    put_line(line, n);
}

#define BUCKETS      64
#define BUCKET_LINES 40                /* in a burst */
#define BUCKET_NS    MILLISECONDS(100) /* then one line in this time */

static struct bucket {
    unsigned tokens, dropped;
    ns_t filled;
    bool used;
} buckets[BUCKETS]; /* under the console lock */

/* True when a line may pass; then *dropped is how many did not since the last one that did. */
static bool bucket_take(unsigned domid, unsigned *dropped)
{
    struct bucket *b = &buckets[domid % BUCKETS];
    ns_t now = time_now();
    *dropped = 0;
    if (!console_lock())
        return false;
    if (!b->used) {
        *b = (struct bucket){.tokens = BUCKET_LINES, .filled = now, .used = true};
    } else if (now - b->filled >= BUCKET_NS) {
        uint64_t earned = (now - b->filled) / BUCKET_NS;
        b->tokens = (unsigned)min(b->tokens + earned, (uint64_t)BUCKET_LINES);
        b->filled += earned * BUCKET_NS;
    }
    bool pass = b->tokens > 0;
    if (pass) {
        b->tokens--;
        *dropped = b->dropped;
        b->dropped = 0;
    } else {
        b->dropped++;
    }
    console_unlock();
    return pass;
}

void log_guest(unsigned domid, enum log_level level, const char *fmt, ...)
{
    unsigned dropped;
    if ((int)level > boot_options.guest_loglvl || !bucket_take(domid, &dropped))
        return;
    char line[LINE_MAX];
    if (dropped) {
        size_t n =
            (size_t)snprintf(line, sizeof(line), "(trilby) d%u %u lines dropped", domid, dropped);
        put_line(line, n);
    }
    size_t n = (size_t)snprintf(line, sizeof(line), "(trilby) d%u %s", domid, tag(level));
    va_list ap;
    va_start(ap, fmt);
    n += (size_t)vsnprintf(line + n, sizeof(line) - n, fmt, ap);
    va_end(ap);
    put_line(line, n);
}
