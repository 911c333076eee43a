/*
 * A program for domain 0: the pieces that building and destroying a guest consists of, each between
 * two markers (bench/counter/counter.c), through the interface that all tools use. Then as many
 * domains as the hypervisor has memory for; prints what pieces.py reads. The guests never run.
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>

#include "../counter/mark.h"

#define MIB      (1 << 20)
#define PAGES(n) ((n) / XC_PAGE_SIZE)
#define BATCH    1024

static xc_interface *xen;
static xenforeignmemory_handle *memory;
static xen_pfn_t extents[PAGES(MIB) * 1024];

static uint64_t free_pages(void)
{
    xc_physinfo_t info;
    if (xc_physinfo(xen, &info))
        err(1, "physinfo");
    return info.free_pages;
}

/* A PV domain with one vCPU, which may have @size bytes; 0: there is no room for it. */
static uint32_t create(uint64_t size)
{
    struct xen_domctl_createdomain config = {
        .max_vcpus = 1,
        .max_evtchn_port = 1023,
        .max_grant_frames = 32,
        .max_maptrack_frames = 1024,
        .grant_opts = 1,
    };
    uint32_t id = 0;
    if (xc_domain_create(xen, &id, &config))
        return 0;
    if (xc_domain_max_vcpus(xen, id, 1) || xc_domain_setmaxmem(xen, id, size / 1024)) {
        xc_domain_destroy(xen, id);
        return 0;
    }
    return id;
}

static int populate(uint32_t id, uint64_t size, unsigned order)
{
    unsigned long n = size / XC_PAGE_SIZE >> order;
    for (unsigned long i = 0; i < n; i++)
        extents[i] = i << order;
    for (unsigned long at = 0, now; at < n; at += now) {
        now = n - at < BATCH ? n - at : BATCH;
        if (xc_domain_populate_physmap_exact(xen, id, now, order, 0, extents + at))
            return -1;
    }
    return 0;
}

/* What is measured: @id is the domain of the row before, or 0. */

static uint32_t piece_create(uint32_t id, uint64_t size)
{
    (void)id;
    return create(size);
}

static uint32_t piece_2m(uint32_t id, uint64_t size)
{
    if (populate(id, size, 9))
        err(1, "populate by 2 MiB");
    return id;
}

static uint32_t piece_4k(uint32_t id, uint64_t size)
{
    if (populate(id, size, 0))
        err(1, "populate by 4 KiB");
    return id;
}

/* As the tools load an image. The frame numbers are those that populating returned. */
static uint32_t piece_map(uint32_t id, uint64_t size)
{
    static int errors[PAGES(16 * MIB)];
    (void)size;
    void *at =
        xenforeignmemory_map(memory, id, PROT_READ | PROT_WRITE, PAGES(16 * MIB), extents, errors);
    if (!at)
        err(1, "map");
    memset(at, 1, 16 * MIB);
    if (xenforeignmemory_unmap(memory, at, PAGES(16 * MIB)))
        err(1, "unmap");
    return id;
}

static uint64_t free_before;

static uint32_t piece_destroy(uint32_t id, uint64_t size)
{
    (void)size;
    if (xc_domain_destroy(xen, id))
        err(1, "destroy");
    while (free_pages() < free_before)
        usleep(100);
    return 0;
}

#define CROWD 100
static uint32_t crowd[CROWD];

static uint32_t piece_crowd(uint32_t id, uint64_t size)
{
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = create(size);
        if (!crowd[i] || populate(crowd[i], size, 0))
            err(1, "domain %u of %u", i + 1, CROWD);
    }
    return id;
}

static const struct row {
    const char *name;
    uint32_t (*run)(uint32_t id, uint64_t size);
    unsigned long mib, units; /* units: what the result is per */
} rows[] = {
    {"create a domain with a vCPU", piece_create, 128, 1},
    {"give it 128 MiB by 2 MiB, per MiB", piece_2m, 128, 128},
    {"destroy it, until its memory is free, per MiB", piece_destroy, 128, 128},
    {"create another", piece_create, 128, 1},
    {"give it 128 MiB by 4 KiB, per page", piece_4k, 128, 32768},
    {"map, write and unmap 16 MiB of it, per page", piece_map, 128, 4096},
    {"destroy it, until its memory is free, per page", piece_destroy, 128, 32768},
    {"create a third", piece_create, 1024, 1},
    {"give it 1 GiB by 2 MiB, per MiB", piece_2m, 1024, 1024},
    {"destroy it, until its memory is free, per MiB of 1 GiB", piece_destroy, 1024, 1024},
    {"create 100 domains and give each 1 MiB, per domain", piece_crowd, 1, 100},
    {"create one beside them", piece_create, 128, 1},
    {"give it 128 MiB by 4 KiB, beside them, per page", piece_4k, 128, 32768},
    {"destroy it, beside them, per page", piece_destroy, 128, 32768},
};

/* How many domains of @size bytes there can be at once; prints it and the pages that are gone. */
static void fill(uint64_t size, unsigned limit)
{
    static uint32_t ids[32768];
    uint64_t before = free_pages();
    unsigned n = 0;
    while (n < limit && (ids[n] = create(size)))
        if (populate(ids[n++], size, 0))
            break;
    printf("fill %lu KiB: %u domains, %lu pages\n", (unsigned long)size / 1024, n,
           (unsigned long)(before - free_pages()));
    while (n--)
        xc_domain_destroy(xen, ids[n]);
    for (int tries = 0; free_pages() < before && tries < 1000; tries++)
        usleep(10000);
}

int main(void)
{
    xen = xc_interface_open(NULL, NULL, 0);
    memory = xenforeignmemory_open(NULL, 0);
    if (!xen || !memory)
        err(1, "no hypervisor");
    memset(extents, 1, sizeof(extents));
    sleep(30); /* free memory is cleared where that is done while idle */
    free_before = free_pages();
    uint32_t id = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!id)
            free_before = free_pages();
        sleep(5); /* what there is to do behind our back is done, 1 GiB cleared, too */
        MARK(MARK_BEGIN);
        id = rows[i].run(id, (uint64_t)rows[i].mib * MIB);
        MARK(MARK_END);
        if (rows[i].run == piece_create && !id)
            errx(1, "%s: no domain", rows[i].name);
    }
    for (unsigned i = 0; i < CROWD; i++)
        xc_domain_destroy(xen, crowd[i]);
    fill(4 * MIB, 32000);
    fill(XC_PAGE_SIZE, 200);
    return 0;
}
