/* The counters of checks, and what a failed one prints. */
#include "guest.h"

unsigned checks_passed, checks_failed;

void section(const char *name)
{
    print("- %s\n", name);
}

static void failure(const char *what, const char *file, int line)
{
    checks_failed++;
    print("FAIL %s:%d: %s", file, line, what);
}

void check_true(bool ok, const char *what, const char *file, int line)
{
    if (ok) {
        checks_passed++;
        return;
    }
    failure(what, file, line);
    print("\n");
}

static bool small(long v)
{
    return v > -65536 && v < 65536;
}

void check_equal(long got, long want, const char *what, const char *file, int line)
{
    if (got == want) {
        checks_passed++;
        return;
    }
    failure(what, file, line);
    if (small(got) && small(want))
        print(": got %ld, expected %ld\n", got, want);
    else
        print(": got 0x%lx, expected 0x%lx\n", got, want);
}

void check_either(long got, long a, long b, const char *what, const char *file, int line)
{
    if (got == a || got == b) {
        checks_passed++;
        return;
    }
    failure(what, file, line);
    print(": got %ld (0x%lx), expected %ld or %ld\n", got, got, a, b);
}

void check_refused(long got, const char *what, const char *file, int line)
{
    if (got < 0 && got > -4096) {
        checks_passed++;
        return;
    }
    failure(what, file, line);
    print(": got %ld (0x%lx), expected an errno\n", got, got);
}
