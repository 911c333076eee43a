/*
 * The stack protector's two symbols (-mstack-protector-guard=global). boot/ gives the guard a value
 * nobody outside can know before the first protected function runs.
 */
#include "console/console.h"
#include "lib/stack_guard.h"

uint64_t __stack_chk_guard __ro_after_init = 0x5bd1e995a7c40d00;

void __stack_chk_fail(void)
{
    panic("a stack frame of the hypervisor was overwritten");
}
