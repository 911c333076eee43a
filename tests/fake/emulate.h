/*
 * What the emulator's tests share: a code and a data area below 4 GiB, effects that work on a copy
 * of the data (so that it can be compared with what the processor did), faults on demand.
 */
#ifndef FAKE_EMULATE_H
#define FAKE_EMULATE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/mman.h>

#include "emulate/emulate.h"

#define CF    0x001UL
#define PF    0x004UL
#define AF    0x010UL
#define ZF    0x040UL
#define SF    0x080UL
#define DF    0x400UL
#define OF    0x800UL
#define ARITH (CF | PF | AF | ZF | SF | OF)

#define AREA  4096
static uint8_t *code, *memory; /* below 4 GiB, next to each other */
static uint8_t shadow[AREA];

static int setup(void **state)
{
    uint8_t *p = mmap(NULL, 2 * AREA, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    assert_true(p != MAP_FAILED);
    code = p;
    memory = p + AREA;
    return 0;
}

/* --- emulation on the copy --- */

static __unused unsigned fault_write_at; /* the nth write (or cmpxchg) faults; 0 = none */
static __unused bool with_cmpxchg = true;
static __unused unsigned cmpxchg_disturb; /* so many times another vCPU was quicker */
static __unused unsigned fetch_limit;     /* bytes per fetch, 0 = all */
static __unused unsigned fetch_end;       /* code ends here: fetches behind fault; 0 = never */

static uint8_t *shadow_at(uint64_t addr, unsigned n)
{
    uint64_t offset = addr - (uint64_t)memory;
    assert_true(offset < AREA && offset + n <= AREA);
    return shadow + offset;
}

static enum emulate_result t_fetch(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n,
                                   unsigned *got)
{
    uint64_t offset = addr - (uint64_t)code;
    assert_true(offset < AREA);
    if (fetch_end && offset >= fetch_end) {
        ctx->fault_addr = addr;
        return emulate_raise(ctx, 14, 0x10);
    }
    if (fetch_end && offset + n > fetch_end)
        n = fetch_end - offset;
    if (fetch_limit && n > fetch_limit)
        n = fetch_limit;
    memcpy(buf, code + offset, n);
    *got = n;
    return EMULATE_OK;
}

static enum emulate_result t_read(struct emulate_ctx *ctx, uint64_t addr, void *buf, unsigned n)
{
    memcpy(buf, shadow_at(addr, n), n);
    return EMULATE_OK;
}

static bool write_faults(struct emulate_ctx *ctx, uint64_t addr)
{
    if (!fault_write_at || --fault_write_at)
        return false;
    ctx->fault_addr = addr;
    emulate_raise(ctx, 14, 3);
    return true;
}

static enum emulate_result t_write(struct emulate_ctx *ctx, uint64_t addr, const void *buf,
                                   unsigned n)
{
    if (write_faults(ctx, addr))
        return EMULATE_EXCEPTION;
    memcpy(shadow_at(addr, n), buf, n);
    return EMULATE_OK;
}

static enum emulate_result t_cmpxchg(struct emulate_ctx *ctx, uint64_t addr, void *expected,
                                     const void *desired, unsigned n)
{
    uint8_t *p = shadow_at(addr, n);
    if (write_faults(ctx, addr))
        return EMULATE_EXCEPTION;
    if (cmpxchg_disturb) {
        cmpxchg_disturb--;
        p[0]++;
    }
    if (memcmp(p, expected, n) == 0)
        memcpy(p, desired, n);
    else
        memcpy(expected, p, n);
    return EMULATE_OK;
}

static __unused uint64_t fs_base;
static enum emulate_result t_seg_base(struct emulate_ctx *ctx, enum emulate_seg seg, uint64_t *base)
{
    *base = seg == SEG_FS ? fs_base : 0;
    return EMULATE_OK;
}

static struct emulate_ops ops = {.fetch = t_fetch,
                                 .read = t_read,
                                 .write = t_write,
                                 .cmpxchg = t_cmpxchg,
                                 .seg_base = t_seg_base};
static struct cpu_user_regs regs;
static struct emulate_ctx ctx;

static __unused uint64_t *slot(struct cpu_user_regs *r, unsigned n)
{
    uint64_t *const s[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp,
                             &r->rsi, &r->rdi, &r->r8,  &r->r9,  &r->r10, &r->r11,
                             &r->r12, &r->r13, &r->r14, &r->r15};
    return s[n];
}

static __unused void ready(void)
{
    ops.cmpxchg = with_cmpxchg ? t_cmpxchg : NULL;
    ctx = (struct emulate_ctx){
        .ops = &ops, .regs = &regs, .allow = EMULATE_MEMORY | EMULATE_PRIVILEGED, .cpl = 0};
    regs.rip = (uint64_t)code;
}

static uint64_t seed = 0x9e3779b97f4a7c15;
static __unused uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

#endif
