/*
 * Instructions executed for a guest, above all accesses to what is no RAM: the instruction is
 * decoded and executed for it (emulate/), its memory operands by the guest's own tables. One thing
 * is there, the page of the local APIC; anywhere else reads find all ones and writes are lost, as
 * on a bus where nobody answers.
 *
 * Only 64-bit code is executed so; other modes end the guest.
 */
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
    if (here < n &&
        !hvm_copy_linear(v, addr + here, (uint8_t *)buf + here, n - here, HVM_FETCH | user(v), &f))
        *got = n;
    return EMULATE_OK;
}

/* Within one page. */
static enum emulate_result access(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                  unsigned kind)
{
    struct vcpu *v = ctx->data;
    uint64_t gpa;
    uint32_t error;
    if (!hvm_walk(v, addr, kind | user(v), &gpa, &error))
        return page_fault(ctx, addr, error);
    bool write = kind & HVM_WRITE;
    if (hvm_apic_page(v, gpa)) {
        uint32_t value = 0;
        if (gpa % 16 == 0 && n == 4 && write) {
            memcpy(&value, buf, 4);
            lapic_write(&v->hvm->lapic, gpa >> 4 & 0xff, value);
        } else if (!write) { /* narrow and wide reads: from the register's 32 bits */
            value = lapic_read(&v->hvm->lapic, gpa >> 4 & 0xff);
            memset(buf, 0, n);
            if (gpa % 16 < 4)
                memcpy(buf, (uint8_t *)&value + gpa % 4, min(n, 4 - (unsigned)(gpa % 4)));
        }
        return EMULATE_OK;
    }
    int rc =
        write ? hvm_copy_to_gpa(v->domain, gpa, buf, n) : hvm_copy_from_gpa(v->domain, buf, gpa, n);
    if (rc && !write)
        memset(buf, 0xff, n);
    return EMULATE_OK;
}

static enum emulate_result both_pages(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                      unsigned kind)
{
    unsigned here = min((uint64_t)n, PAGE_SIZE - addr % PAGE_SIZE);
    enum emulate_result r = access(ctx, addr, buf, here, kind);
    if (r == EMULATE_OK && here < n)
        r = access(ctx, addr + here, (uint8_t *)buf + here, n - here, kind);
    return r;
}

static enum emulate_result do_read(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n)
{
    return both_pages(ctx, addr, buf, n, HVM_READ);
}

static enum emulate_result do_write(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                    unsigned n)
{
    return both_pages(ctx, addr, (void *)buf, n, HVM_WRITE);
}

/* On registers nothing is atomic anyway: the value was read, and is written now. */
static enum emulate_result do_cmpxchg(struct emulate_ctx *ctx, uint64_t addr, void *expected,
                                      const void *desired, unsigned n)
{
    return both_pages(ctx, addr, (void *)desired, n, HVM_WRITE);
}

static enum emulate_result seg_base(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t *base)
{
    struct hvm_segment s;
    *base = 0;
    if (seg == SEG_FS || seg == SEG_GS) {
        hvm_ops->get_segment(ctx->data, seg == SEG_FS ? HVM_FS : HVM_GS, &s);
        *base = s.base;
    }
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
    .seg_base = seg_base,
    .write_cr = write_cr,
};

/* False: it is nothing that we execute. */
static bool execute(struct vcpu *v, unsigned allow)
{
    struct emulate_ctx ctx = {
        .ops = &ops,
        .regs = &v->stack->regs,
        .allow = allow,
        .cpl = hvm_ops->cpl(v),
        .data = v,
    };
    enum emulate_result r = hvm_long_mode(v) ? emulate_one(&ctx) : EMULATE_UNHANDLED;
    switch (r) {
    case EMULATE_OK:
        hvm_ops->clear_shadow(v);
        return true;
    case EMULATE_RETRY:
        return true;
    case EMULATE_EXCEPTION:
        if (ctx.vector == X86_PF)
            hvm_inject_page_fault(v, ctx.fault_addr, ctx.error_code);
        else
            hvm_inject(v, ctx.vector, ctx.vector == X86_GP || ctx.vector == X86_SS, ctx.error_code);
        return true;
    default:
        return false;
    }
}

void hvm_mmio(struct vcpu *v)
{
    if (!execute(v, EMULATE_MEMORY))
        domain_kill(v->domain, "v%u: an access to 0x%lx, where no memory is, cannot be executed",
                    v->id, v->hvm->exit.gpa);
}

bool hvm_write_tpr(struct vcpu *v)
{
    return execute(v, EMULATE_PRIVILEGED);
}
