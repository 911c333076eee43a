/*
 * The first process of the measured guest: does each row of the table below between two markers
 * (bench/counter/counter.c), then says by a third that it is done. bench/guests/guests.py takes
 * names and numbers of operations from the table. The same static binary runs on the bare machine
 * and in every kind of guest; nothing here asks what it runs on, waits for a clock or prints.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rows.h"

static uint32_t draw(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

/* --- one operation each, after lmbench --- */

static void null_call(long n)
{
    while (n--)
        syscall(SYS_getppid);
}

static void null_io(long n)
{
    char c;
    int from = open("/dev/zero", O_RDONLY), to = open("/dev/null", O_WRONLY);
    while (n--)
        CHECK(read(from, &c, 1) == 1 && write(to, &c, 1) == 1);
    close(from);
    close(to);
}

static void stat_file(long n)
{
    struct stat s;
    while (n--)
        CHECK(!stat("/bin/busybox", &s));
}

static void open_close(long n)
{
    while (n--)
        CHECK(!close(open("/bin/busybox", O_RDONLY)));
}

static void select_pipes(long n)
{
    int ends[50][2], top = 0;
    fd_set set;
    for (int i = 0; i < 50; i++) {
        CHECK(!pipe(ends[i]));
        top = ends[i][1];
    }
    while (n--) {
        struct timeval none = {0};
        FD_ZERO(&set);
        for (int i = 0; i < 50; i++) {
            FD_SET(ends[i][0], &set);
            FD_SET(ends[i][1], &set);
        }
        CHECK(select(top + 1, &set, NULL, NULL, &none) == 0);
    }
    for (int i = 0; i < 50; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
}

static void on_signal(int number)
{
    (void)number;
}

static void signal_install(long n)
{
    struct sigaction action = {.sa_handler = on_signal};
    while (n--)
        sigaction(SIGUSR1, &action, NULL);
}

static void signal_handle(long n)
{
    pid_t self = getpid();
    while (n--)
        kill(self, SIGUSR1);
}

static char *protected;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    CHECK(info->si_addr == protected);
    mprotect(protected, PAGE, PROT_READ | PROT_WRITE);
}

static void protection_fault(long n)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
    protected = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &action, &before);
    while (n--) {
        mprotect(protected, PAGE, PROT_READ);
        *(volatile char *)protected = 1;
    }
    sigaction(SIGSEGV, &before, NULL);
    munmap(protected, PAGE);
}

static void mprotect_16(long n)
{
    char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    while (n--) {
        mprotect(p, 16 * PAGE, PROT_READ);
        mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE);
    }
    munmap(p, 16 * PAGE);
}

/* Each page for the first time, @n pages in all. */
static void page_fault(long n)
{
    char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    for (long i = 0; i < n; i++)
        p[i * PAGE] = 1;
    munmap(p, n * PAGE);
}

/* A mapping of 2 MiB of a file, every fourth page touched. */
static void map_file(long n)
{
    int file = open("/tmp/map", O_RDWR | O_CREAT, 0600);
    CHECK(!posix_fallocate(file, 0, 2 * MIB));
    while (n--) {
        char *p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        CHECK(p != MAP_FAILED);
        for (long at = 0; at < 2 * MIB; at += 4 * PAGE)
            p[at] = 1;
        munmap(p, 2 * MIB);
    }
    close(file);
    unlink("/tmp/map");
}

static void wait_for(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void run(const char *program, ...)
{
    const char *words[8] = {program};
    va_list list;
    va_start(list, program);
    for (int i = 1; i < 7 && words[i - 1]; i++)
        words[i] = va_arg(list, const char *);
    va_end(list);
    pid_t child = fork();
    if (!child) {
        execv(program, (char **)words);
        _exit(127);
    }
    wait_for(child);
}

static void fork_exit(long n)
{
    while (n--) {
        pid_t child = fork();
        if (!child)
            _exit(0);
        wait_for(child);
    }
}

static void fork_exec(long n)
{
    while (n--)
        run("/bin/true", NULL);
}

static void shell(long n)
{
    while (n--)
        run("/bin/sh", "-c", "/bin/true", NULL);
}

/* Two processes pass a byte to and fro; each reads @size bytes of its own in between. */
static void pass_token(long n, size_t size)
{
    static uint64_t own[16384 / 8];
    int there[2], back[2];
    char c = 0;
    CHECK(!pipe(there) && !pipe(back));
    pid_t child = fork();
    int from = child ? back[0] : there[0], to = child ? there[1] : back[1];
    for (long i = 0; i < n; i++) {
        uint64_t sum = 0;
        if (!child)
            CHECK(read(from, &c, 1) == 1);
        for (size_t at = 0; at < size / 8; at++)
            sum += ((volatile uint64_t *)own)[at];
        CHECK(write(to, &c, 1) == 1);
        if (child)
            CHECK(read(from, &c, 1) == 1);
    }
    if (!child)
        _exit(0);
    wait_for(child);
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
}

static void switch_0k(long n)
{
    pass_token(n, 0);
}

static void switch_16k(long n)
{
    pass_token(n, 16384);
}

/* --- the system --- */

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorting, sieving, hashing, in a megabyte. */
static void compute(long n)
{
    static uint32_t numbers[MIB / 8];
    static uint8_t sieve[MIB / 2];
    uint32_t state = 1, hash = 0;
    while (n--) {
        for (size_t i = 0; i < MIB / 8; i++)
            numbers[i] = draw(&state);
        qsort(numbers, MIB / 8, sizeof(numbers[0]), compare);
        memset(sieve, 0, sizeof(sieve));
        for (size_t i = 2; i * i < sizeof(sieve); i++)
            for (size_t k = i * i; !sieve[i] && k < sizeof(sieve); k += i)
                sieve[k] = 1;
        for (size_t i = 0; i < MIB / 8; i++)
            hash = hash * 31 + numbers[i] + sieve[i];
    }
    CHECK(hash);
}

/* Text of words that repeat, as /tmp/text. */
static void make_text(void)
{
    uint32_t state = 7;
    FILE *f = fopen("/tmp/text", "w");
    for (long size = 0; size < MIB;) {
        uint32_t word = draw(&state) % 3000;
        for (uint32_t i = 0; i < 3 + word % 7; i++, size++)
            putc('a' + (word >> i) % 26, f);
        putc(draw(&state) % 12 ? ' ' : '\n', f);
        size++;
    }
    CHECK(!fclose(f));
}

static void compress(long n)
{
    while (n--)
        run("/bin/sh", "-c", "gzip -c /tmp/text >/tmp/text.gz", NULL);
}

static void digest(long n)
{
    while (n--)
        run("/bin/sh", "-c", "sha256sum /tmp/text >/tmp/text.sum", NULL);
}

static void files(long n)
{
    static char data[8 * PAGE], name[64], renamed[64];
    CHECK(!mkdir("/tmp/files", 0700));
    for (long i = 0; i < n; i++) {
        struct stat s;
        sprintf(name, "/tmp/files/%ld", i);
        sprintf(renamed, "/tmp/files/%ld.kept", i);
        int file = open(name, O_RDWR | O_CREAT, 0600);
        CHECK(write(file, data, sizeof(data)) == sizeof(data));
        CHECK(pread(file, data, sizeof(data), 0) == sizeof(data));
        CHECK(!close(file) && !stat(name, &s) && !rename(name, renamed));
        if (i % 4)
            CHECK(!unlink(renamed));
    }
    run("/bin/rm", "-r", "/tmp/files", NULL);
}

static void database(long n)
{
    sqlite3 *db;
    char text[200];
    CHECK(!sqlite3_open("/tmp/db", &db));
    CHECK(!sqlite3_exec(db, "CREATE TABLE t (i INTEGER PRIMARY KEY, v TEXT)", NULL, NULL, NULL));
    for (long i = 0; i < n; i++) {
        sprintf(text,
                "BEGIN; INSERT INTO t VALUES (%ld, 'value %ld');"
                "UPDATE t SET v = 'new %ld' WHERE i = %ld; COMMIT",
                i, i * i, i, i / 2);
        CHECK(!sqlite3_exec(db, text, NULL, NULL, NULL));
    }
    sqlite3_close(db);
    unlink("/tmp/db");
}

static void script(long n)
{
    char text[200];
    sprintf(text,
            "i=0; while [ $i -lt %ld ]; do grep -c a$i /tmp/some | cat >/tmp/n; i=$((i+1)); done",
            n);
    run("/bin/sh", "-c", "head -n 50 /tmp/text >/tmp/some", NULL);
    run("/bin/sh", "-c", text, NULL);
}

static void compile(long n)
{
    while (n--)
        run("/bin/sh", "-c",
            "for f in /src/*.c; do /usr/bin/tcc -w -c -o ${f%.c}.o $f || exit; done", NULL);
}

static const struct row rows[] = {
    {"null system call", null_call, 100, 10000},
    {"read and write a byte", null_io, 100, 5000},
    {"stat", stat_file, 100, 4000},
    {"open and close", open_close, 100, 2000},
    {"select of 100 pipe ends", select_pipes, 10, 500},
    {"install a signal handler", signal_install, 100, 5000},
    {"handle a signal", signal_handle, 100, 2000},
    {"protection fault", protection_fault, 100, 2000},
    {"mprotect 16 pages, twice", mprotect_16, 50, 1000},
    {"page fault", page_fault, 1000, 4000},
    {"map 2 MiB of a file", map_file, 2, 50},
    {"pass a byte to and fro", switch_0k, 50, 2000},
    {"... with 16 KiB read by each", switch_16k, 50, 1000},
    {"fork and exit", fork_exit, 5, 100},
    {"fork and exec", fork_exec, 5, 100},
    {"sh -c true", shell, 5, 50},
    {"compute (sort, sieve, hash)", compute, 1, 3},
    {"gzip of 1 MiB", compress, 1, 1},
    {"sha256 of 1 MiB", digest, 1, 4},
    {"files on tmpfs", files, 20, 500},
    {"sqlite, transactions on tmpfs", database, 20, 500},
    {"shell script of pipes", script, 2, 30},
    {"compile three C programs", compile, 1, 2},
};

int main(void)
{
    MARK(3);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mkdir("/tmp", 0700);
    CHECK(!mount("tmp", "/tmp", "tmpfs", 0, NULL));
    run("/bin/busybox", "--install", "-s", "/bin", NULL);
    open_console();
    /* Not as the first process: the kernel reports what signals that one gets. */
    pid_t child = fork();
    if (child)
        for (;;)
            wait(NULL);
    make_text();
    run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
