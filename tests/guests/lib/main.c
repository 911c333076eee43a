/*
 * From the entry to the result line: start of day and the end.
 */
#include "guest.h"
#include <xen/sysctl.h>

struct start_info *start_info;
uint64_t boot_stack;

bool is_dom0(void)
{
    return start_info->flags & SIF_INITDOMAIN;
}

bool is_trilby(void)
{
    static char text[XEN_EXTRAVERSION_LEN + 1];

    if (!text[0])
        HC(xen_version, XENVER_extraversion, text);
    for (const char *at = text; *at; at++)
        if (!strncmp(at, "trilby", 6))
            return true;
    return false;
}

bool has_argument(const char *word)
{
    const char *at = (const char *)start_info->cmd_line;
    size_t n = strlen(word);

    while (*at) {
        while (*at == ' ')
            at++;
        if (!strncmp(at, word, n) && (at[n] == ' ' || !at[n]))
            return true;
        while (*at && *at != ' ')
            at++;
    }
    return false;
}

uint64_t argument(const char *name, uint64_t value)
{
    const char *at = (const char *)start_info->cmd_line;
    size_t n = strlen(name);

    for (; *at; at++)
        if (!strncmp(at, name, n)) {
            value = 0;
            for (at += n; *at >= '0' && *at <= '9'; at++)
                value = value * 10 + (uint64_t)(*at - '0');
            break;
        }
    return value;
}

_Noreturn void shut_down(unsigned reason)
{
    struct sched_shutdown arg = {.reason = reason};

    for (;;)
        HC(sched_op, SCHEDOP_shutdown, &arg);
}

/*
 * Trilby recounts all page references when asked by this debug key, and says how many are wrong;
 * tests/guests/run reads that and counts errors as failures.
 */
static void audit(void)
{
    struct xen_sysctl s = {.cmd = XEN_SYSCTL_debug_keys,
                           .interface_version = XEN_SYSCTL_INTERFACE_VERSION};

    s.u.debug_keys.keys.p = "M";
    s.u.debug_keys.nr_keys = 1;
    if (is_dom0() && is_trilby())
        HC(sysctl, &s);
}

_Noreturn void test_finish(void)
{
    audit();

    print("Test result: %u passed, %u failed\n", checks_passed, checks_failed);
    shut_down(SHUTDOWN_poweroff);
}

_Noreturn void guest_main(struct start_info *si, uint64_t stack);
_Noreturn void guest_main(struct start_info *si, uint64_t stack)
{
    start_info = si;
    boot_stack = stack;
    print("\nTest guest %s: started\n", test_name);
    trap_init();
    if (!shared())
        check_true(false, "mapping shared_info", __FILE__, __LINE__);
    test_main();
    test_finish();
}
