/*
 * Hypercalls of 32-bit code in hardware-virtualized guests: firmware loaders and 32-bit kernels.
 * Arguments come in ebx, ecx, edx, esi and structures are laid out as 32-bit compilers do
 * (xen/foreign/x86_32.h): long and pointers have four bytes, and nothing is aligned to more than
 * that. The handlers know the 64-bit layout alone.
 *
 * One table says for each operation how its structure is made up. Such a structure is rebuilt in a
 * buffer of ours, and the handler is given an address above 4 GiB, where no 32-bit guest has
 * memory: accesses there (hvm/memory.c asks compat_access()) go to the buffer. Arrays of longs that
 * a structure points to are not copied: they get addresses in another such window, at which each
 * eight bytes stand for four of the guest's.
 *
 * What is not in the table is -ENOSYS.
 */
#include "hvm/hvm.h"
#include "hypercall/table.h"
#include "lib/string.h"

#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

/*
 * Members of a structure, in order:
 *   b h w q  unsigned of 1, 2, 4, 8 bytes
 *   l        a long: 4 bytes there, 8 here
 *   p        a pointer to what is laid out alike in both
 *   P        a pointer to longs
 *   |        the end of a structure within the structure
 */
#define MAX_WIDE    64
#define BUFFER_BASE (1UL << 40)
#define LONGS_BASE  (1UL << 41)

struct hvm_compat {
    uint8_t wide[MAX_WIDE];
    unsigned size;
    bool changed;
};

struct op {
    uint8_t call;
    uint8_t command;
    const char *layout; /* NULL: arguments are the same in both */
};

#define ANY 0xff

static const struct op ops[] = {
    {__HYPERVISOR_memory_op, XENMEM_increase_reservation, "Plwwh"},
    {__HYPERVISOR_memory_op, XENMEM_decrease_reservation, "Plwwh"},
    {__HYPERVISOR_memory_op, XENMEM_populate_physmap, "Plwwh"},
    {__HYPERVISOR_memory_op, XENMEM_maximum_ram_page, NULL},
    {__HYPERVISOR_memory_op, XENMEM_current_reservation, NULL},
    {__HYPERVISOR_memory_op, XENMEM_maximum_reservation, NULL},
    {__HYPERVISOR_memory_op, XENMEM_maximum_gpfn, NULL},
    {__HYPERVISOR_memory_op, XENMEM_add_to_physmap, "hhwll"},
    {__HYPERVISOR_memory_op, XENMEM_add_to_physmap_batch, "hhhhPPp"},
    {__HYPERVISOR_memory_op, XENMEM_remove_from_physmap, "hl"},
    {__HYPERVISOR_memory_op, XENMEM_memory_map, "wp"},
    {__HYPERVISOR_memory_op, XENMEM_machine_memory_map, "wp"},
    {__HYPERVISOR_xen_version, XENVER_platform_parameters, "l"},
    {__HYPERVISOR_xen_version, ANY, NULL},
    {__HYPERVISOR_console_io, ANY, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, "hwhP"},
    {__HYPERVISOR_grant_table_op, GNTTABOP_copy, "lhh|lhh|hhh"},
    {__HYPERVISOR_grant_table_op, GNTTABOP_query_size, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_set_version, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_get_status_frames, "whhp"},
    {__HYPERVISOR_grant_table_op, GNTTABOP_get_version, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_swap_grant_ref, NULL},
    {__HYPERVISOR_grant_table_op, GNTTABOP_cache_flush, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_initialise, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_up, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_down, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_is_up, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, "wqqqqq"},
    {__HYPERVISOR_vcpu_op, VCPUOP_register_runstate_memory_area, "p"},
    {__HYPERVISOR_vcpu_op, VCPUOP_set_periodic_timer, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_stop_periodic_timer, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, "qw"},
    {__HYPERVISOR_vcpu_op, VCPUOP_stop_singleshot_timer, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_send_nmi, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_get_physid, NULL},
    {__HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_time_memory_area, "p"},
    {__HYPERVISOR_sched_op, SCHEDOP_poll, "pwq"},
    {__HYPERVISOR_sched_op, ANY, NULL},
    {__HYPERVISOR_event_channel_op, ANY, NULL},
    {__HYPERVISOR_physdev_op, PHYSDEVOP_eoi, NULL},
    {__HYPERVISOR_physdev_op, PHYSDEVOP_irq_status_query, NULL},
    {__HYPERVISOR_physdev_op, PHYSDEVOP_map_pirq, "hwwwwwwq"},
    {__HYPERVISOR_physdev_op, PHYSDEVOP_unmap_pirq, NULL},
    {__HYPERVISOR_physdev_op, PHYSDEVOP_get_free_pirq, NULL},
    {__HYPERVISOR_hvm_op, ANY, NULL},
};

static const struct op *find(uint32_t call, uint32_t command)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
        if (ops[i].call == call && (ops[i].command == command || ops[i].command == ANY))
            return &ops[i];
    return NULL;
}

/* --- layouts --- */

static unsigned wide_size(char member)
{
    return member == 'b' ? 1 : member == 'h' ? 2 : member == 'w' ? 4 : 8;
}

static unsigned narrow_size(char member)
{
    return member == 'l' || member == 'p' || member == 'P' || member == '|' ? 4 : wide_size(member);
}

/* Where the next member is in both, and behind the last one how long they are. */
struct place {
    unsigned wide, narrow;
};

static void align(struct place *at, char member)
{
    at->wide = ROUND_UP(at->wide, wide_size(member));
    at->narrow = ROUND_UP(at->narrow, min(narrow_size(member), 4u));
}

static void pass(struct place *at, char member)
{
    if (member == '|')
        return;
    at->wide += wide_size(member);
    at->narrow += narrow_size(member);
}

static struct place whole(const char *layout)
{
    struct place end = {0}, biggest = {1, 1};
    for (; *layout; layout++) {
        align(&end, *layout);
        pass(&end, *layout);
        biggest.wide = max(biggest.wide, wide_size(*layout));
        biggest.narrow = max(biggest.narrow, min(narrow_size(*layout), 4u));
    }
    end.wide = ROUND_UP(end.wide, biggest.wide);
    end.narrow = ROUND_UP(end.narrow, biggest.narrow);
    return end;
}

static uint64_t widen_pointer(uint64_t p)
{
    return p ? LONGS_BASE + 2 * p : 0;
}

static void widen(const char *layout, const uint8_t *narrow, uint8_t *wide)
{
    struct place at = {0};
    for (; *layout; layout++) {
        uint64_t v = 0;
        align(&at, *layout);
        if (*layout == '|')
            continue;
        memcpy(&v, narrow + at.narrow, narrow_size(*layout));
        if (*layout == 'P')
            v = widen_pointer(v);
        memcpy(wide + at.wide, &v, wide_size(*layout));
        pass(&at, *layout);
    }
}

/* Pointers stay what they were: no handler changes them. */
static void narrow(const char *layout, const uint8_t *wide, uint8_t *out)
{
    struct place at = {0};
    for (; *layout; layout++) {
        align(&at, *layout);
        if (*layout != 'P' && *layout != 'p' && *layout != '|')
            memcpy(out + at.narrow, wide + at.wide, narrow_size(*layout));
        pass(&at, *layout);
    }
}

/* --- what handlers find at our addresses --- */

static int buffer_access(struct hvm_compat *c, uint64_t offset, void *buf, size_t n, bool write)
{
    if (offset > c->size || n > c->size - offset)
        return -XEN_EFAULT;
    if (!write) {
        memcpy(buf, c->wide + offset, n);
        return 0;
    }
    if (buf)
        memcpy(c->wide + offset, buf, n);
    else
        memset(c->wide + offset, 0, n);
    c->changed = true;
    return 0;
}

static int longs_access(struct vcpu *v, uint64_t offset, void *buf, size_t n, unsigned access)
{
    struct hvm_fault ignored;
    if (offset % 8 || n % 8 || !buf)
        return -XEN_EFAULT;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t wide;
        uint32_t narrow;
        memcpy(&wide, (uint8_t *)buf + i, 8);
        narrow = (uint32_t)wide;
        int rc = hvm_copy_linear(v, (offset + i) / 2, &narrow, sizeof(narrow), access, &ignored);
        if (rc)
            return rc;
        wide = narrow;
        if (!(access & HVM_WRITE))
            memcpy((uint8_t *)buf + i, &wide, 8);
    }
    return 0;
}

int hvm_compat_access(struct vcpu *v, uint64_t addr, void *buf, size_t n, unsigned access)
{
    if (addr >= LONGS_BASE)
        return longs_access(v, addr - LONGS_BASE, buf, n, access);
    if (addr >= BUFFER_BASE)
        return buffer_access(v->hvm->compat, addr - BUFFER_BASE, buf, n, access & HVM_WRITE);
    return -XEN_EFAULT;
}

/* --- calls --- */

struct call {
    uint32_t nr, args[4];
    bool again; /* nr and args are what is to be called next, for the rest */
};

static long dispatch(struct call *c, const uint64_t a[4])
{
    struct vcpu *v = current_vcpu();
    v->again.in_multicall = true;
    long rc = hypercall_hvm(c->nr, a[0], a[1], a[2], a[3]);
    v->again.in_multicall = false;
    if (!v->again.set)
        return rc;
    v->again.set = false;
    c->again = true;
    for (unsigned i = 0; i < ARRAY_SIZE(c->args); i++)
        if (v->again.args[i] < BUFFER_BASE) /* else the structure, which is where it was */
            c->args[i] = (uint32_t)v->again.args[i];
    return rc;
}

/* Argument number @which points to a structure of that layout. */
static long with_structure(struct call *c, const char *layout, unsigned which)
{
    struct vcpu *v = current_vcpu();
    struct place size = whole(layout);
    struct hvm_compat mine = {.size = size.wide};
    uint8_t theirs[MAX_WIDE];
    struct hvm_fault ignored;
    uint64_t at = c->args[which];
    if (hvm_copy_linear(v, at, theirs, size.narrow, HVM_READ, &ignored))
        return -XEN_EFAULT;
    widen(layout, theirs, mine.wide);

    uint64_t a[4] = {c->args[0], c->args[1], c->args[2], c->args[3]};
    a[which] = BUFFER_BASE;
    v->hvm->compat = &mine;
    long rc = dispatch(c, a);
    v->hvm->compat = NULL;
    if (!mine.changed)
        return rc;
    narrow(layout, mine.wide, theirs);
    if (hvm_copy_linear(v, at, theirs, size.narrow, HVM_WRITE, &ignored) && rc >= 0)
        return -XEN_EFAULT;
    return rc;
}

/* An array of structures, one by one. */
static long grant_table_op(struct call *c, const char *layout)
{
    unsigned each = whole(layout).narrow;
    while (c->args[2]) {
        struct call one = {.nr = c->nr, .args = {c->args[0], c->args[1], 1}};
        long rc = with_structure(&one, layout, 1);
        if (rc)
            return rc;
        c->args[1] += each;
        c->args[2]--;
        if (c->args[2] && vcpu_wanted()) {
            c->again = true;
            break;
        }
    }
    return 0;
}

static long one_call(struct call *c)
{
    if (c->nr == __HYPERVISOR_set_timer_op) { /* one argument of 64 bits */
        const uint64_t when[4] = {(uint64_t)c->args[1] << 32 | c->args[0]};
        return dispatch(c, when);
    }
    const struct op *op = find(c->nr, c->args[0]);
    if (!op)
        return -XEN_ENOSYS;
    if (op->layout && c->nr == __HYPERVISOR_grant_table_op)
        return grant_table_op(c, op->layout);
    if (op->layout)
        return with_structure(c, op->layout, c->nr == __HYPERVISOR_vcpu_op ? 2 : 1);
    const uint64_t a[4] = {c->args[0], c->args[1], c->args[2], c->args[3]};
    return dispatch(c, a);
}

/* xen/xen.h, struct multicall_entry, of 32-bit words. */
struct entry32 {
    uint32_t op, result, args[6];
};

static long multicall(struct call *c)
{
    struct vcpu *v = current_vcpu();
    struct hvm_fault ignored;
    struct entry32 e;
    for (; c->args[1]; c->args[0] += sizeof(e), c->args[1]--) {
        uint32_t at = c->args[0];
        if (hvm_copy_linear(v, at, &e, sizeof(e), HVM_READ, &ignored))
            return -XEN_EFAULT;
        struct call one = {.nr = e.op};
        memcpy(one.args, e.args, sizeof(one.args));
        e.result = (uint32_t)one_call(&one);
        memcpy(e.args, one.args, sizeof(one.args));
        if (hvm_copy_linear(v, at, &e, sizeof(e), HVM_WRITE, &ignored))
            return -XEN_EFAULT;
        if (one.again || (c->args[1] > 1 && vcpu_wanted())) {
            c->again = true;
            c->args[0] += one.again ? 0 : sizeof(e);
            c->args[1] -= one.again ? 0 : 1;
            break;
        }
    }
    return 0;
}

void hvm_compat_hypercall(struct vcpu *v, unsigned length)
{
    struct cpu_user_regs *r = &v->stack->regs;
    struct call c = {.nr = r->eax, .args = {r->ebx, r->ecx, r->edx, r->esi}};
    long rc = c.nr == __HYPERVISOR_multicall ? multicall(&c) : one_call(&c);
    if (!c.again) {
        r->rax = (uint32_t)rc;
        return;
    }
    r->rip = (uint32_t)(r->rip - length);
    r->rbx = c.args[0];
    r->rcx = c.args[1];
    r->rdx = c.args[2];
    r->rsi = c.args[3];
}
