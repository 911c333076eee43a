/*
 * Instructions executed for the guest, above all accesses to what is no RAM and string I/O: the
 * instruction is decoded and executed for it (emulate/), in whatever mode its CPU is, its memory
 * operands by its own segments and page tables.
 *
 * The instruction is read when the guest has already stopped: another vCPU may have changed it in
 * between. What is there now gets no right that the CPU would not have given it: memory is accessed
 * with the guest's own privilege, and ports only as the CPU allowed it. One that we cannot execute
 * may be of that kind and is left to the CPU once; when it stops there again it raises #UD.
 */
#include "console/console.h"
#include "emulate/emulate.h"
#include "hvm/hvm.h"
#include "lib/string.h"

static unsigned user(const struct vcpu *v)
{
    return hvm_ops->cpl(v) == 3 ? HVM_USER : 0;
}

static enum emulate_result page_fault(struct emulate_ctx *ctx, uint64_t addr, uint32_t error)
{
    ctx->fault_addr = addr;
    return emulate_raise(ctx, X86_PF, error);
}

static enum emulate_result fetch(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                 unsigned *got)
{
    struct vcpu *v = ctx->data;
    struct hvm_fault f;
    unsigned here = min((uint64_t)n, PAGE_SIZE - addr % PAGE_SIZE);
    if (hvm_copy_linear(v, addr, buf, here, HVM_FETCH | user(v), &f))
        return page_fault(ctx, f.addr, f.error);
    *got = here;
    uint64_t next = ctx->code == EMULATE_CODE64 ? addr + here : (uint32_t)(addr + here);
    if (here < n &&
        !hvm_copy_linear(v, next, (uint8_t *)buf + here, n - here, HVM_FETCH | user(v), &f))
        *got = n;
    return EMULATE_OK;
}

/* --- memory --- */

/* In pieces of 1, 2, 4 or 8 bytes. */
static enum emulate_result device(struct vcpu *v, uint64_t gpa, uint8_t *buf, unsigned n,
                                  bool write)
{
    while (n) {
        unsigned piece = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
        uint64_t value = 0;
        if (write)
            memcpy(&value, buf, piece);
        if (hvm_io_mem(v, gpa, piece, write, &value))
            return EMULATE_RETRY; /* the domain is dying */
        if (!write)
            memcpy(buf, &value, piece);
        gpa += piece;
        buf += piece;
        n -= piece;
    }
    return EMULATE_OK;
}

/* An operand on one page or two, all of which may be accessed before any of it is. */
struct operand {
    unsigned parts;
    struct {
        uint64_t gpa;
        unsigned n;
    } part[2];
};

static enum emulate_result find(struct emulate_ctx *ctx, uint64_t addr, unsigned n, unsigned kind,
                                struct operand *o)
{
    struct vcpu *v = ctx->data;
    uint32_t error;
    for (o->parts = 0; n; o->parts++) {
        unsigned here = min((uint64_t)n, PAGE_SIZE - addr % PAGE_SIZE);
        if (ctx->code != EMULATE_CODE64)
            addr = (uint32_t)addr;
        o->part[o->parts].n = here;
        if (!hvm_walk(v, addr, kind | user(v), &o->part[o->parts].gpa, &error))
            return page_fault(ctx, addr, error);
        addr += here;
        n -= here;
    }
    return EMULATE_OK;
}

static enum emulate_result access(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                  unsigned kind)
{
    struct vcpu *v = ctx->data;
    struct domain *d = v->domain;
    struct operand o;
    bool write = kind & HVM_WRITE;
    uint8_t *p = buf;
    enum emulate_result r = find(ctx, addr, n, kind, &o);
    for (unsigned i = 0; r == EMULATE_OK && i < o.parts; p += o.part[i].n, i++) {
        uint64_t gpa = o.part[i].gpa;
        if (p2m_kind(d, gfn(gpa >> PAGE_SHIFT)) == P2M_NONE)
            r = device(v, gpa, p, o.part[i].n, write);
        else if (write && hvm_copy_to_gpa(d, gpa, p, o.part[i].n))
            continue; /* not to be written: lost */
        else if (!write && hvm_copy_from_gpa(d, p, gpa, o.part[i].n))
            memset(p, 0xff, o.part[i].n);
    }
    return r;
}

static enum emulate_result do_read(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n)
{
    return access(ctx, addr, buf, n, HVM_READ);
}

static enum emulate_result do_write(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                    unsigned n)
{
    return access(ctx, addr, (void *)buf, n, HVM_WRITE);
}

/* RAM of its own a device model may read and write as the guest itself may. */
static enum emulate_result mem_block(struct emulate_ctx *ctx, uint64_t to, const uint64_t *from,
                                     uint64_t value, unsigned size, unsigned *count)
{
    struct vcpu *v = ctx->data;
    struct hvm_block b = {.count = *count, .size = size, .fill = !from, .value = value};
    uint32_t error;
    if (from && !hvm_walk(v, *from, HVM_READ | user(v), &b.from, &error))
        return page_fault(ctx, *from, error);
    if (!hvm_walk(v, to, HVM_WRITE | user(v), &b.to, &error))
        return page_fault(ctx, to, error);
    *count = hvm_io_mem_block(v, &b) ? b.count : 0;
    return EMULATE_OK;
}

/* On registers nothing is atomic anyway: the value was read, and is written now. */
static enum emulate_result do_cmpxchg(struct emulate_ctx *ctx, uint64_t addr, void *expected,
                                      const void *desired, unsigned n)
{
    return access(ctx, addr, (void *)desired, n, HVM_WRITE);
}

/* --- segments --- */

#define TYPE_WRITABLE    (1u << 1) /* of data; of code: readable */
#define TYPE_EXPAND_DOWN (1u << 2)
#define TYPE_CODE        (1u << 3)
#define ATTR_S           (1u << 4)

static void get_segment(const struct vcpu *v, enum emulate_seg seg, struct hvm_segment *s)
{
    static const enum hvm_seg names[] = {[SEG_ES] = HVM_ES, [SEG_CS] = HVM_CS, [SEG_SS] = HVM_SS,
                                         [SEG_DS] = HVM_DS, [SEG_FS] = HVM_FS, [SEG_GS] = HVM_GS};
    hvm_ops->get_segment(v, names[seg], s);
}

/* In real mode what was loaded last still counts, base and limit, but not what it is for. */
static bool real_mode(const struct vcpu *v)
{
    return !(hvm_ops->get_reg(v, HVM_CR0) & CR0_PE) || (v->stack->regs.rflags & RFLAGS_VM);
}

static enum emulate_result segment(struct emulate_ctx *ctx, enum emulate_seg seg,
                                   struct emulate_segment *out)
{
    const struct vcpu *v = ctx->data;
    struct hvm_segment s;
    get_segment(v, seg, &s);
    const unsigned a = s.attributes;
    bool usable = (a & HVM_ATTR_P) && (a & ATTR_S), code = a & TYPE_CODE;
    *out = (struct emulate_segment){.base = (uint32_t)s.base, .limit = s.limit};
    out->readable = out->writable = true;
    if (real_mode(v))
        return EMULATE_OK;
    out->readable = usable && (!code || (a & TYPE_WRITABLE));
    out->writable = usable && !code && (a & TYPE_WRITABLE);
    out->expand_down = !code && (a & TYPE_EXPAND_DOWN);
    out->big = a & HVM_ATTR_DB;
    return EMULATE_OK;
}

static enum emulate_result seg_base(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t *base)
{
    struct hvm_segment s;
    get_segment(ctx->data, seg, &s);
    *base = s.base;
    return EMULATE_OK;
}

static enum emulate_code code_of(const struct vcpu *v)
{
    struct hvm_segment cs;
    if (hvm_long_mode(v))
        return EMULATE_CODE64;
    hvm_ops->get_segment(v, HVM_CS, &cs);
    bool wide = (cs.attributes & HVM_ATTR_DB) && !(v->stack->regs.rflags & RFLAGS_VM);
    return wide ? EMULATE_CODE32 : EMULATE_CODE16;
}

/* --- ports: what the CPU allowed, no other --- */

static bool same_port(const struct vcpu *v, uint16_t port, unsigned size, bool in)
{
    const struct hvm_exit *e = &v->hvm->exit;
    return e->reason == HVM_EXIT_IO && e->port == port && e->size == size && e->in == in;
}

static enum emulate_result port(struct vcpu *v, uint16_t number, unsigned size, bool in,
                                uint32_t *value)
{
    if (!same_port(v, number, size, in) || hvm_io_port(v, number, size, !in, value))
        return EMULATE_RETRY;
    return EMULATE_OK;
}

static enum emulate_result io_read(struct emulate_ctx *ctx, uint16_t number, unsigned size,
                                   uint32_t *value)
{
    return port(ctx->data, number, size, true, value);
}

static enum emulate_result io_write(struct emulate_ctx *ctx, uint16_t number, unsigned size,
                                    uint32_t value)
{
    return port(ctx->data, number, size, false, &value);
}

static enum emulate_result io_block(struct emulate_ctx *ctx, uint16_t number, unsigned size,
                                    bool in, uint64_t addr, unsigned *count)
{
    struct vcpu *v = ctx->data;
    uint64_t gpa;
    uint32_t error;
    if (!same_port(v, number, size, in))
        return EMULATE_RETRY;
    if (!hvm_walk(v, addr, (in ? HVM_WRITE : HVM_READ) | user(v), &gpa, &error))
        return page_fault(ctx, addr, error);
    if (!hvm_io_port_block(v, number, size, !in, gpa, *count))
        *count = 0;
    return EMULATE_OK;
}

/* --- registers --- */

/* The guest's are in the CPU as long as its vCPU runs. */
#define XMM_ALL(op)                                                                                \
    op(0);                                                                                         \
    op(1);                                                                                         \
    op(2);                                                                                         \
    op(3);                                                                                         \
    op(4);                                                                                         \
    op(5);                                                                                         \
    op(6);                                                                                         \
    op(7);                                                                                         \
    op(8);                                                                                         \
    op(9);                                                                                         \
    op(10);                                                                                        \
    op(11);                                                                                        \
    op(12);                                                                                        \
    op(13);                                                                                        \
    op(14);                                                                                        \
    op(15)
#define XMM_GET(i)                                                                                 \
    if (n == (i))                                                                                  \
    __asm__ volatile("movups %%xmm" #i ", (%0)" ::"r"(value) : "memory")
#define XMM_SET(i)                                                                                 \
    if (n == (i))                                                                                  \
    __asm__ volatile("movups (%0), %%xmm" #i ::"r"(value) : "memory")

static enum emulate_result read_xmm(struct emulate_ctx *ctx, unsigned n, uint8_t value[16])
{
    XMM_ALL(XMM_GET);
    return EMULATE_OK;
}

static enum emulate_result write_xmm(struct emulate_ctx *ctx, unsigned n, const uint8_t value[16])
{
    XMM_ALL(XMM_SET);
    return EMULATE_OK;
}

static enum emulate_result write_cr(struct emulate_ctx *ctx, unsigned cr, uint64_t value)
{
    struct vcpu *v = ctx->data;
    if (cr != 8)
        return EMULATE_UNHANDLED;
    if (value >> 4)
        return emulate_raise(ctx, X86_GP, 0);
    v->hvm->lapic.tpr = value << 4;
    return EMULATE_OK;
}

static const struct emulate_ops ops = {
    .fetch = fetch,
    .read = do_read,
    .write = do_write,
    .cmpxchg = do_cmpxchg,
    .mem_block = mem_block,
    .seg_base = seg_base,
    .segment = segment,
    .io_read = io_read,
    .io_write = io_write,
    .io_block = io_block,
    .write_cr = write_cr,
    .read_xmm = read_xmm,
    .write_xmm = write_xmm,
};

static void raise(struct vcpu *v, const struct emulate_ctx *ctx)
{
    if (ctx->vector == X86_PF)
        hvm_inject_page_fault(v, ctx->fault_addr, ctx->error_code);
    else
        hvm_inject(v, ctx->vector, ctx->vector == X86_GP || ctx->vector == X86_SS, ctx->error_code);
}

static void unhandled(struct vcpu *v)
{
    uint64_t rip = v->stack->regs.rip;
    if (v->hvm->unhandled_rip != rip) {
        v->hvm->unhandled_rip = rip;
        return;
    }
    v->hvm->unhandled_rip = ~0UL;
    log_guest(v->domain->id, LOG_INFO,
              "v%u: the instruction at 0x%lx, which is stopped at 0x%lx, is not known", v->id, rip,
              v->hvm->exit.gpa);
    hvm_inject_ud(v);
}

static void emulate(struct vcpu *v, unsigned allow)
{
    struct emulate_ctx ctx = {
        .ops = &ops,
        .regs = &v->stack->regs,
        .code = code_of(v),
        .allow = allow,
        .cpl = hvm_ops->cpl(v),
        .data = v,
    };
    switch (emulate_one(&ctx)) {
    case EMULATE_OK:
        v->hvm->unhandled_rip = ~0UL;
        hvm_skip(v, 0);
        break;
    case EMULATE_RETRY:
        break;
    case EMULATE_EXCEPTION:
        raise(v, &ctx);
        break;
    case EMULATE_UNHANDLED:
        unhandled(v);
        break;
    }
}

/* Nothing is executed while the CPU delivers an event: its stack or tables are not in memory. */
void hvm_mmio(struct vcpu *v)
{
    if (v->hvm->event.valid)
        domain_kill(v->domain, "v%u: vector %u cannot be delivered at 0x%lx, where no memory is",
                    v->id, v->hvm->event.vector, v->hvm->exit.gpa);
    else
        emulate(v, EMULATE_MEMORY);
}

/* INS and OUTS: memory as well as a port. */
void hvm_string_io(struct vcpu *v)
{
    emulate(v, EMULATE_PRIVILEGED);
}

void hvm_write_tpr(struct vcpu *v)
{
    emulate(v, EMULATE_PRIVILEGED);
}
