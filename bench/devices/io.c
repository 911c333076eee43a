/*
 * The first process of a guest with a disk and a card: does each row of the table below between two
 * markers (bench/counter/counter.c); devices.py takes names and numbers from the table. Where
 * "crowd=N number=I" is on the kernel's command line, it does the first row alone, when N guests
 * are ready for it. As any other process it is the other end, in domain 0: takes and sends by TCP,
 * and sends UDP back; or, with a disk's name, does the rows there, on that disk.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "../guests/rows.h"

#define DISK_SIZE (64 * MIB) /* devices.py */
#define HOST      "10.9.0.1"
enum port { SINK = 5001, SOURCE, ECHO, GATE };

static const char *disk_name;
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

/* Each who comes says how many will; when they have, all may go. */
static void hold(int s)
{
    static int waiting[16];
    static unsigned held;
    uint8_t n = 0;
    CHECK(read(s, &n, 1) == 1 && held < sizeof(waiting) / sizeof(waiting[0]));
    waiting[held++] = s;
    if (held < n)
        return;
    while (held > 0) {
        s = waiting[--held];
        CHECK(write(s, "", 1) == 1 && !close(s));
    }
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
    int disk = open(disk_name, mode | O_DIRECT);
    CHECK(disk >= 0);
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
    int disk = open(disk_name, O_RDONLY | O_DIRECT);
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

static const size_t all_rows = sizeof(rows) / sizeof(rows[0]);
static const size_t without_balloon = sizeof(rows) / sizeof(rows[0]) - 2;

/* Returns how many rows can be done here. */
static size_t prepare(const char *number)
{
    char command[200];
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    open_console();
    bool xen = !access("/sys/hypervisor/type", F_OK);
    disk_name = xen ? "/dev/xvda" : "/dev/vda";
    sprintf(command, "/bin/busybox --install -s /bin; modprobe -a %s",
            xen ? "xen-blkfront xen-netfront" : "virtio_pci virtio_blk virtio_net");
    CHECK(!system(command));
    for (int tries = 0; access(disk_name, F_OK) || access("/sys/class/net/eth0", F_OK); tries++) {
        CHECK(tries < 1000);
        usleep(10000);
    }
    sprintf(command, "ip address add 10.9.0.%d/24 dev eth0; ip link set eth0 up; sleep 2",
            2 + (number ? atoi(number) : 0));
    CHECK(!system(command));
    return xen ? all_rows : without_balloon;
}

/* One of several guests that do the same at the same time. */
static void run_in_crowd(uint8_t crowd)
{
    int s = connection(SOCK_STREAM, GATE);
    struct row row = rows[0];
    row.run(row.warm);
    row.warm = 0;
    CHECK(write(s, &crowd, 1) == 1 && read(s, &crowd, 1) == 1);
    run_rows(&row, 1);
}

static void serve_all(void)
{
    serve(SINK, receive_all);
    serve(SOURCE, send_all);
    serve(GATE, hold);
    echo();
}

int main(int argc, char **argv)
{
    const char *crowd = getenv("crowd");
    if (getpid() == 1) {
        size_t count = prepare(getenv("number"));
        if (crowd)
            run_in_crowd(atoi(crowd));
        else
            run_rows(rows, count);
    } else if (argc > 1) {
        disk_name = argv[1];
        run_rows(rows, without_balloon);
    } else {
        serve_all();
    }
    for (;;)
        pause();
}
