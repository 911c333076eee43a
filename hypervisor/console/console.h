/*
 * The hypervisor's voice: a log ring, serial port and VGA text behind one call, and the keys that
 * ask it questions. May be called from anywhere, NMI included (which only appends to the ring).
 * Lock: RANK_CONSOLE.
 */
#ifndef CONSOLE_CONSOLE_H
#define CONSOLE_CONSOLE_H

#include "lib/compiler.h"
#include "lib/types.h"

/* LOG_ALWAYS: answers to debug keys, last words; shown whatever loglvl= says. */
enum log_level { LOG_ALWAYS = -1, LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* A line of the hypervisor; "\n" is appended by the call. Shown when @level <= loglvl=. */
void log_print(enum log_level level, const char *fmt, ...) __printf(2, 3);

/*
 * A line caused by guest @domid: prefixed "d<id> ", shown when @level <= guest_loglvl=, and
 * rate-limited so that a guest cannot flood the log (dropped lines are counted and reported).
 */
void log_guest(unsigned domid, enum log_level level, const char *fmt, ...) __printf(3, 4);

#define log_always(...) log_print(LOG_ALWAYS, __VA_ARGS__)
#define log_error(...)  log_print(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)   log_print(LOG_WARNING, __VA_ARGS__)
#define log_info(...)   log_print(LOG_INFO, __VA_ARGS__)
#define log_debug(...)  log_print(LOG_DEBUG, __VA_ARGS__)

/* Prints, shows registers and a symbolic stack trace, stops the other CPUs, halts or reboots. */
void panic(const char *fmt, ...) __printf(1, 2) __noreturn;

/* For our own invariants only; never reachable by what a guest does. */
#ifdef DEBUG
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (unlikely(!(cond)))                                                                     \
            panic("assertion failed: %s at %s:%d", #cond, __FILE__, __LINE__);                     \
    } while (0)
#else
#define ASSERT(cond) ((void)sizeof(cond))
#endif

void console_init_early(void); /* devices named by console= and com1=, but for graphics modes */
void console_init(void);       /* interrupt-driven input, log ring of conring_size= */

/* A screen in a graphics mode shows what was logged so far and what follows. After mm_init(). */
void console_init_screen(void);

/* The screen is domain 0's from now on; panics no longer appear there. */
void console_screen_release(void);

/* Base of the eight I/O ports of the serial line in use, which no domain may have; 0 = none. */
uint16_t console_serial_port(void);

/* True once panic() has begun: locks are then no longer waited for, nor their order checked. */
bool console_panicking(void);

/* Raw output of the dom0 console or of a guest's debug console (CONSOLEIO_write), @n bytes. */
void console_write(const char *buf, size_t n);

/* Bytes typed on the serial line for domain 0 since last asked (CONSOLEIO_read). */
size_t console_read(char *buf, size_t n);

/* Called (from interrupt) when input for domain 0 arrives: raises VIRQ_CONSOLE. Set by event/.
 * No lock is held. NULL until set. */
extern void (*console_input_hook)(void);

/*
 * The log ring for XEN_SYSCTL_readconsole. Copies at most @n bytes starting at ring index *index
 * (0 = oldest kept; incremental readers pass what they got back), advances *index; returns bytes.
 */
size_t log_ring_read(char *buf, size_t n, uint32_t *index, bool clear);

/* Debug keys: after three Ctrl-A on the serial line, or sysctl debug_keys. */
typedef void (*key_handler)(char key);
void key_register(char key, const char *help, key_handler fn);
void key_press(char key);

/* Output stays synchronous from now on (panic, sync_console). */
void console_force_sync(void);

#endif
