/*
 * A PVH kernel that faults without being able to take the fault: the domain ends, with a reason.
 *
 * ARGS: dom0=pvh
 * EXPECT: d0 error: v0: triple fault, rip 0x
 */
#include "hvm.h"

const char test_name[] = "hvm-triple";

void test_main(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};

    asm volatile("lidt %0; ud2" ::"m"(none));
}
