/*
 * Where a hypercall is dispatched. The table is hypercall/table.h; a switch made from it lets the
 * compiler call each handler directly, with just the arguments that it takes. Who may call at all
 * is decided here; what a caller may do to which domain is hypercall/permission.c.
 */
#include "domain/domain.h"
#include "hypercall/table.h"

#define CALL_0(f, a) f()
#define CALL_1(f, a) f((a)[0])
#define CALL_2(f, a) f((a)[0], (a)[1])
#define CALL_3(f, a) f((a)[0], (a)[1], (a)[2])
#define CALL_4(f, a) f((a)[0], (a)[1], (a)[2], (a)[3])

#define HC_CASE(nr, name, nargs, flags)                                                            \
    case nr:                                                                                       \
        if (((flags)&HC_DOM0) && !current_domain()->privileged)                                    \
            return -XEN_EPERM;                                                                     \
        return CALL_##nargs(hc_##name, args);

long hypercall_dispatch(unsigned nr, const uint64_t args[6])
{
    count(TRACE_hypercalls);
    switch (nr) {
        HYPERCALLS(HC_CASE)
    default:
        return -XEN_ENOSYS;
    }
}
