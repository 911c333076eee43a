/*
 * Where a hypercall is dispatched. The table is hypercall/table.h; a switch made from it lets the
 * compiler call each handler directly, with just the arguments that it takes. Who may call at all
 * is decided here; what a caller may do to which domain is hypercall/permission.c.
 */
#include "domain/domain.h"
#include "hypercall/table.h"

#define CALL_0(f) f()
#define CALL_1(f) f(a)
#define CALL_2(f) f(a, b)
#define CALL_3(f) f(a, b, c)
#define CALL_4(f) f(a, b, c, d)

#define HC_CASE(nr, name, nargs, flags)                                                            \
    case nr:                                                                                       \
        if (!((flags)&kind))                                                                       \
            return -XEN_ENOSYS;                                                                    \
        if (((flags)&HC_DOM0) && !current_domain()->privileged)                                    \
            return -XEN_EPERM;                                                                     \
        return CALL_##nargs(hc_##name);

static __always_inline long dispatch(unsigned kind, uint64_t nr, uint64_t a, uint64_t b, uint64_t c,
                                     uint64_t d)
{
    count(TRACE_hypercalls);
    switch (nr) {
        HYPERCALLS(HC_CASE)
    default:
        return -XEN_ENOSYS;
    }
}

void hypercall_pv_regs(struct cpu_user_regs *r)
{
    r->rax = dispatch(HC_PV, r->eax, r->rdi, r->rsi, r->rdx, r->r10);
}

long hypercall_pv(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return dispatch(HC_PV, nr, a, b, c, d);
}

long hypercall_hvm(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    unsigned kind = current_domain()->privileged ? HC_HVM | HC_HVM_DOM0 : HC_HVM;
    return dispatch(kind, nr, a, b, c, d);
}
