/*
 * A program for domain 0: `watch SECONDS DOMAIN...` lets these guests (guest/main.c), which are
 * paused, run together, and prints what they did in so many seconds; after that they are paused
 * again. They have run for a second by then, so that what is new to the scheduler is old. Between
 * the two markers (bench/counter) this sleeps.
 *
 * Lines: "window NS", then per guest: domain, ns of a round, rounds, gaps, wakes, missed, longest,
 * and the times that it was late, as slot:count.
 */
#include "../counter/mark.h"
#include "results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>

#define MOST_GUESTS 256

static xc_interface *xc;
static xenforeignmemory_handle *memory;
static unsigned guests;
static struct guest {
    uint32_t domain;
    struct results *results, end;
} guest[MOST_GUESTS];

static void fail(const char *what, uint32_t domain)
{
    fprintf(stderr, "watch: domain %u: %s\n", domain, what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sleep_for(uint64_t ns)
{
    uint64_t until = now() + ns;
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = until % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL))
        ;
}

static void *map(uint32_t domain, xen_pfn_t frame)
{
    void *p = xenforeignmemory_map(memory, domain, PROT_READ | PROT_WRITE, 1, &frame, NULL);
    if (!p)
        fail("cannot map its memory", domain);
    return p;
}

static struct results *find_results(uint32_t domain)
{
    xc_dominfo_t info;
    if (xc_domain_getinfo(xc, domain, 1, &info) != 1 || info.domid != domain)
        fail("no such domain", domain);
    shared_info_t *shared = map(domain, info.shared_info_frame);
    struct results *r = map(domain, shared->arch.pfn_to_mfn_frame_list_list);
    xenforeignmemory_unmap(memory, shared, 1);
    if (r->magic != RESULTS_MAGIC)
        fail("is not one of ours, or did not start", domain);
    return r;
}

static void zero(struct results *r)
{
    r->rounds = r->gaps = r->wakes = r->missed = r->longest = 0;
    memset(r->late, 0, sizeof(r->late));
    r->skip = 10;
}

static void print(const struct guest *g)
{
    const struct results *r = &g->end;
    printf("%u %lu %lu %lu %lu %lu %lu", g->domain, r->round_ns, r->rounds, r->gaps, r->wakes,
           r->missed, r->longest);
    for (unsigned i = 0; i < LATE_SLOTS; i++)
        if (r->late[i])
            printf(" %lu:%u", late_end(i), r->late[i]);
    printf("\n");
}

static void for_all(int (*op)(xc_interface *xc, uint32_t domain))
{
    for (unsigned i = 0; i < guests; i++)
        if (op(xc, guest[i].domain))
            fail("cannot be paused or unpaused", guest[i].domain);
}

int main(int argc, char **argv)
{
    xc = xc_interface_open(NULL, NULL, 0);
    memory = xenforeignmemory_open(NULL, 0);
    if (argc < 3 || argc - 2 > MOST_GUESTS || !xc || !memory) {
        fprintf(stderr, "usage, in domain 0: watch SECONDS DOMAIN...\n");
        return 2;
    }
    uint64_t window = (uint64_t)(atof(argv[1]) * 1e9);
    guests = (unsigned)argc - 2;
    for (unsigned i = 0; i < guests; i++)
        guest[i].domain = (uint32_t)atoi(argv[2 + i]);

    for_all(xc_domain_unpause);
    sleep_for(1000000000);
    for (unsigned i = 0; i < guests; i++)
        guest[i].results = find_results(guest[i].domain);
    sleep_for(100000000);

    for (unsigned i = 0; i < guests; i++)
        zero(guest[i].results);
    MARK(16);
    uint64_t began = now();
    sleep_for(window);
    uint64_t ended = now();
    MARK(17);
    for (unsigned i = 0; i < guests; i++)
        guest[i].end = *guest[i].results;

    for_all(xc_domain_pause);
    printf("window %lu\n", ended - began);
    for (unsigned i = 0; i < guests; i++)
        print(&guest[i]);
    return 0;
}
