/* An intrusive balanced tree; the caller compares. */
#ifndef LIB_RBTREE_H
#define LIB_RBTREE_H

#include "lib/compiler.h"
#include "lib/types.h"

struct rb_node {
    struct rb_node *parent, *left, *right;
    bool red;
};

struct rb_root {
    struct rb_node *node;
    struct rb_node *leftmost; /* the smallest, kept so that reading it is O(1) */
};

/* True when a sorts before b. */
typedef bool (*rb_less)(const struct rb_node *a, const struct rb_node *b);

void rb_insert(struct rb_root *root, struct rb_node *node, rb_less less);
void rb_erase(struct rb_root *root, struct rb_node *node);
struct rb_node *rb_next(const struct rb_node *node);

static inline struct rb_node *rb_first(const struct rb_root *root)
{
    return root->leftmost;
}

#endif
