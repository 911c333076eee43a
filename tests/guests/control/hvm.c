/*
 * A hardware-virtualized domain as tools make it: created, given memory at frame numbers of its
 * own, code put there by foreign mappings that name such numbers, registers by a stream, run,
 * looked at, destroyed. Its few instructions ask CPUID and halt for good, which powers it off.
 */
#include "control.h"
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>

static struct {
    struct hvm_save_descriptor head;
    struct hvm_save_header header;
    struct hvm_save_descriptor cpu;
    struct hvm_hw_cpu body;
    struct hvm_save_descriptor end;
} stream;
_Static_assert(sizeof(stream) == 3 * 8 + sizeof(struct hvm_save_header) + sizeof(struct hvm_hw_cpu),
               "no holes");
static uint8_t buffer[32768];

/* mov $0x40000000, %eax; cpuid; mov %ebx, HVM_RESULT_AT; incl HVM_RESULT_AT + 4; cli; hlt */
static const uint8_t code[] = {0xb8, 0x00, 0x00, 0x00, 0x40, 0x0f, 0xa2, 0x89, 0x1d, 0x00, 0x20,
                               0x00, 0x00, 0xff, 0x05, 0x04, 0x20, 0x00, 0x00, 0xfa, 0xf4};

static struct xen_domctl_createdomain hvm_config(uint32_t emulation)
{
    struct xen_domctl_createdomain c = plain_config();

    c.max_vcpus = 1;
    c.flags |= XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    c.arch.emulation_flags = emulation;
    return c;
}

void *map_gfn(uint16_t d, uint64_t gfn)
{
    static uint8_t window[2][PAGE_SIZE] __attribute__((aligned(4096)));
    void *at = window[gfn & 1];

    if (HC(update_va_mapping_otherdomain, at, MAKE_PTE(gfn, PTE_KERN), UVMF_INVLPG | UVMF_ALL, d))
        return NULL;
    return at;
}

void unmap_gfn(void *at)
{
    map_rw(at);
}

static void flat(void)
{
    struct hvm_hw_cpu *c = &stream.body;

    memset(&stream, 0, sizeof(stream));
    stream.head = (struct hvm_save_descriptor){HVM_SAVE_CODE(HEADER), 0, sizeof(stream.header)};
    stream.header.magic = HVM_FILE_MAGIC;
    stream.header.version = HVM_FILE_VERSION;
    stream.cpu = (struct hvm_save_descriptor){HVM_SAVE_CODE(CPU), 0, sizeof(stream.body)};
    stream.end = (struct hvm_save_descriptor){HVM_SAVE_CODE(END), 0, 0};
    c->cs_limit = c->ds_limit = c->es_limit = c->ss_limit = 0xffffffff;
    c->tr_limit = 0x67;
    c->cs_arbytes = 0xc9b;
    c->ds_arbytes = c->es_arbytes = c->ss_arbytes = 0xc93;
    c->tr_arbytes = 0x8b;
    c->cr0 = 0x11;
    c->dr6 = 0xffff0ff0;
    c->dr7 = 0x400;
    c->rip = HVM_CODE_AT;
}

static long set_stream(uint16_t d, uint32_t size)
{
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.hvmcontext.size = size;
    dc.u.hvmcontext.buffer.p = (uint8_t *)&stream;
    return domctl(XEN_DOMCTL_sethvmcontext, d);
}

long flat_registers(uint16_t d, uint64_t rip)
{
    flat();
    stream.body.rip = rip;
    return set_stream(d, sizeof(stream));
}

struct hvm_hw_cpu *flat_record(void)
{
    flat();
    return &stream.body;
}

long flat_stream(uint16_t d)
{
    return set_stream(d, sizeof(stream));
}

long flat_get(uint16_t d)
{
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.hvmcontext.buffer.p = buffer;
    dc.u.hvmcontext.size = sizeof(buffer);
    return domctl(XEN_DOMCTL_gethvmcontext, d);
}

static void streams(uint16_t d)
{
    flat();
    stream.header.magic++;
    CHECK_EQ(set_stream(d, sizeof(stream)), -XEN_EINVAL);
    flat();
    stream.cpu.instance = 9;
    CHECK_EQ(set_stream(d, sizeof(stream)), -XEN_EINVAL);
    flat();
    stream.cpu.length = 8;
    CHECK_EQ(set_stream(d, sizeof(stream)), -XEN_EINVAL);
    flat();
    stream.body.msr_efer = 1 << 12; /* SVME */
    CHECK_EQ(set_stream(d, sizeof(stream)), -XEN_EINVAL);
    flat();
    CHECK_EQ(set_stream(d, sizeof(stream) - 4), -XEN_ENODATA);
    CHECK_EQ(set_stream(d, 4), -XEN_ENODATA);
    CHECK_EQ(set_stream(d, 1 << 30), -XEN_EINVAL);
    stream.cpu.typecode = 99;
    CHECK_EQ(set_stream(d, sizeof(stream)), -XEN_EOPNOTSUPP);
    flat();
    CHECK_EQ(set_stream(d, sizeof(stream)), 0);
    CHECK_EQ(set_stream(DOMID_SELF, sizeof(stream)), -XEN_EINVAL);

    memset(&dc.u, 0, sizeof(dc.u));
    CHECK_EQ(domctl(XEN_DOMCTL_gethvmcontext, d), 0);
    CHECK(dc.u.hvmcontext.size >= sizeof(stream));
    dc.u.hvmcontext.buffer.p = buffer;
    dc.u.hvmcontext.size = sizeof(buffer);
    CHECK_EQ(domctl(XEN_DOMCTL_gethvmcontext, d), 0);
    struct hvm_hw_cpu *c = NULL;
    unsigned mtrrs = 0;
    for (uint8_t *at = buffer;;) {
        struct hvm_save_descriptor *h = (void *)at;

        if (h->typecode == HVM_SAVE_CODE(END) || at >= buffer + dc.u.hvmcontext.size)
            break;
        mtrrs += h->typecode == HVM_SAVE_CODE(MTRR);
        if (h->typecode == HVM_SAVE_CODE(CPU))
            c = (void *)(h + 1);
        at += sizeof(*h) + h->length;
    }
    CHECK_EQ(mtrrs, 1);
    CHECK(c);
    if (!c)
        return;
    CHECK_EQ(c->rip, HVM_CODE_AT);
    CHECK_EQ(c->cs_arbytes, 0xc9b);
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.hvmcontext_partial.type = HVM_SAVE_CODE(CPU);
    dc.u.hvmcontext_partial.bufsz = sizeof(buffer);
    dc.u.hvmcontext_partial.buffer.p = buffer;
    CHECK_EQ(domctl(XEN_DOMCTL_gethvmcontext_partial, d), 0);
    CHECK_EQ(((struct hvm_hw_cpu *)buffer)->rip, HVM_CODE_AT);
}

static void parameters(uint16_t d)
{
    struct xen_hvm_param p = {.domid = d, .index = HVM_PARAM_STORE_PFN, .value = 77};

    CHECK_EQ(HC(hvm_op, HVMOP_set_param, &p), 0);
    p.value = 0;
    CHECK_EQ(HC(hvm_op, HVMOP_get_param, &p), 0);
    CHECK_EQ(p.value, 77);
    p.index = 999;
    CHECK_EQ(HC(hvm_op, HVMOP_set_param, &p), -XEN_EINVAL);
    p.domid = DOMID_SELF;
    p.index = HVM_PARAM_STORE_PFN;
    CHECK_EQ(HC(hvm_op, HVMOP_set_param, &p), -XEN_EINVAL); /* we are none */
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.paging_mempool.size = 4 << 20;
    CHECK_EQ(domctl(XEN_DOMCTL_set_paging_mempool_size, d), 0);
    dc.u.paging_mempool.size = 0;
    CHECK_EQ(domctl(XEN_DOMCTL_get_paging_mempool_size, d), 0);
    CHECK_EQ(dc.u.paging_mempool.size, 4 << 20);
}

static void run(uint16_t d)
{
    struct xen_domctl_getdomaininfo info = {0};
    uint8_t *at = map_gfn(d, HVM_CODE_AT >> PAGE_SHIFT);

    CHECK(at);
    if (!at)
        return;
    memcpy(at, code, sizeof(code));
    unmap_gfn(at);
    CHECK(!map_gfn(d, HVM_FRAMES + 1)); /* nothing is there */
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK_EQ(wait_shutdown(d), SHUTDOWN_poweroff);
    CHECK(domain_info(d, &info));
    CHECK(info.flags & XEN_DOMINF_hvm_guest);
    volatile uint32_t *result = map_gfn(d, HVM_RESULT_AT >> PAGE_SHIFT);
    CHECK_EQ(result[0], 0x566e6558);
    CHECK_EQ(result[1], 1);
    unmap_gfn((void *)result);
}

/*
 * What a guest's firmware tells about itself, and what it may not: 32-bit code sets each of the
 * parameters at HVM_RESULT_AT by the hypercall page, which it has put at 0x3000, writes the result
 * into the value's place, and halts for good.
 */
asm(".pushsection .rodata; .code32; firmware:\n"
    "mov $0x5000, %esp\n"
    "mov $0x40000000, %ecx; mov $0x3000, %eax; xor %edx, %edx; wrmsr\n"
    "mov $0x2000, %esi\n"
    "1: xor %ebx, %ebx; mov %esi, %ecx; mov $(0x3000 + 32 * 34), %eax; call *%eax\n"
    "mov %eax, 8(%esi); add $16, %esi; cmpl $0, 4(%esi); jne 1b\n"
    "cli; hlt\n"
    "firmware_end: .code64; .popsection");
_Static_assert(HVM_RESULT_AT == 0x2000 && __HYPERVISOR_hvm_op == 34 && HVMOP_set_param == 0,
               "as in the code");
extern const uint8_t firmware[], firmware_end[];

static void firmware_parameters(uint16_t d)
{
    static const struct {
        uint32_t index;
        uint64_t value;
        long rc;
    } cases[] = {
        {HVM_PARAM_ACPI_IOPORTS_LOCATION, 1, 0},
        {HVM_PARAM_ACPI_IOPORTS_LOCATION, 2, -XEN_EINVAL},
        {HVM_PARAM_VM_GENERATION_ID_ADDR, 0xfc000000, 0},
        {HVM_PARAM_VM86_TSS_SIZED, 1, 0},
        {HVM_PARAM_STORE_PFN, 1, -XEN_EPERM},
        {HVM_PARAM_TIMER_MODE, 1, -XEN_EPERM},
        {HVM_PARAM_IOREQ_SERVER_PFN, 1, -XEN_EPERM},
        {999, 1, -XEN_EINVAL},
    };
    struct xen_hvm_param *params = map_gfn(d, HVM_RESULT_AT >> PAGE_SHIFT);
    void *program = map_gfn(d, HVM_CODE_AT >> PAGE_SHIFT);

    CHECK(params && program);
    if (!params || !program)
        return;
    memcpy(program, firmware, firmware_end - firmware);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        params[i] = (struct xen_hvm_param){
            .domid = DOMID_SELF, .index = cases[i].index, .value = cases[i].value};
    CHECK_EQ(flat_registers(d, HVM_CODE_AT), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK_EQ(wait_shutdown(d), SHUTDOWN_poweroff);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        CHECK_EQ((int32_t)params[i].value, cases[i].rc);
    unmap_gfn(program);
    unmap_gfn(params);
}

/* One that spins with its interrupts off (cli; 1: incl HVM_RESULT_AT; jmp 1b) is stopped by others'
 * interrupts all the same: preempted, paused, killed. */
static void deaf(uint16_t d)
{
    static const uint8_t spin[] = {0xfa, 0xff, 0x05, 0x00, 0x20, 0x00, 0x00, 0xeb, 0xf8};
    volatile uint32_t *count = map_gfn(d, HVM_RESULT_AT >> PAGE_SHIFT);
    void *program = map_gfn(d, HVM_CODE_AT >> PAGE_SHIFT);
    uint32_t seen;

    CHECK(count && program);
    if (!count || !program)
        return;
    memcpy(program, spin, sizeof(spin));
    CHECK_EQ(flat_registers(d, HVM_CODE_AT), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK(wait_change(count, 0));
    CHECK_EQ(domctl(XEN_DOMCTL_pausedomain, d), 0);
    seen = *count;
    nap(50000000);
    CHECK_EQ(*count, seen);
    CHECK_EQ(domctl(XEN_DOMCTL_unpausedomain, d), 0);
    CHECK(wait_change(count, seen));
    unmap_gfn(program);
    unmap_gfn((void *)count);
}

uint16_t hvm_build(uint32_t emulation)
{
    xen_pfn_t at = 0;
    uint16_t d = 0;

    CHECK_EQ(create_with(hvm_config(emulation), 0, &d), 0);
    memset(&dc.u, 0, sizeof(dc.u));
    dc.u.max_mem.max_memkb = HVM_FRAMES * 4;
    CHECK_EQ(domctl(XEN_DOMCTL_max_mem, d), 0);
    dc.u.max_vcpus.max = 1;
    CHECK_EQ(domctl(XEN_DOMCTL_max_vcpus, d), 0);
    CHECK_EQ(populate(d, &at, 1, 9), 1); /* one large leaf */
    CHECK_EQ(at, 0);                     /* its own number stays */
    return d;
}

void hardware(void)
{
    /* All but the local APIC. */
    struct xen_domctl_createdomain c = hvm_config(0x7fe);
    uint64_t before = free_pages();
    uint16_t d;

    section("a hardware-virtualized domain");
    CHECK_EQ(create_with(c, 0, &d), -XEN_EOPNOTSUPP);
    c = hvm_config(XEN_X86_EMU_LAPIC);
    c.flags &= ~(uint32_t)XEN_DOMCTL_CDF_hvm;
    CHECK_REFUSED(create_with(c, 0, &d));
    d = hvm_build(XEN_X86_EMU_LAPIC);
    parameters(d);
    streams(d);
    run(d);
    CHECK_EQ(destroy(d), 0);
    d = hvm_build(XEN_X86_EMU_LAPIC);
    firmware_parameters(d);
    CHECK_EQ(destroy(d), 0);
    /* Bochs 2.7 masks interrupts in a guest entered with RFLAGS.IF clear until that changes. */
    if (!has_argument("machine=bochs")) {
        d = hvm_build(XEN_X86_EMU_LAPIC);
        deaf(d);
        CHECK_EQ(destroy(d), 0);
    }
    check_free(before, __FILE__, __LINE__);
}
