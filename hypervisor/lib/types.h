/*
 * The types every room speaks in.
 *
 * Frame numbers and addresses of different spaces are distinct structs, so that mixing them does
 * not compile; a struct of one word costs nothing at -O2.
 *
 *   mfn_t      machine frame number (4 KiB units of what the memory bus sees)
 *   gfn_t      guest frame number; for a PV guest it equals the mfn
 *   maddr_t    machine address in bytes
 *   guest_ptr_t (hypercall/guest_access.h) an address in the calling guest
 */
#ifndef LIB_TYPES_H
#define LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The public ABI (package libxen-dev); build/inc/xen is a link to /usr/include/xen. */
#include <xen/xen.h>
#include <xen/errno.h>

typedef struct {
    uint64_t n;
} mfn_t;

typedef struct {
    uint64_t n;
} gfn_t;

typedef struct {
    uint64_t a;
} maddr_t;

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096UL
#define PAGE_MASK  (~(PAGE_SIZE - 1))

#define MFN_NONE   ((mfn_t){~0UL})

static inline mfn_t mfn(uint64_t n)
{
    return (mfn_t){n};
}

static inline gfn_t gfn(uint64_t n)
{
    return (gfn_t){n};
}

static inline maddr_t maddr(uint64_t a)
{
    return (maddr_t){a};
}

static inline maddr_t mfn_to_maddr(mfn_t m)
{
    return (maddr_t){m.n << PAGE_SHIFT};
}

static inline mfn_t maddr_to_mfn(maddr_t a)
{
    return (mfn_t){a.a >> PAGE_SHIFT};
}

static inline bool mfn_equal(mfn_t a, mfn_t b)
{
    return a.n == b.n;
}

#endif
