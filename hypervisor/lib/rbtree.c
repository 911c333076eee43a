/*
 * Red-black trees (lib/rbtree.h), after the textbook (Cormen et al., ch. 13) with parent pointers.
 *
 * Invariants: no red node has a red child; every way down from a node to a NULL passes equally
 * many black nodes; root->leftmost is the first node in order. NULL counts as black.
 */
#include "lib/rbtree.h"

static bool is_red(const struct rb_node *n)
{
    return n && n->red;
}

/* Puts @n (may be NULL) where @old hangs below @parent (NULL: at the root). */
static void replace_child(struct rb_root *root, struct rb_node *parent, struct rb_node *old,
                          struct rb_node *n)
{
    if (!parent)
        root->node = n;
    else if (parent->left == old)
        parent->left = n;
    else
        parent->right = n;
    if (n)
        n->parent = parent;
}

static void rotate_left(struct rb_root *root, struct rb_node *x)
{
    struct rb_node *y = x->right;
    x->right = y->left;
    if (y->left)
        y->left->parent = x;
    replace_child(root, x->parent, x, y);
    y->left = x;
    x->parent = y;
}

static void rotate_right(struct rb_root *root, struct rb_node *x)
{
    struct rb_node *y = x->left;
    x->left = y->right;
    if (y->right)
        y->right->parent = x;
    replace_child(root, x->parent, x, y);
    y->right = x;
    x->parent = y;
}

void rb_insert(struct rb_root *root, struct rb_node *node, rb_less less)
{
    struct rb_node *parent = NULL, **link = &root->node;
    bool leftmost = true;
    while (*link) {
        parent = *link;
        if (less(node, parent)) {
            link = &parent->left;
        } else {
            link = &parent->right; /* equal ones keep the order of their insertion */
            leftmost = false;
        }
    }
    *node = (struct rb_node){.parent = parent, .red = true};
    *link = node;
    if (leftmost)
        root->leftmost = node;

    while (is_red(node->parent)) {
        struct rb_node *p = node->parent, *g = p->parent;
        struct rb_node *uncle = p == g->left ? g->right : g->left;
        if (is_red(uncle)) {
            p->red = uncle->red = false;
            g->red = true;
            node = g;
        } else if (p == g->left) {
            if (node == p->right) {
                rotate_left(root, p);
                p = node;
            }
            p->red = false;
            g->red = true;
            rotate_right(root, g);
            break;
        } else {
            if (node == p->left) {
                rotate_right(root, p);
                p = node;
            }
            p->red = false;
            g->red = true;
            rotate_left(root, g);
            break;
        }
    }
    root->node->red = false;
}

/* @x (may be NULL), child of @parent, is one black short: turn red nodes or pass it upwards. */
static void erase_fixup(struct rb_root *root, struct rb_node *x, struct rb_node *parent)
{
    while (x != root->node && !is_red(x)) {
        bool left = x == parent->left;
        struct rb_node *w = left ? parent->right : parent->left;
        if (w->red) {
            w->red = false;
            parent->red = true;
            if (left)
                rotate_left(root, parent);
            else
                rotate_right(root, parent);
            w = left ? parent->right : parent->left;
        }
        if (!is_red(w->left) && !is_red(w->right)) {
            w->red = true;
            x = parent;
            parent = x->parent;
            continue;
        }
        if (left) {
            if (!is_red(w->right)) {
                w->left->red = false;
                w->red = true;
                rotate_right(root, w);
                w = parent->right;
            }
            w->right->red = false;
        } else {
            if (!is_red(w->left)) {
                w->right->red = false;
                w->red = true;
                rotate_left(root, w);
                w = parent->left;
            }
            w->left->red = false;
        }
        w->red = parent->red;
        parent->red = false;
        if (left)
            rotate_left(root, parent);
        else
            rotate_right(root, parent);
        x = root->node;
    }
    if (x)
        x->red = false;
}

void rb_erase(struct rb_root *root, struct rb_node *node)
{
    if (root->leftmost == node)
        root->leftmost = rb_next(node);

    struct rb_node *child, *parent;
    bool black_lost;
    if (!node->left || !node->right) {
        child = node->left ? node->left : node->right;
        parent = node->parent;
        black_lost = !node->red;
        replace_child(root, parent, node, child);
    } else {
        /* The successor takes the node's place and colour; its own place loses one node. */
        struct rb_node *s = node->right;
        while (s->left)
            s = s->left;
        black_lost = !s->red;
        child = s->right;
        if (s->parent == node) {
            parent = s;
        } else {
            parent = s->parent;
            replace_child(root, parent, s, child);
            s->right = node->right;
            s->right->parent = s;
        }
        s->left = node->left;
        s->left->parent = s;
        s->red = node->red;
        replace_child(root, node->parent, node, s);
    }
    if (black_lost && root->node)
        erase_fixup(root, child, parent);
    *node = (struct rb_node){0};
}

struct rb_node *rb_next(const struct rb_node *node)
{
    if (node->right) {
        node = node->right;
        while (node->left)
            node = node->left;
        return (struct rb_node *)node;
    }
    while (node->parent && node == node->parent->right)
        node = node->parent;
    return node->parent;
}
