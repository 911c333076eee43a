/* Numbers that both the assembly and the C of the test kernels know. */
#ifndef GUESTS_LAYOUT_H
#define GUESTS_LAYOUT_H

#define VIRT_BASE  0xffffffff80000000
#define STACK_SIZE 16384 /* and alignment: this_cpu() masks rsp */

/* "Vectors" of what is not an exception. */
#define ENTRY_EVENT     256
#define ENTRY_SYSCALL   257
#define ENTRY_SYSCALL32 258
#define ENTRY_SYSENTER  259
#define ENTRY_NMI       260
#define ENTRY_FAILSAFE  261

/* Software interrupt stubs, from vector 32. */
#define SOFT_VECTORS 97
#define SOFT_SIZE    32

#endif
