/*
 * The first process of a guest with a disk and a card: does each row of the table below between two
 * markers (bench/counter/counter.c); devices.py takes names and numbers from the table. As any
 * other process it is the other end, in domain 0: takes and sends by TCP, and sends UDP back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "../guests/rows.h"

#define DISK      "/dev/xvda"
#define DISK_SIZE (64 * MIB) /* devices.py */
#define HOST      "10.9.0.1"
enum port { SINK = 5001, SOURCE, ECHO };

static char buffer[MIB] __attribute__((aligned(PAGE)));

static struct sockaddr_in address(enum port port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, HOST, &a.sin_addr) == 1);
    return a;
}

static int connection(int type, enum port port)
{
    struct sockaddr_in a = address(port);
    int s = socket(AF_INET, type, 0);
    CHECK(s >= 0 && !connect(s, (struct sockaddr *)&a, sizeof(a)));
    return s;
}

static void send_mib(int s)
{
    for (ssize_t done = 0, now; done < MIB; done += now)
        CHECK((now = write(s, buffer + done, MIB - done)) > 0);
}

/* --- domain 0's end --- */

static void receive_all(int s)
{
    while (read(s, buffer, sizeof(buffer)) > 0)
        ;
    close(s);
}

/* As many MiB as the first byte says. */
static void send_all(int s)
{
    uint8_t n = 0;
    CHECK(read(s, &n, 1) == 1);
    while (n--)
        send_mib(s);
    close(s);
}

static void serve(enum port port, void (*with)(int s))
{
    struct sockaddr_in a = address(port);
    int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    CHECK(!setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
    CHECK(!bind(s, (struct sockaddr *)&a, sizeof(a)) && !listen(s, 1));
    if (!fork())
        for (;;)
            with(accept(s, NULL, NULL));
}

static void echo(void)
{
    struct sockaddr_in a = address(ECHO);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(!bind(s, (struct sockaddr *)&a, sizeof(a)));
    for (;;) {
        socklen_t size = sizeof(a);
        ssize_t n = recvfrom(s, buffer, sizeof(buffer), 0, (struct sockaddr *)&a, &size);
        CHECK(n >= 0 && sendto(s, buffer, n, 0, (struct sockaddr *)&a, size) == n);
    }
}

/* --- one operation each --- */

static long balloon(const char *name, long kib)
{
    char path[100], text[32] = "";
    snprintf(path, sizeof(path), "/sys/devices/system/xen_memory/xen_memory0/%s", name);
    int file = open(path, kib ? O_WRONLY : O_RDONLY);
    if (kib)
        CHECK(write(file, text, sprintf(text, "%ld", kib)) > 0);
    else
        CHECK(read(file, text, sizeof(text) - 1) > 0);
    close(file);
    return atol(text);
}

static void balloon_by(long kib)
{
    long target = balloon("info/current_kb", 0) + kib;
    if (!kib)
        return;
    balloon("target_kb", target);
    while (balloon("info/current_kb", 0) != target)
        usleep(10000);
}

static void balloon_out(long n)
{
    balloon_by(-4 * n);
}

static void balloon_in(long n)
{
    balloon_by(4 * n);
}

static void disk_random(long n, int mode)
{
    uint32_t state = 1;
    int disk = open(DISK, mode | O_DIRECT);
    while (n--) {
        state = state * 1664525 + 1013904223;
        off_t at = (state >> 8) % (DISK_SIZE / PAGE) * PAGE;
        CHECK((mode == O_RDONLY ? pread(disk, buffer, PAGE, at) : pwrite(disk, buffer, PAGE, at)) ==
              PAGE);
    }
    close(disk);
}

static void disk_read(long n)
{
    disk_random(n, O_RDONLY);
}

static void disk_write(long n)
{
    disk_random(n, O_WRONLY);
}

static void disk_in_order(long n)
{
    int disk = open(DISK, O_RDONLY | O_DIRECT);
    while (n--)
        CHECK(read(disk, buffer, MIB) == MIB);
    close(disk);
}

static void tcp_send(long n)
{
    int s = connection(SOCK_STREAM, SINK);
    while (n--)
        send_mib(s);
    CHECK(!shutdown(s, SHUT_WR) && read(s, buffer, 1) == 0); /* all of it was taken */
    close(s);
}

static void tcp_receive(long n)
{
    uint8_t mib = n;
    int s = connection(SOCK_STREAM, SOURCE);
    CHECK(write(s, &mib, 1) == 1);
    for (ssize_t done = 0, now; done < n * MIB; done += now)
        CHECK((now = read(s, buffer, sizeof(buffer))) > 0);
    close(s);
}

static void udp(long n)
{
    int s = connection(SOCK_DGRAM, ECHO);
    while (n--)
        CHECK(write(s, buffer, 64) == 64 && read(s, buffer, sizeof(buffer)) == 64);
    close(s);
}

static const struct row rows[] = {
    {"read 4 KiB at random", disk_read, 50, 1000}, {"write 4 KiB at random", disk_write, 50, 1000},
    {"read 1 MiB in order", disk_in_order, 2, 32}, {"64 bytes by UDP, to and fro", udp, 50, 1000},
    {"send 1 MiB by TCP", tcp_send, 2, 32},        {"receive 1 MiB by TCP", tcp_receive, 2, 32},
    {"balloon out a page", balloon_out, 0, 16384}, {"balloon in a page", balloon_in, 0, 16384},
};

static void prepare(void)
{
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    open_console();
    CHECK(!system("/bin/busybox --install -s /bin; modprobe -a xen-blkfront xen-netfront"));
    for (int tries = 0; access(DISK, F_OK) || access("/sys/class/net/eth0", F_OK); tries++) {
        CHECK(tries < 1000);
        usleep(10000);
    }
    CHECK(!system("ip address add 10.9.0.2/24 dev eth0; ip link set eth0 up; sleep 2"));
}

int main(void)
{
    if (getpid() != 1) {
        serve(SINK, receive_all);
        serve(SOURCE, send_all);
        echo();
    }
    prepare();
    run_rows(rows, sizeof(rows) / sizeof(rows[0]));
    for (;;)
        pause();
}
