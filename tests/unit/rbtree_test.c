/* SOURCES: lib/rbtree.c */
/* Random insertions and removals; after each the tree's invariants and its order are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/rbtree.h"

#define ITEMS 200

struct item {
    struct rb_node node;
    unsigned key, serial;
    bool in;
};

static struct item item[ITEMS];

static struct item *to_item(const struct rb_node *n)
{
    return container_of(n, struct item, node);
}

static bool less(const struct rb_node *a, const struct rb_node *b)
{
    return to_item(a)->key < to_item(b)->key;
}

/* Black height, checked on the way. */
static int check(const struct rb_node *n, const struct rb_node *parent)
{
    if (!n)
        return 1;
    assert_ptr_equal(n->parent, parent);
    if (n->red) {
        assert_non_null(parent);
        assert_false(parent->red);
    }
    int left = check(n->left, n), right = check(n->right, n);
    assert_int_equal(left, right);
    return left + !n->red;
}

static void check_all(const struct rb_root *root, unsigned count)
{
    check(root->node, NULL);
    unsigned seen = 0;
    const struct item *prev = NULL;
    for (const struct rb_node *n = rb_first(root); n; n = rb_next(n)) {
        const struct item *i = to_item(n);
        assert_true(i->in);
        if (prev) {
            assert_true(prev->key <= i->key);
            if (prev->key == i->key) /* equals keep the order of insertion */
                assert_true(prev->serial < i->serial);
        }
        prev = i;
        seen++;
    }
    assert_int_equal(seen, count);
}

static void test_random(void **state)
{
    srand(7);
    for (int spread = 3; spread < 5000; spread *= 10) {
        struct rb_root root = {0};
        unsigned count = 0, serial = 0;
        for (int step = 0; step < 4000; step++) {
            struct item *i = &item[rand() % ITEMS];
            if (i->in) {
                rb_erase(&root, &i->node);
                i->in = false;
                count--;
            } else {
                i->key = (unsigned)(rand() % spread);
                i->serial = serial++;
                i->in = true;
                rb_insert(&root, &i->node, less);
                count++;
            }
            check_all(&root, count);
        }
        while (count--) {
            struct item *first = to_item(rb_first(&root));
            rb_erase(&root, &first->node);
            first->in = false;
            check_all(&root, count);
        }
        assert_null(root.node);
        assert_null(rb_first(&root));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
