/* Stack protection: names the compiler knows (gcc manual, -fstack-protector). */
#ifndef LIB_STACK_GUARD_H
#define LIB_STACK_GUARD_H

#include "lib/compiler.h"
#include "lib/types.h"

extern uint64_t __stack_chk_guard; /* its lowest byte is 0, so that no string runs over it */
void __stack_chk_fail(void) __noreturn;

#endif
