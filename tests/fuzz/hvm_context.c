/* SOURCES: hvm/context.c hvm/records.c hvm/platform.c hvm/wires.c hvm/apic.c hvm/dev/mtrr.c */
/* SOURCES: hvm/dev/pic.c hvm/dev/pit.c hvm/dev/rtc.c hvm/dev/hpet.c hvm/dev/ioapic.c */
/* SOURCES: hvm/dev/pmtimer.c hvm/dev/lapic.c lib/spinlock.c fake/cpu.c */
/*
 * Any bytes as a domain's stream of records, and its own stream with some bytes changed: what is
 * refused has changed nothing, and what is taken is told again in a stream that would be taken.
 */
#include "hvm.h"

enum { MOST = 16384 };

static uint8_t before[MOST] __attribute__((aligned(8))), after[MOST] __attribute__((aligned(8)));
static uint8_t stream[MOST];
static uint64_t reg[VCPUS][HVM_REGS];
static struct hvm_segment segment[VCPUS][HVM_SEGS];

/* --- a CPU that keeps what it is told --- */

static uint64_t get_reg(const struct vcpu *v, enum hvm_reg r)
{
    return reg[v->id][r];
}
static void set_reg(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
    reg[v->id][r] = value;
}
static void get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    *out = segment[v->id][s];
}
static void set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in)
{
    segment[v->id][s] = *in;
}
static unsigned cpl(const struct vcpu *v)
{
    return 0;
}
static const struct hvm_ops cpu_ops = {.get_reg = get_reg,
                                       .set_reg = set_reg,
                                       .get_segment = get_segment,
                                       .set_segment = set_segment,
                                       .cpl = cpl};
const struct hvm_ops *hvm_ops = &cpu_ops;

void hvm_vcpu_reset(struct vcpu *v)
{
    memset(&v->stack->regs, 0, sizeof(v->stack->regs));
}
unsigned hvm_phys_bits(const struct domain *dom)
{
    return 40;
}
void fpu_get_legacy(const void *area, void *fxsave)
{
    memset(fxsave, 0, 512);
}
void fpu_set_legacy(void *area, const void *fxsave)
{
}
bool fpu_state_is_valid(const void *area, size_t n, uint64_t components)
{
    uint64_t bv;
    memcpy(&bv, (const uint8_t *)area + 512, sizeof(bv));
    return !(bv & ~components);
}
uint64_t time_tsc_khz(void)
{
    return 3000000;
}
void sched_unblock(struct sched_entity *e, uint32_t bit)
{
}

/* --- */

/* The CPU's records tell the real TSC, which goes on. */
static uint32_t get(uint8_t *to)
{
    uint32_t most = hvm_context_size(d);
    CHECK(most <= MOST);
    memset(to, 0, MOST);
    uint32_t n = hvm_context_get(d, to);
    CHECK(n && n <= most);
    for (uint32_t at = 0; at < n;) {
        struct hvm_save_descriptor h;
        memcpy(&h, to + at, sizeof(h));
        at += sizeof(h);
        if (h.typecode == HVM_SAVE_CODE(CPU))
            memset(to + at + offsetof(struct hvm_hw_cpu, tsc), 0, 8);
        at += h.length;
    }
    return n;
}

/* Exactly @n bytes, so that a read beyond them is seen. */
static int set(const uint8_t *from, uint32_t n)
{
    uint8_t *exact = malloc(n + !n);
    memcpy(exact, from, n);
    int rc = hvm_context_set(d, exact, n);
    free(exact);
    return rc;
}

/* At or near the start of a record, so that its descriptor and first fields change often. */
static uint32_t somewhere(uint32_t n)
{
    uint32_t at = 0;
    for (unsigned skip = take8() % 24; skip && at < n; skip--) {
        struct hvm_save_descriptor h;
        memcpy(&h, stream + at, sizeof(h));
        at += sizeof(h) + h.length;
    }
    at += take8();
    return at < n ? at : n - 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stack_top stacks[VCPUS];
    static uint8_t fpu[VCPUS][1024];
    input = data;
    input_left = size;
    make();
    memset(reg, 0, sizeof(reg));
    memset(segment, 0, sizeof(segment));
    memset(stacks, 0, sizeof(stacks));
    memset(fpu, 0, sizeof(fpu));
    for (unsigned i = 0; i < VCPUS; i++) {
        d->vcpu[i]->stack = &stacks[i];
        d->vcpu[i]->fpu = fpu[i];
        d->vcpu[i]->xcr0 = 1;
        reg[i][HVM_PAT] = PAT_RESET;
        d->vcpu[i]->initialised = i == 0;
    }
    cpu0.current = d->vcpu[0];
    for (unsigned round = 0; round < 8 && input_left; round++) {
        uint8_t how = take8();
        uint32_t n = get(before), end = n;
        memcpy(stream, before, n);
        if (how & 1) { /* bytes of its own choice */
            end = n = take8() | (take8() & 7) << 8;
            take(stream, n);
        }
        for (unsigned changes = how >> 1 & 7; n && changes; changes--)
            stream[somewhere(n)] ^= 1u << (take8() & 7);
        if (how & 0x80)
            end = n ? (take8() | take8() << 8) % n : 0;
        int rc = set(stream, end);
        n = get(after);
        if (rc)
            CHECK(!memcmp(before, after, MOST));
        CHECK(!set(after, n));
        CHECK(cpu0.locks_held == 0);
    }
    unmake();
    return 0;
}
