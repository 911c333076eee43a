/*
 * The one table of hypercalls: number (xen/xen.h), handler hc_<name>, number of arguments, who may
 * reach it. Numbers not listed are -ENOSYS. Handlers take and return 64-bit words; a negative
 * return is an errno.
 */
#ifndef HYPERCALL_TABLE_H
#define HYPERCALL_TABLE_H

#include "lib/compiler.h"
#include "lib/types.h"

/* The Xen whose interfaces we keep, as xen_version and CPUID give it: major, minor. */
#define ABI_VERSION (4 << 16 | 17)

#define HC_PV       1u
#define HC_HVM      2u
#define HC_DOM0     4u /* privileged domain only; others get -XEN_EPERM */
#define HC_HVM_DOM0 8u /* of hardware-virtualized ones the privileged alone: on PV guests */

#define HYPERCALLS(X)                                                                              \
    X(0, set_trap_table, 1, HC_PV)                                                                 \
    X(1, mmu_update, 4, HC_PV | HC_HVM_DOM0)                                                       \
    X(2, set_gdt, 2, HC_PV)                                                                        \
    X(3, stack_switch, 2, HC_PV)                                                                   \
    X(4, set_callbacks, 3, HC_PV)                                                                  \
    X(5, fpu_taskswitch, 1, HC_PV)                                                                 \
    X(7, platform_op, 1, HC_PV | HC_HVM | HC_DOM0)                                                 \
    X(8, set_debugreg, 2, HC_PV)                                                                   \
    X(9, get_debugreg, 1, HC_PV)                                                                   \
    X(10, update_descriptor, 2, HC_PV)                                                             \
    X(12, memory_op, 2, HC_PV | HC_HVM)                                                            \
    X(13, multicall, 2, HC_PV | HC_HVM)                                                            \
    X(14, update_va_mapping, 3, HC_PV)                                                             \
    X(15, set_timer_op, 1, HC_PV | HC_HVM)                                                         \
    X(17, xen_version, 2, HC_PV | HC_HVM)                                                          \
    X(18, console_io, 3, HC_PV | HC_HVM)                                                           \
    X(20, grant_table_op, 3, HC_PV | HC_HVM)                                                       \
    X(21, vm_assist, 2, HC_PV)                                                                     \
    X(22, update_va_mapping_otherdomain, 4, HC_PV)                                                 \
    X(23, iret, 0, HC_PV)                                                                          \
    X(24, vcpu_op, 3, HC_PV | HC_HVM)                                                              \
    X(25, set_segment_base, 2, HC_PV)                                                              \
    X(26, mmuext_op, 4, HC_PV | HC_HVM_DOM0)                                                       \
    X(29, sched_op, 2, HC_PV | HC_HVM)                                                             \
    X(30, callback_op, 2, HC_PV)                                                                   \
    X(32, event_channel_op, 2, HC_PV | HC_HVM)                                                     \
    X(33, physdev_op, 2, HC_PV | HC_HVM)                                                           \
    X(34, hvm_op, 2, HC_PV | HC_HVM)                                                               \
    X(35, sysctl, 1, HC_PV | HC_HVM | HC_DOM0)                                                     \
    X(36, domctl, 1, HC_PV | HC_HVM | HC_DOM0)                                                     \
    X(41, dm_op, 3, HC_PV | HC_HVM)

#define HC_ARGS_0 void
#define HC_ARGS_1 uint64_t
#define HC_ARGS_2 uint64_t, uint64_t
#define HC_ARGS_3 uint64_t, uint64_t, uint64_t
#define HC_ARGS_4 uint64_t, uint64_t, uint64_t, uint64_t
/* Not inlined: a short one shall not pay for the registers and the frame that a long one needs. */
#define HC_PROTOTYPE(nr, name, nargs, flags) __noinline long hc_##name(HC_ARGS_##nargs);
HYPERCALLS(HC_PROTOTYPE)

struct cpu_user_regs;

/* Runs the hypercall that the current vCPU, a PV guest's, has in its registers. */
void hypercall_pv_regs(struct cpu_user_regs *regs);

/*
 * Runs hypercall @nr of the current vCPU, a PV or a hardware-virtualized guest's, with the first
 * words of what the ABI passes; none takes more than four.
 */
long hypercall_pv(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
long hypercall_hvm(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

#endif
