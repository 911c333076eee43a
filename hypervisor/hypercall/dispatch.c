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
        if (!((flags) & (hvm ? HC_HVM : HC_PV)))                                                   \
            return -XEN_ENOSYS;                                                                    \
        if (((flags)&HC_DOM0) && !current_domain()->privileged)                                    \
            return -XEN_EPERM;                                                                     \
        return CALL_##nargs(hc_##name);

long hypercall_dispatch(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const bool hvm = current_domain()->is_hvm;
    count(TRACE_hypercalls);
    switch (nr) {
        HYPERCALLS(HC_CASE)
    default:
        return -XEN_ENOSYS;
    }
}
