/*
 * TCG plugin: counts executed instructions of the emulated machine, by where they stand and what
 * they are, and writes all counters whenever a marker is executed.
 *
 * Where: the part of the address space that the PV ABI reserves for the hypervisor (xen/arch-x86/
 * xen-x86_64.h, HYPERVISOR_VIRT_START to _END) against all the rest. A hypervisor that was just
 * started and runs at low addresses counts as "rest"; nothing is measured there.
 *
 * A marker is the NOP 0f 1f 80 imm32 with MARKER_MAGIC in the upper half of the immediate: legal in
 * every ring, no trap anywhere. Its lower half names it.
 *
 * Only for `-accel tcg,thread=single`: the inline additions are not atomic. Debian ships QEMU with
 * plugins but without qemu-plugin.h, so the few functions used are declared here (QEMU 7.2
 * documentation, "QEMU TCG Plugins").
 *
 * watch=ADDRESS, up to four times: whenever the instruction there is executed, the counters are
 * written as well, with the address in place of the marker's name.
 *
 * Arguments: out=FILE.  Lines: marker, then per region: instructions, then each kind.
 * profile=FILE, too: after each marker, how often each instruction of the hypervisor was executed
 * since the marker before; lines: number of the marker in order, address, count.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
typedef void (*tb_translated_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*insn_executed_t)(unsigned int vcpu, void *userdata);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translated_t cb);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *ptr,
                                                uint64_t imm);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, insn_executed_t cb,
                                            int flags, void *userdata);
#define QEMU_PLUGIN_INLINE_ADD_U64 0
#define QEMU_PLUGIN_CB_NO_REGS     0

#define MARKER_MAGIC               0x5442u
#define HYPERVISOR_START           0xffff800000000000u
#define HYPERVISOR_END             0xffff880000000000u

enum kind { ALL, SYSCALL, SYSRET, IRETQ, CR3, INVLPG, WRMSR, VMRUN, LOCK, KINDS };
enum region { HYPERVISOR, REST, REGIONS };

static uint64_t counters[REGIONS][KINDS];
static FILE *out, *profile;
static uint64_t watched[4];
static unsigned watches;

/* One counter per instruction of the hypervisor, found by its address (open addressing). */
#define PLACES (1u << 18)
static struct place {
    uint64_t at, count;
} places[PLACES];

static uint64_t *place_counter(uint64_t at)
{
    uint32_t i = (uint32_t)(at * 0x9e3779b97f4a7c15u >> 46);
    for (unsigned tries = 0; tries < PLACES; tries++, i = (i + 1) % PLACES) {
        if (places[i].at == at)
            return &places[i].count;
        if (!places[i].at) {
            places[i].at = at;
            return &places[i].count;
        }
    }
    fprintf(stderr, "counter: more than %u instructions to profile\n", PLACES);
    abort();
}

static void write_profile(void)
{
    static unsigned marker;
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i].count)
            fprintf(profile, "%u %" PRIx64 " %" PRIu64 "\n", marker, places[i].at, places[i].count);
        places[i].count = 0;
    }
    marker++;
    fflush(profile);
}

/* What kind an instruction is, ALL for the usual ones (APM vol. 3, appendix A). */
static enum kind classify(const uint8_t *b, size_t n)
{
    bool lock = false;
    while (n && (*b == 0xf0 || *b == 0xf2 || *b == 0xf3 || *b == 0x66 || *b == 0x2e || *b == 0x3e ||
                 (*b >= 0x64 && *b <= 0x65))) {
        lock |= *b == 0xf0;
        b++, n--;
    }
    if (lock)
        return LOCK;
    if (n && (*b & 0xf0) == 0x40)
        b++, n--;
    if (n && *b == 0xcf)
        return IRETQ;
    /* XCHG with memory locks without a prefix. */
    if (n > 1 && (*b == 0x86 || *b == 0x87) && b[1] < 0xc0)
        return LOCK;
    if (n < 2 || *b != 0x0f)
        return ALL;
    switch (b[1]) {
    case 0x05:
        return SYSCALL;
    case 0x07:
        return SYSRET;
    case 0x30:
        return WRMSR;
    case 0x22:
        return n > 2 && (b[2] >> 3 & 7) == 3 ? CR3 : ALL;
    case 0x01:
        if (n > 2 && b[2] == 0xd8)
            return VMRUN;
        return n > 2 && b[2] < 0xc0 && (b[2] >> 3 & 7) == 7 ? INVLPG : ALL;
    }
    return ALL;
}

static bool is_marker(const uint8_t *b, size_t n, uint32_t *id)
{
    uint32_t imm;
    if (n != 7 || b[0] != 0x0f || b[1] != 0x1f || b[2] != 0x80)
        return false;
    memcpy(&imm, b + 3, sizeof(imm));
    *id = imm & 0xffff;
    return imm >> 16 == MARKER_MAGIC;
}

static void write_counters(uint64_t name)
{
    fprintf(out, "%" PRIu64, name);
    for (int r = 0; r < REGIONS; r++)
        for (int k = 0; k < KINDS; k++)
            fprintf(out, " %" PRIu64, counters[r][k]);
    fputc('\n', out);
    fflush(out);
}

static void marked(unsigned int vcpu, void *id)
{
    (void)vcpu;
    write_counters((uintptr_t)id);
    if (profile)
        write_profile();
}

static void reached(unsigned int vcpu, void *at)
{
    (void)vcpu;
    write_counters((uintptr_t)at);
}

static void translated(qemu_plugin_id_t plugin, struct qemu_plugin_tb *tb)
{
    (void)plugin;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint8_t *bytes = qemu_plugin_insn_data(insn);
        size_t n = qemu_plugin_insn_size(insn);
        uint64_t at = qemu_plugin_insn_vaddr(insn);
        uint64_t *row = counters[at >= HYPERVISOR_START && at < HYPERVISOR_END ? HYPERVISOR : REST];
        enum kind kind = classify(bytes, n);
        uint32_t id;

        qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &row[ALL], 1);
        if (kind != ALL)
            qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &row[kind],
                                                       1);
        if (profile && row == counters[HYPERVISOR])
            qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
                                                       place_counter(at), 1);
        for (unsigned w = 0; w < watches; w++)
            if (watched[w] == at)
                qemu_plugin_register_vcpu_insn_exec_cb(insn, reached, QEMU_PLUGIN_CB_NO_REGS,
                                                       (void *)(uintptr_t)at);
        if (is_marker(bytes, n, &id))
            qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, QEMU_PLUGIN_CB_NO_REGS,
                                                   (void *)(uintptr_t)id);
    }
}

EXPORT int qemu_plugin_version = 1;

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                               char **argv)
{
    (void)info;
    bool profiled = false;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        if (!strncmp(argv[i], "watch=", 6) && watches < sizeof(watched) / sizeof(watched[0]))
            watched[watches++] = strtoull(argv[i] + 6, NULL, 0);
        profiled |= !strncmp(argv[i], "profile=", 8);
        if (!strncmp(argv[i], "profile=", 8))
            profile = fopen(argv[i] + 8, "w");
    }
    if (!out || (profiled && !profile)) {
        fprintf(stderr, "counter: out=FILE is missing, or a file cannot be written\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
