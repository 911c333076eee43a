/* SOURCES: hypercall/permission.c */
/* The permission table: what an ordinary domain is refused, and what domain 0 cannot do to itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "domain/domain.h"
#include "hypercall/permission.h"

#include <xen/domctl.h>
#include <xen/memory.h>
#include <xen/physdev.h>

static struct domain *zero, *guest, *other;

static int setup(void **state)
{
    zero = calloc(1, sizeof(*zero));
    guest = calloc(1, sizeof(*guest));
    other = calloc(1, sizeof(*other));
    zero->privileged = true;
    return 0;
}

static int teardown(void **state)
{
    free(zero);
    free(guest);
    free(other);
    return 0;
}

static void test_guest_on_itself(void **state)
{
    assert_int_equal(permission_check(guest, __HYPERVISOR_memory_op, XENMEM_populate_physmap, guest),
                     0);
    assert_int_equal(permission_check(guest, __HYPERVISOR_mmu_update, 0, guest), 0);
    assert_int_equal(permission_check(guest, __HYPERVISOR_event_channel_op, 0, NULL), 0);
}

static void test_guest_on_others(void **state)
{
    static const unsigned calls[] = {__HYPERVISOR_memory_op, __HYPERVISOR_mmu_update,
                                     __HYPERVISOR_mmuext_op, __HYPERVISOR_event_channel_op,
                                     __HYPERVISOR_grant_table_op, __HYPERVISOR_physdev_op};
    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
        assert_int_equal(permission_check(guest, calls[i], 1, other), -XEN_EPERM);
        assert_int_equal(permission_check(guest, calls[i], 1, zero), -XEN_EPERM);
        assert_int_equal(permission_check(zero, calls[i], 1, other), 0);
    }
}

static void test_guest_on_the_machine(void **state)
{
    for (unsigned op = 0; op < 1100; op++) {
        assert_int_equal(permission_check(guest, __HYPERVISOR_domctl, op, guest), -XEN_EPERM);
        assert_int_equal(permission_check(guest, __HYPERVISOR_sysctl, op, NULL), -XEN_EPERM);
        assert_int_equal(permission_check(guest, __HYPERVISOR_platform_op, op, NULL), -XEN_EPERM);
    }
    assert_int_equal(permission_check(guest, __HYPERVISOR_memory_op, XENMEM_machine_memory_map,
                                      NULL),
                     -XEN_EPERM);
    assert_int_equal(permission_check(guest, __HYPERVISOR_memory_op, XENMEM_acquire_resource, guest),
                     -XEN_EPERM);
}

static void test_dom0_on_itself(void **state)
{
    static const unsigned ops[] = {XEN_DOMCTL_pausedomain, XEN_DOMCTL_destroydomain,
                                   XEN_DOMCTL_setvcpucontext, XEN_DOMCTL_max_vcpus};
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_int_equal(permission_check(zero, __HYPERVISOR_domctl, ops[i], zero), -XEN_EINVAL);
        assert_int_equal(permission_check(zero, __HYPERVISOR_domctl, ops[i], guest), 0);
    }
    assert_int_equal(permission_check(zero, __HYPERVISOR_domctl, XEN_DOMCTL_max_mem, zero), 0);
}

static void test_unlisted(void **state)
{
    assert_int_equal(permission_check(zero, 63, 0, NULL), -XEN_EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guest_on_itself),      cmocka_unit_test(test_guest_on_others),
        cmocka_unit_test(test_guest_on_the_machine), cmocka_unit_test(test_dom0_on_itself),
        cmocka_unit_test(test_unlisted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
