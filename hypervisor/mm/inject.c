/*
 * Debug builds: allocations that fail on demand, so that tests can walk through every error path.
 *
 * Debug key 'F' lets one allocation fail: the first from then on; pressed again, the second from
 * then on, and so forth, until 'f' starts over and lets nothing fail. So a test presses it and
 * repeats an operation until that succeeds, and has then seen each of its allocations fail once.
 */
#include "console/console.h"
#include "mm/internal.h"

#ifdef DEBUG

static unsigned distance; /* of the one that failed or is to fail, from the key on */
static unsigned left;     /* [a] allocations up to the one that fails; 0 = none will */

bool alloc_must_fail(void)
{
    unsigned n = READ_ONCE(left);
    while (n)
        if (__atomic_compare_exchange_n(&left, &n, n - 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return n == 1;
    return false;
}

static void next_fails(char key)
{
    WRITE_ONCE(left, ++distance);
}

static void none_fails(char key)
{
    distance = 0;
    WRITE_ONCE(left, 0);
}

void __init alloc_inject_init(void)
{
    key_register('F', "the next allocation fails; again: the one after it", next_fails);
    key_register('f', "no allocation fails on demand any more", none_fails);
}

#endif
