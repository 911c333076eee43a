/* SOURCES: lib/spinlock.c lib/bitmap.c fake/cpu.c */
/* LIBS: -lpthread */
/* The order check on one faked CPU; mutual exclusion between real threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <cmocka.h>

#include "fake/cpu.h"
#include "lib/spinlock.h"

static __thread struct cpu *here;

struct cpu *this_cpu(void)
{
    return here ? here : &fake_cpu[fake_cpu_number];
}

void spin_poll(void)
{
    sched_yield(); /* two cores, four threads */
}

static struct spinlock outer = SPINLOCK_INIT(RANK_DOMAIN);
static struct spinlock inner = SPINLOCK_INIT(RANK_BUDDY);
static struct spinlock twins[2] = {SPINLOCK_INIT(RANK_EVENT), SPINLOCK_INIT(RANK_EVENT)};

static void reset(void)
{
    fake_cpu[0].locks_held = 0;
    spin_init(&outer, RANK_DOMAIN);
    spin_init(&inner, RANK_BUDDY);
    spin_init(&twins[0], RANK_EVENT);
    spin_init(&twins[1], RANK_EVENT);
    fake_panic_expected = false;
}

static void test_order(void **state)
{
    reset();
    spin_lock(&outer);
    spin_lock(&inner);
    assert_true(spin_is_locked(&outer) && spin_is_locked(&inner));
    assert_int_equal(fake_cpu[0].locks_held, 2);
    spin_unlock(&outer); /* in any order */
    spin_unlock(&inner);
    assert_int_equal(fake_cpu[0].locks_held, 0);
    assert_false(spin_is_locked(&outer) || spin_is_locked(&inner));
}

static void test_inversion(void **state)
{
    reset();
    fake_panic_expected = true;
    spin_lock(&inner);
    expect_assert_failure(spin_lock(&outer));
    expect_assert_failure(spin_lock(&inner)); /* itself again */
    reset();
    fake_panic_expected = true;
    spin_lock(&twins[0]);
    expect_assert_failure(spin_lock(&twins[1])); /* equal rank without the pair function */
    reset();
    fake_panic_expected = true;
    expect_assert_failure(spin_unlock(&outer)); /* not held */
    struct spinlock unnamed = {0};
    expect_assert_failure(spin_lock(&unnamed)); /* never initialised */
    /* After an out-of-order release the rest still counts. */
    reset();
    spin_lock(&outer);
    spin_lock(&inner);
    spin_unlock(&outer);
    fake_panic_expected = true;
    expect_assert_failure(spin_lock(&twins[0]));
    reset();
}

static void test_pair(void **state)
{
    reset();
    spin_lock_pair(&twins[1], &twins[0]);
    assert_true(spin_is_locked(&twins[0]) && spin_is_locked(&twins[1]));
    assert_int_equal(fake_cpu[0].locks_held, 2);
    spin_lock(&inner);
    spin_unlock(&inner);
    spin_unlock_pair(&twins[1], &twins[0]);
    assert_int_equal(fake_cpu[0].locks_held, 0);
    spin_lock_pair(&twins[0], &twins[0]);
    assert_int_equal(fake_cpu[0].locks_held, 1);
    spin_unlock_pair(&twins[0], &twins[0]);
    assert_false(spin_is_locked(&twins[0]));
    assert_int_equal(fake_cpu[0].locks_held, 0);
}

static void test_trylock(void **state)
{
    reset();
    assert_true(spin_trylock(&outer));
    assert_false(spin_trylock(&outer));
    assert_int_equal(fake_cpu[0].locks_held, 1);
    spin_unlock(&outer);
    outer.word = 0xffffffff; /* both tickets about to wrap */
    assert_true(spin_trylock(&outer));
    assert_true(spin_is_locked(&outer));
    spin_unlock(&outer);
    spin_lock(&outer);
    spin_unlock(&outer);
    assert_false(spin_is_locked(&outer));
}

#define THREADS 4
#define ROUNDS  30000
static unsigned counter, both;

static void *worker(void *arg)
{
    here = &fake_cpu[(uintptr_t)arg];
    here->locks_held = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 4) {
            spin_lock(&inner);
        } else {
            while (!spin_trylock(&inner))
                sched_yield();
        }
        counter++; /* not atomic: it would come out short */
        spin_unlock(&inner);
        unsigned k = (unsigned)(uintptr_t)arg % 2;
        spin_lock_pair(&twins[k], &twins[!k]);
        both++;
        spin_unlock_pair(&twins[k], &twins[!k]);
    }
    return NULL;
}

static void test_threads(void **state)
{
    reset();
    /* Ticket numbers wrap on the way: 2^16 < THREADS * ROUNDS. */
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, worker, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(counter, THREADS * ROUNDS);
    assert_int_equal(both, THREADS * ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),   cmocka_unit_test(test_inversion),
        cmocka_unit_test(test_pair),    cmocka_unit_test(test_trylock),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
