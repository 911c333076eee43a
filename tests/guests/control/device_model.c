/*
 * A device model of ours for a hardware-virtualized domain: servers of I/O requests with their bad
 * input, port reads answered, one and many at once, a guest paused and destroyed while nobody
 * answers it.
 */
#include "control.h"
#include <xen/event_channel.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/save.h>
#include <xen/memory.h>
#include <xen/sched.h>

#define PORT     0x5000
#define WHOLE_PC (XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI)

#define BLOCK_AT (HVM_RESULT_AT + 0x100)
#define BLOCK    16
#define MEMORY   0xe0000000

static const uint8_t code[] = {
    0xba, 0x00, 0x50, 0x00, 0x00, /* mov $PORT, %edx */
    0xed,                         /* in (%dx), %eax */
    0xa3, 0x00, 0x20, 0x00, 0x00, /* mov %eax, HVM_RESULT_AT */
    0xbf, 0x00, 0x21, 0x00, 0x00, /* mov $BLOCK_AT, %edi */
    0xb9, 0x10, 0x00, 0x00, 0x00, /* mov $BLOCK, %ecx */
    0xf3, 0x6c,                   /* rep insb */
    0xbf, 0x00, 0x01, 0x00, 0xe0, /* mov $MEMORY + 0x100, %edi */
    0xb9, 0x10, 0x00, 0x00, 0x00, /* mov $BLOCK, %ecx */
    0xf3, 0xab,                   /* rep stosl */
    0xbe, 0x00, 0x01, 0x00, 0xe0, /* mov $MEMORY + 0x100, %esi */
    0xbf, 0x00, 0x00, 0x00, 0xe0, /* mov $MEMORY, %edi */
    0xb9, 0x10, 0x00, 0x00, 0x00, /* mov $BLOCK, %ecx */
    0xf3, 0xa5,                   /* rep movsl: within the device */
    0xbf, 0x00, 0x21, 0x00, 0x00, /* mov $BLOCK_AT, %edi */
    0xb9, 0x10, 0x00, 0x00, 0x00, /* mov $BLOCK, %ecx */
    0xf3, 0xa5,                   /* rep movsl: to RAM */
    0xbe, 0x00, 0x21, 0x00, 0x00, /* mov $BLOCK_AT, %esi */
    0xbf, 0xf8, 0x0f, 0x00, 0xe0, /* mov $MEMORY + 0xff8, %edi: beyond its end */
    0xb9, 0x04, 0x00, 0x00, 0x00, /* mov $4, %ecx */
    0xf3, 0xa5,                   /* rep movsl */
    0x42, 0xee,                   /* inc %edx; out %al, (%dx) */
    0xfa, 0xf4,                   /* cli; hlt */
};
static uint8_t window[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t ring_window[PAGE_SIZE] __attribute__((aligned(4096)));

static long dm(uint16_t d, struct xen_dm_op *op)
{
    struct xen_dm_op_buf buf = {.size = sizeof(*op)};

    buf.h.p = op;
    return HC(dm_op, d, 1, &buf);
}

#define DM(d, name, ...) dm(d, &(struct xen_dm_op){.op = XEN_DMOP_##name, .u.name = {__VA_ARGS__}})
#define RANGE(d, what, ...)                                                                        \
    dm(d, &(struct xen_dm_op){.op = XEN_DMOP_##what##_server, .u.what##_server = {__VA_ARGS__}})

static long resource(uint16_t d, unsigned id, unsigned frame, xen_pfn_t *mfn)
{
    struct xen_mem_acquire_resource r = {
        .domid = d, .type = XENMEM_resource_ioreq_server, .id = id, .frame = frame, .nr_frames = 1};

    r.frame_list.p = mfn;
    return HC(memory_op, XENMEM_acquire_resource, &r);
}

/* A page of the hypervisor's shown to @d, in place of a page of ours. */
static volatile void *map_shown(uint16_t d, xen_pfn_t mfn, void *at)
{
    struct mmu_update u = {.ptr = pt_entry_maddr(at, 1) | MMU_PT_UPDATE_NO_TRANSLATE,
                           .val = MAKE_PTE(mfn, PTE_KERN)};

    CHECK_EQ(HC(mmu_update, &u, 1, 0, d), 0);
    asm volatile("invlpg (%0)" ::"r"(at) : "memory");
    return at;
}

static void refused(uint16_t d)
{
    struct xen_dm_op_buf none = {.size = 0};
    struct xen_dm_op made = {.op = XEN_DMOP_create_ioreq_server};
    uint16_t first = 0;
    xen_pfn_t mfn;

    section("dm_op refused");
    none.h.p = &made;
    CHECK_EQ(HC(dm_op, d, 0, &none), -XEN_EINVAL);
    CHECK_EQ(HC(dm_op, d, 1, &none), -XEN_EINVAL);
    CHECK_EQ(HC(dm_op, d, 1, BAD_NONCANONICAL), -XEN_EFAULT);
    CHECK_EQ(HC(dm_op, DOMID_SELF, 1, &none), -XEN_ESRCH);
    CHECK_EQ(HC(dm_op, 0, 1, &none), -XEN_EINVAL); /* ourselves */
    CHECK_EQ(dm(d, &(struct xen_dm_op){.op = 99}), -XEN_EOPNOTSUPP);
    CHECK_EQ(dm(d, &(struct xen_dm_op){.op = XEN_DMOP_nr_vcpus, .pad = 1}), -XEN_EINVAL);
    CHECK_EQ(DM(d, inject_event, .vcpuid = 0), -XEN_EOPNOTSUPP);
    CHECK_EQ(DM(d, map_mem_type_to_ioreq_server, .id = 0), -XEN_EOPNOTSUPP);
    CHECK_EQ(DM(d, set_irq_level, .irq = 0), -XEN_EOPNOTSUPP);
    CHECK_EQ(DM(d, set_ioreq_server_state, .id = 3, .enabled = 1), -XEN_ENOENT);
    CHECK_EQ(DM(d, destroy_ioreq_server, .id = 999), -XEN_ENOENT);
    CHECK_EQ(DM(d, get_ioreq_server_info, .id = 0, .flags = XEN_DMOP_no_gfns), -XEN_ENOENT);
    CHECK_EQ(resource(d, 0, 1, &mfn), -XEN_ENOENT);
    CHECK_EQ(DM(d, create_ioreq_server, .handle_bufioreq = 9), -XEN_EINVAL);
    CHECK_EQ(DM(d, set_pci_intx_level, .device = 32), -XEN_EINVAL);
    CHECK_EQ(DM(d, set_pci_intx_level, .intx = 4), -XEN_EINVAL);
    CHECK_EQ(DM(d, set_pci_intx_level, .bus = 1), -XEN_EINVAL);
    CHECK_EQ(DM(d, set_isa_irq_level, .isa_irq = 16), -XEN_EINVAL);
    CHECK_EQ(DM(d, set_isa_irq_level, .isa_irq = 5, .level = 2), -XEN_EINVAL);
    CHECK_REFUSED(DM(d, set_pci_link_route, .link = 4, .isa_irq = 5));
    CHECK_EQ(DM(d, inject_msi, .addr = 0xfed00000, .data = 0x30), -XEN_EINVAL); /* no message */
    CHECK_EQ(DM(d, inject_msi, .addr = 0x1fee00000, .data = 0x30), -XEN_EINVAL);
    CHECK_EQ(DM(d, inject_msi, .data = 0xf), -XEN_EINVAL);   /* no such vector */
    CHECK_EQ(DM(d, inject_msi, .data = 0x230), -XEN_EINVAL); /* an SMI */
    CHECK_EQ(DM(d, set_mem_type, .nr = ~0u), -XEN_EINVAL);
    CHECK_EQ(DM(d, set_mem_type, .nr = 1, .mem_type = 9), -XEN_EOPNOTSUPP);
    CHECK_EQ(DM(d, set_mem_type, .nr = 1, .first_pfn = 1 << 20), -XEN_ENOENT);
    CHECK_EQ(DM(d, relocate_memory, .size = ~0u), -XEN_EINVAL);
    CHECK_REFUSED(DM(d, relocate_memory, .size = 1, .src_gfn = 1 << 20, .dst_gfn = 5));
    CHECK_EQ(DM(d, pin_memory_cacheattr, .start = 2, .end = 1), -XEN_EINVAL);
    CHECK_EQ(DM(d, pin_memory_cacheattr, .type = XEN_DMOP_MEM_CACHEATTR_UC), -XEN_EOPNOTSUPP);
    CHECK_EQ(DM(d, track_dirty_vram, .nr = 5), -XEN_EINVAL); /* no place for the answer */
    CHECK_EQ(DM(d, modified_memory, .opaque = 1), -XEN_EINVAL);
    struct xen_dm_op n_vcpus = {.op = XEN_DMOP_nr_vcpus};
    CHECK_EQ(dm(d, &n_vcpus), 0);
    CHECK_EQ(n_vcpus.u.nr_vcpus.vcpus, 1);
    /* As many servers as there may be, and none more. */
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(dm(d, &made), 0);
        if (i == 0)
            first = made.u.create_ioreq_server.id;
        made.u.create_ioreq_server.id = 0;
    }
    CHECK_EQ(dm(d, &made), -XEN_ENOSPC);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = first, .type = 3), -XEN_EINVAL);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = first, .end = 0x10000), -XEN_EINVAL);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = first, .start = 5, .end = 4), -XEN_EINVAL);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = first, .start = 4, .end = 7), 0);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = first, .start = 7, .end = 9), -XEN_EEXIST);
    CHECK_EQ(RANGE(d, unmap_io_range_from_ioreq, .id = first, .start = 7, .end = 9), -XEN_ENOENT);
    CHECK_EQ(RANGE(d, unmap_io_range_from_ioreq, .id = first, .start = 4, .end = 7), 0);
    long rc = 0;
    unsigned n = 0;
    while (!rc && n < 1000) {
        rc =
            RANGE(d, map_io_range_to_ioreq, .id = first, .type = 1, .start = n * 16, .end = n * 16);
        n++;
    }
    CHECK_EQ(rc, -XEN_ENOSPC);
    CHECK_EQ(n, 257);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(DM(d, destroy_ioreq_server, .id = i), 0);
}

/* A server whose number cannot be written is none. */
static void unheard(uint16_t d)
{
    static const struct xen_dm_op make = {.op = XEN_DMOP_create_ioreq_server};
    struct xen_dm_op made = make;
    struct xen_dm_op_buf buf = {.size = sizeof(make)};
    static struct xen_dm_op page[PAGE_SIZE / sizeof(struct xen_dm_op)]
        __attribute__((aligned(4096)));

    section("servers nobody hears of");
    page[0] = make;
    map_ro(page);
    buf.h.p = page;
    for (unsigned i = 0; i < 9; i++)
        CHECK_EQ(HC(dm_op, d, 1, &buf), -XEN_EFAULT);
    map_rw(page);
    buf.size = offsetof(struct xen_dm_op, u); /* no place for it */
    for (unsigned i = 0; i < 9; i++)
        CHECK_EQ(HC(dm_op, d, 1, &buf), -XEN_EINVAL);
    CHECK_EQ(dm(d, &made), 0);
    CHECK_EQ(DM(d, destroy_ioreq_server, .id = made.u.create_ioreq_server.id), 0);
}

/* Who still maps the pages of a server that has gone does not see the next one's. */
static void held_on_to(uint16_t d)
{
    struct xen_dm_op first = {.op = XEN_DMOP_create_ioreq_server}, next = first;
    xen_pfn_t old = 0, mfn = 0;

    section("pages of a former server");
    CHECK_EQ(dm(d, &first), 0);
    CHECK_EQ(resource(d, first.u.create_ioreq_server.id, 1, &old), 0);
    volatile struct ioreq *slot = map_shown(d, old, window);
    uint32_t port = slot->vp_eport;
    CHECK(port);
    CHECK_EQ(DM(d, destroy_ioreq_server, .id = first.u.create_ioreq_server.id), 0);
    CHECK_EQ(dm(d, &next), 0);
    CHECK_EQ(resource(d, next.u.create_ioreq_server.id, 1, &mfn), 0);
    CHECK(mfn != old);
    CHECK_EQ(slot->vp_eport, port); /* not made new under our hands */
    CHECK_EQ(DM(d, destroy_ioreq_server, .id = next.u.create_ioreq_server.id), 0);
    map_rw(window);
    CHECK_EQ(dm(d, &next), 0); /* now they can be had again */
    CHECK_EQ(resource(d, next.u.create_ioreq_server.id, 1, &mfn), 0);
    CHECK_EQ(mfn, old);
    CHECK_EQ(DM(d, destroy_ioreq_server, .id = next.u.create_ioreq_server.id), 0);
}

/* What its vCPU runs when it is unpaused. */
static void put_code(uint16_t d, const uint8_t *from, size_t size)
{
    uint8_t *at = map_gfn(d, HVM_CODE_AT >> PAGE_SHIFT);

    CHECK(at);
    if (!at)
        return;
    memcpy(at, from, size);
    unmap_gfn(at);
    CHECK_EQ(flat_registers(d, HVM_CODE_AT), 0);
}

/* Server @id of @d begins: the slot of the vCPU's requests, and *port, by which answers are told.
 */
static volatile struct ioreq *serve(uint16_t d, uint16_t id, uint32_t *port)
{
    xen_pfn_t mfn = 0;

    CHECK_EQ(DM(d, set_ioreq_server_state, .id = id, .enabled = 1), 0);
    CHECK_EQ(resource(d, id, 1, &mfn), 0);
    volatile struct ioreq *slot = map_shown(d, mfn, window);
    struct evtchn_bind_interdomain b = {.remote_dom = d, .remote_port = slot->vp_eport};
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_interdomain, &b), 0);
    *port = b.local_port;
    return slot;
}

static void leave(uint32_t port)
{
    map_rw(window);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){port}), 0);
}

static void result_is(uint16_t d, uint32_t want)
{
    volatile uint32_t *result = map_gfn(d, HVM_RESULT_AT >> PAGE_SHIFT);

    CHECK(result);
    if (!result)
        return;
    CHECK_EQ(*result, want);
    unmap_gfn((void *)result);
}

/* Waits until the request is there. */
static bool asked(volatile struct ioreq *slot)
{
    for (unsigned i = 0; i < 500 && slot->state != STATE_IOREQ_READY; i++)
        nap(1000000);
    return slot->state == STATE_IOREQ_READY;
}

static void answer(volatile struct ioreq *slot, uint32_t port)
{
    struct evtchn_send s = {.port = port};

    slot->state = STATE_IOREQ_INPROCESS;
    slot->state = STATE_IORESP_READY;
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_send, &s), 0);
}

/* Many elements of four bytes of the device's memory are one request. */
static void block(volatile struct ioreq *slot, uint32_t port, unsigned dir, uint64_t addr,
                  uint64_t data, unsigned count, bool pointer)
{
    CHECK(asked(slot));
    CHECK_EQ(slot->type, IOREQ_TYPE_COPY);
    CHECK_EQ(slot->dir, dir);
    CHECK_EQ(slot->size, 4);
    CHECK_EQ(slot->addr, addr);
    CHECK_EQ(slot->data, data);
    CHECK_EQ(slot->count, count);
    CHECK_EQ(slot->data_is_ptr, pointer);
    answer(slot, port);
}

static void requests(uint16_t d)
{
    struct xen_dm_op made = {.op = XEN_DMOP_create_ioreq_server};
    struct xen_dm_op info = {.op = XEN_DMOP_get_ioreq_server_info};
    xen_pfn_t mfn = 0;
    uint32_t port;

    section("I/O requests");
    made.u.create_ioreq_server.handle_bufioreq = HVM_IOREQSRV_BUFIOREQ_ATOMIC;
    CHECK_EQ(dm(d, &made), 0);
    uint16_t id = made.u.create_ioreq_server.id;
    info.u.get_ioreq_server_info.id = id;
    CHECK_EQ(dm(d, &info), -XEN_EOPNOTSUPP); /* as frames of the guest's */
    info.u.get_ioreq_server_info.flags = XEN_DMOP_no_gfns;
    CHECK_EQ(dm(d, &info), 0);
    CHECK(info.u.get_ioreq_server_info.bufioreq_port);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .start = PORT, .end = PORT + 7), 0);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .type = XEN_DMOP_IO_RANGE_MEMORY,
                   .start = MEMORY, .end = MEMORY + PAGE_SIZE - 1),
             0);
    volatile struct ioreq *slot = serve(d, id, &port);
    CHECK_EQ(resource(d, id, 2, &mfn), -XEN_EINVAL);
    CHECK_EQ(resource(d, id, 0, &mfn), 0);

    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK(asked(slot));
    CHECK_EQ(slot->addr, PORT);
    CHECK_EQ(slot->size, 4);
    CHECK_EQ(slot->dir, IOREQ_READ);
    CHECK_EQ(slot->type, IOREQ_TYPE_PIO);
    /* While it waits it is quiet: paused, looked at, and it goes on. */
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, d), 0);
    slot->data = 0x12345678;
    answer(slot, port);
    nap(5000000);
    CHECK_EQ(slot->state, STATE_IORESP_READY);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    /* A repeated INS is one request, whose data goes to the guest's memory. */
    CHECK(asked(slot));
    CHECK_EQ(slot->addr, PORT);
    CHECK_EQ(slot->size, 1);
    CHECK_EQ(slot->count, BLOCK);
    CHECK_EQ(slot->data_is_ptr, 1);
    CHECK_EQ(slot->data, BLOCK_AT);
    CHECK_EQ(slot->df, 0);
    CHECK_EQ(slot->dir, IOREQ_READ);
    answer(slot, port);
    block(slot, port, IOREQ_WRITE, MEMORY + 0x100, 0x12345678, BLOCK, false);
    block(slot, port, IOREQ_READ, MEMORY + 0x100, MEMORY, BLOCK, true);
    block(slot, port, IOREQ_READ, MEMORY + 0x100 + 4 * BLOCK, BLOCK_AT, BLOCK, true);
    block(slot, port, IOREQ_WRITE, MEMORY + 0xff8, BLOCK_AT, 2, true);
    CHECK(asked(slot));
    CHECK_EQ(slot->data_is_ptr, 0);
    CHECK_EQ(slot->count, 1);
    CHECK_EQ(slot->addr, PORT + 1);
    CHECK_EQ(slot->size, 1);
    CHECK_EQ(slot->dir, IOREQ_WRITE);
    CHECK_EQ(slot->data, 0x78);

    result_is(d, 0x12345678);
    /* Nobody answers the second one: the domain is shut down and destroyed all the same. */
    struct xen_domctl_getdomaininfo now = {0};
    CHECK_EQ(DM(d, remote_shutdown, .reason = SHUTDOWN_crash), 0);
    CHECK(domain_info(d, &now));
    CHECK(now.flags & XEN_DOMINF_shutdown);
    leave(port);
}

/* --- what the device model has of the PC beside ports and memory of its own --- */

static const uint8_t pc_code[] = {
    /* movl $0x1ff, 0xfee000f0: the local APIC enabled */
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, /**/
    0xb0, 0x0d, 0xe6, 0x70,                                     /* mov $13, %al; out %al, $0x70 */
    0xe4, 0x71, 0xa2, 0x00, 0x20, 0x00, 0x00,                   /* in $0x71; to HVM_RESULT_AT */
    0xb0, 0x34, 0xe6, 0x70, /* mov $0x34, %al; out %al, $0x70: not the clock's */
    0xe4, 0x71,             /* in $0x71, %al */
    0x34, 0xff, 0xe6, 0x71, /* xor $0xff, %al; out %al, $0x71 */
    0xa1, 0x10, 0x02, 0xe0, 0xfe, 0xba, 0x00, 0x50, 0x00, 0x00, 0xef, /* vectors 32 to 63 to PORT */
    0xfa, 0xf4,
};

static void one(volatile struct ioreq *slot, uint32_t port, unsigned dir, uint64_t addr,
                uint32_t data, unsigned size)
{
    CHECK(asked(slot));
    CHECK_EQ(slot->type, IOREQ_TYPE_PIO);
    CHECK_EQ(slot->addr, addr);
    CHECK_EQ(slot->size, size);
    CHECK_EQ(slot->dir, dir);
    if (dir == IOREQ_WRITE)
        CHECK_EQ(slot->data, data);
    else
        slot->data = data;
    answer(slot, port);
}

/* The bytes of the CMOS beyond the clock's are the device model's; its messages arrive. */
static void cmos_and_messages(uint16_t d)
{
    struct xen_dm_op made = {.op = XEN_DMOP_create_ioreq_server};
    uint32_t port;

    section("CMOS and messages of a device model");
    CHECK_EQ(dm(d, &made), 0);
    uint16_t id = made.u.create_ioreq_server.id;
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .start = 0x70, .end = 0x71), 0);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .start = PORT, .end = PORT + 3), 0);
    volatile struct ioreq *slot = serve(d, id, &port);

    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    one(slot, port, IOREQ_WRITE, 0x70, 0x34, 1); /* register 13 was not asked for here */
    one(slot, port, IOREQ_READ, 0x71, 0x5a, 1);
    CHECK(asked(slot));
    CHECK_EQ(DM(d, inject_msi, .addr = 0xfee00000, .data = 0x24), 0);
    CHECK_EQ(DM(d, inject_msi, .addr = 0, .data = 0x26), 0);            /* as QEMU has it */
    CHECK_EQ(DM(d, inject_msi, .addr = 0xfee05000, .data = 0x25), 0);   /* no such local APIC */
    CHECK_EQ(DM(d, inject_msi, .addr = 0xfeeff000, .data = 0x4128), 0); /* to all */
    one(slot, port, IOREQ_WRITE, 0x71, 0xa5, 1);
    one(slot, port, IOREQ_WRITE, PORT, 1 << 4 | 1 << 6 | 1 << 8, 4);

    result_is(d, 0x80); /* register D: the clock's battery is good */
    leave(port);
}

/* --- writes that nobody waits for --- */

#define VGA 0xb8000

static const uint8_t vga_code[] = {
    0xba, 0x00, 0x50, 0x00, 0x00,                         /* mov $PORT, %edx */
    0x0f, 0x20, 0xe0, 0x66, 0x0d, 0x00, 0x02,             /* mov %cr4, %eax; or $OSFXSR, %ax */
    0x0f, 0x22, 0xe0, 0x66, 0x0f, 0x76, 0xc0,             /* mov %eax, %cr4; pcmpeqd %xmm0, %xmm0 */
    0xb8, 0x44, 0x33, 0x22, 0x11,                         /* mov $0x11223344, %eax */
    0xa2, 0x00, 0x80, 0x0b, 0x00,                         /* mov %al, VGA */
    0x66, 0xa3, 0x02, 0x80, 0x0b, 0x00,                   /* mov %ax, VGA + 2 */
    0xa3, 0x04, 0x80, 0x0b, 0x00,                         /* mov %eax, VGA + 4 */
    0x66, 0x0f, 0xd6, 0x05, 0x08, 0x80, 0x0b, 0x00,       /* movq %xmm0, VGA + 8 */
    0xed,                                                 /* in (%dx), %eax */
    0xb9, 0x00, 0x02, 0x00, 0x00,                         /* mov $512, %ecx */
    0x89, 0x0c, 0x8d, 0x00, 0x80, 0x0b, 0x00, 0xe2, 0xf7, /* 1: mov %ecx, VGA(,%ecx,4); loop 1b */
    0xed,                                                 /* in (%dx), %eax */
    0xa3, 0xfe, 0xff, 0x0b, 0x00,                         /* mov %eax, 0xbfffe: half of it beyond */
    0xfa, 0xf4,
};

static void entry(volatile struct buffered_iopage *ring, unsigned slot, unsigned size,
                  uint32_t addr, uint32_t data)
{
    struct buf_ioreq b = *(struct buf_ioreq *)&ring->buf_ioreq[slot];

    CHECK_EQ(b.type, IOREQ_TYPE_COPY);
    CHECK_EQ(b.dir, IOREQ_WRITE);
    CHECK_EQ(b.size, size);
    CHECK_EQ(b.addr, addr);
    CHECK_EQ(b.data, data);
}

static void buffered(uint16_t d)
{
    struct xen_dm_op made = {.op = XEN_DMOP_create_ioreq_server};
    struct xen_dm_op info = {.op = XEN_DMOP_get_ioreq_server_info};
    xen_pfn_t mfn = 0, hole[0x21];
    struct xen_memory_reservation r = {.domid = d, .nr_extents = 0x21};
    uint32_t port;

    section("writes that nobody waits for");
    for (unsigned i = 0; i < r.nr_extents; i++)
        hole[i] = 0xa0 + i;
    r.extent_start.p = hole;
    CHECK_EQ(HC(memory_op, XENMEM_decrease_reservation, &r), r.nr_extents);
    made.u.create_ioreq_server.handle_bufioreq = HVM_IOREQSRV_BUFIOREQ_ATOMIC;
    CHECK_EQ(dm(d, &made), 0);
    uint16_t id = made.u.create_ioreq_server.id;
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .start = PORT, .end = PORT + 3), 0);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .type = XEN_DMOP_IO_RANGE_MEMORY,
                   .start = 0xa0000, .end = 0xc0fff),
             0);
    CHECK_EQ(resource(d, id, 0, &mfn), 0);
    volatile struct buffered_iopage *ring = map_shown(d, mfn, ring_window);
    volatile struct ioreq *slot = serve(d, id, &port);
    info.u.get_ioreq_server_info.id = id;
    info.u.get_ioreq_server_info.flags = XEN_DMOP_no_gfns;
    CHECK_EQ(dm(d, &info), 0);
    struct evtchn_bind_interdomain b = {.remote_dom = d,
                                        .remote_port = info.u.get_ioreq_server_info.bufioreq_port};
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_interdomain, &b), 0);
    event_clear(b.local_port);

    /* Only the read at the end is waited for; it comes behind all. */
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK(asked(slot));
    CHECK_EQ(slot->type, IOREQ_TYPE_PIO);
    CHECK(event_pending(b.local_port));
    CHECK_EQ(ring->read_pointer, 0);
    CHECK_EQ(ring->write_pointer, 5);
    entry(ring, 0, 0, VGA, 0x44);
    entry(ring, 1, 1, VGA + 2, 0x3344);
    entry(ring, 2, 2, VGA + 4, 0x11223344);
    entry(ring, 3, 3, VGA + 8, 0xffffffff);
    CHECK_EQ(ring->buf_ioreq[4].data, 0xffffffff);
    ring->read_pointer = 5;
    answer(slot, port);
    /* As many as there is room for; the last one is waited for. */
    CHECK(asked(slot));
    CHECK_EQ(slot->type, IOREQ_TYPE_COPY);
    CHECK_EQ(slot->addr, VGA + 4);
    CHECK_EQ(slot->data, 1);
    CHECK_EQ(ring->write_pointer, 5 + IOREQ_BUFFER_SLOT_NUM);
    entry(ring, 5, 2, VGA + 4 * 512, 512);
    entry(ring, 4, 2, VGA + 4 * 2, 2);
    ring->read_pointer = 5 + IOREQ_BUFFER_SLOT_NUM;
    answer(slot, port);
    one(slot, port, IOREQ_READ, PORT, 0x11223344, 4);
    CHECK(asked(slot));
    CHECK_EQ(slot->type, IOREQ_TYPE_COPY);
    CHECK_EQ(slot->addr, 0xc0000); /* no more of VGA's */
    entry(ring, 5, 1, 0xbfffe, 0x3344);
    CHECK_EQ(ring->read_pointer, 5); /* both started anew */
    CHECK_EQ(ring->write_pointer, 6);
    leave(port);
    map_rw(ring_window);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){b.local_port}), 0);
}

/* --- frames that the guest gives up --- */

static const uint8_t give_code[] = {
    0xbc, 0x00, 0x70, 0x00, 0x00,             /* mov $0x7000, %esp */
    0xb9, 0x00, 0x00, 0x00, 0x40,             /* mov $0x40000000, %ecx */
    0xb8, 0x00, 0x40, 0x00, 0x00, 0x31, 0xd2, /* mov $0x4000, %eax; xor %edx, %edx */
    0x0f, 0x30,                               /* wrmsr: the hypercall page is there */
    0xbb, 0x01, 0x00, 0x00, 0x00,             /* mov $XENMEM_decrease_reservation, %ebx */
    0xb9, 0x00, 0x30, 0x00, 0x00,             /* mov $0x3000, %ecx */
    0xb8, 0x80, 0x41, 0x00, 0x00,             /* mov $0x4000 + 32 * memory_op, %eax */
    0xff, 0xd0, 0xa3, 0x00, 0x20, 0x00, 0x00, /* call *%eax; mov %eax, HVM_RESULT_AT */
    0xfa, 0xf4,
};
/* 32-bit code's struct xen_memory_reservation, and the one frame number that it names. */
static const uint32_t give_what[] = {0x3020, 1, 0, 0, DOMID_SELF, 0, 0, 0, 0x50};

static void told(volatile struct ioreq *slot, uint32_t port)
{
    CHECK(asked(slot));
    CHECK_EQ(slot->type, IOREQ_TYPE_INVALIDATE);
    answer(slot, port);
}

/* Each device model hears of it before the guest goes on: it may have the frame mapped. */
static void given_up(uint16_t d)
{
    struct xen_dm_op made = {.op = XEN_DMOP_create_ioreq_server};
    xen_pfn_t mfn = 0;
    uint32_t port;
    void *at = map_gfn(d, 3);

    section("frames that the guest gives up");
    CHECK(at);
    if (!at)
        return;
    memcpy(at, give_what, sizeof(give_what));
    unmap_gfn(at);
    for (unsigned i = 0; i < 3; i++) /* the one in the middle is not enabled */
        CHECK_EQ(dm(d, &made), 0);
    uint16_t id = made.u.create_ioreq_server.id;
    CHECK_EQ(DM(d, set_ioreq_server_state, .id = id, .enabled = 1), 0);
    CHECK_EQ(resource(d, id, 1, &mfn), 0);
    volatile struct ioreq *other = map_shown(d, mfn, ring_window);
    struct evtchn_bind_interdomain b = {.remote_dom = d, .remote_port = other->vp_eport};
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_bind_interdomain, &b), 0);
    volatile struct ioreq *slot = serve(d, id - 2, &port);

    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK(asked(slot));
    CHECK_EQ(other->state, STATE_IOREQ_NONE);
    result_is(d, 0); /* it waits */
    told(slot, port);
    told(other, b.local_port);
    for (unsigned i = 0; i < 500 && other->state != STATE_IOREQ_NONE; i++)
        nap(1000000);
    nap(5000000);
    result_is(d, 1);
    leave(port);
    map_rw(ring_window);
    CHECK_EQ(HC(event_channel_op, EVTCHNOP_close, &(struct evtchn_close){b.local_port}), 0);
}

/* --- which pages the guest has written --- */

static const uint8_t writer_code[] = {
    0xba, 0x00, 0x50, 0x00, 0x00, /* mov $PORT, %edx */
    0xed, 0x89, 0x00,             /* 1: in (%dx), %eax; mov %eax, (%eax) */
    0xed, 0x89, 0xc7,             /* in (%dx), %eax; mov %eax, %edi */
    0xbe, 0x00, 0x00, 0x00, 0xe0, /* mov $MEMORY, %esi */
    0xa5, 0xeb, 0xf2,             /* movsl: done for it; jmp 1b */
};

/* Bit i: page i of the first @n was written since the last call; the bytes behind are left alone.
 */
static uint64_t written(uint16_t d, unsigned n)
{
    struct xen_dm_op op = {.op = XEN_DMOP_track_dirty_vram, .u.track_dirty_vram.nr = n};
    uint8_t bits[9];
    struct xen_dm_op_buf buf[2] = {{.size = sizeof(op)}, {.size = (n + 7) / 8}};
    uint64_t word = 0;

    memset(bits, 0xa5, sizeof(bits));
    buf[0].h.p = &op;
    buf[1].h.p = bits;
    CHECK_EQ(HC(dm_op, d, 2, buf), 0);
    CHECK_EQ(bits[(n + 7) / 8], 0xa5);
    memcpy(&word, bits, (n + 7) / 8);
    return word;
}

static void writes(uint16_t d)
{
    struct xen_dm_op made = {.op = XEN_DMOP_create_ioreq_server};
    struct xen_dm_op far = {.op = XEN_DMOP_track_dirty_vram,
                            .u.track_dirty_vram = {.nr = 64, .first_pfn = 1UL << 50}};
    struct xen_dm_op_buf buf[2] = {{.size = sizeof(far)}, {.size = 8}};
    uint32_t port;

    section("pages that the guest has written");
    CHECK_EQ(dm(d, &made), 0);
    uint16_t id = made.u.create_ioreq_server.id;
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .start = PORT, .end = PORT + 3), 0);
    CHECK_EQ(RANGE(d, map_io_range_to_ioreq, .id = id, .type = XEN_DMOP_IO_RANGE_MEMORY,
                   .start = MEMORY, .end = MEMORY + PAGE_SIZE - 1),
             0);
    volatile struct ioreq *slot = serve(d, id, &port);
    CHECK_EQ(written(d, 64), ~0UL); /* as nobody has seen them yet */
    CHECK_EQ(written(d, 64), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    one(slot, port, IOREQ_READ, PORT, 0x11010, 4);
    CHECK(asked(slot));
    CHECK_EQ(written(d, 17), 0); /* page 17 is not among them */
    CHECK_EQ(written(d, 64), 1UL << 17);
    CHECK_EQ(written(d, 64), 0);
    one(slot, port, IOREQ_READ, PORT, 0x13000, 4);
    CHECK(asked(slot));
    CHECK_EQ(slot->addr, MEMORY);
    slot->data = 0x1234;
    answer(slot, port);
    one(slot, port, IOREQ_READ, PORT, 0x11020, 4); /* its TLB knows the page */
    CHECK(asked(slot));
    CHECK_EQ(written(d, 64), 1UL << 17 | 1UL << 19);
    CHECK_EQ(DM(d, track_dirty_vram, .nr = 0), 0);
    /* What cannot be said is not forgotten for good: the device model hears of it, and draws all.
     */
    buf[0].h.p = &far;
    CHECK_EQ(HC(dm_op, d, 2, buf), -XEN_EFAULT);
    buf[1].h.p = (void *)slot;
    far.u.track_dirty_vram.first_pfn = ~0UL - 5;
    CHECK_EQ(HC(dm_op, d, 2, buf), -XEN_EINVAL);
    leave(port);
}

static void of_nobody(uint16_t d)
{
    refused(d);
    unheard(d);
    held_on_to(d);
}

void device_model(void)
{
    static const struct {
        void (*ask)(uint16_t d);
        const uint8_t *code;
        size_t size;
        uint32_t emulation;
    } tests[] = {
        {of_nobody, NULL, 0, WHOLE_PC},
        {requests, code, sizeof(code), WHOLE_PC},
        {requests, code, sizeof(code), XEN_X86_EMU_LAPIC}, /* a PVH guest's, if it has one */
        {cmos_and_messages, pc_code, sizeof(pc_code), WHOLE_PC},
        {buffered, vga_code, sizeof(vga_code), WHOLE_PC},
        {given_up, give_code, sizeof(give_code), WHOLE_PC},
        {writes, writer_code, sizeof(writer_code), WHOLE_PC},
    };
    uint64_t before = free_pages();

    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        uint16_t d = hvm_build(tests[i].emulation);

        if (tests[i].code)
            put_code(d, tests[i].code, tests[i].size);
        tests[i].ask(d);
        CHECK_EQ(destroy(d), 0);
        check_free(before, __FILE__, __LINE__);
    }
}
