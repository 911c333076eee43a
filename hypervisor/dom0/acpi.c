/*
 * What a PVH domain 0 finds instead of the firmware's root pointer (ACPI 6.5 chapter 5): a list of
 * the firmware's own tables, with four changes.
 *
 *   MADT        its vCPUs, one IO-APIC with all lines, the machine's overrides of ISA lines
 *   FADT        a copy that forbids MSIs, which would name vectors and CPUs of the machine
 *   HPET        left out: our clock
 *   DMAR, IVRS  left out: nobody translates for it
 */
#include "acpi/acpi.h"
#include "dom0/internal.h"
#include "hvm/dev/lapic.h"
#include "lib/string.h"

#define HEADER_SIZE 36
#define RSDP_SIZE   36
#define FADT_SIZE_3 244 /* revision 3 */
#define FADT_BOOT   109 /* IAPC_BOOT_ARCH */
#define BOOT_NO_MSI (1u << 3)
#define IOAPIC_BASE 0xfec00000u

struct builder {
    uint8_t *buf;
    size_t size, used;
    uint64_t at;
};

struct __packed header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision;
    char creator[4];
    uint32_t creator_revision;
};
_Static_assert(sizeof(struct header) == HEADER_SIZE, "ACPI 6.5 section 5.2.6");

static void *take(struct builder *b, size_t n)
{
    if (b->size - b->used < n)
        return NULL;
    void *p = b->buf + b->used;
    b->used += n;
    return memset(p, 0, n);
}

static void begin(struct header *h, const char *signature, uint8_t revision)
{
    memcpy(h->signature, signature, 4);
    h->revision = revision;
    memcpy(h->oem, "Trilby", 6);
    memcpy(h->oem_table, "DOM0    ", 8);
    memcpy(h->creator, "TRLB", 4);
}

/* What was taken since @h is its table. Its address for the guest. */
static uint64_t finish(struct builder *b, struct header *h)
{
    h->length = (uint32_t)(b->buf + b->used - (uint8_t *)h);
    h->checksum = 0;
    h->checksum = (uint8_t)-acpi_sum(h, h->length);
    uint64_t at = b->at + (uint64_t)((uint8_t *)h - b->buf);
    b->used = min(ROUND_UP(b->used, 16UL), b->size);
    return at;
}

/* --- MADT (ACPI 6.5 section 5.2.12) --- */

struct __packed madt {
    struct header h;
    uint32_t lapic;
    uint32_t flags; /* bit 0 would say that there are 8259s too */
};

struct __packed madt_x2apic { /* 5.2.12.12 */
    uint8_t type, length;
    uint16_t reserved;
    uint32_t apic_id, flags, acpi_id;
};

struct __packed madt_lapic { /* 5.2.12.2 */
    uint8_t type, length, acpi_id, apic_id;
    uint32_t flags;
};

struct __packed madt_ioapic { /* 5.2.12.3 */
    uint8_t type, length, id, reserved;
    uint32_t address, gsi_base;
};

struct __packed madt_override { /* 5.2.12.5 */
    uint8_t type, length, bus, source;
    uint32_t gsi;
    uint16_t flags; /* polarity, trigger: 1 high or edge, 3 low or level */
};

/* Numbers as hvm/apic.c gives them. */
static bool add_cpu(struct builder *b, unsigned n)
{
    if (2 * n < 255) {
        struct madt_lapic *l = take(b, sizeof(*l));
        if (l)
            *l = (struct madt_lapic){0, sizeof(*l), n, 2 * n, 1};
        return l;
    }
    struct madt_x2apic *x = take(b, sizeof(*x));
    if (x)
        *x = (struct madt_x2apic){9, sizeof(*x), 0, 2 * n, 1, n};
    return x;
}

static bool add_override(struct builder *b, unsigned line)
{
    const struct acpi_override *o = &acpi_info.isa[line];
    if (o->gsi == line && !o->active_low && !o->level)
        return true;
    struct madt_override *m = take(b, sizeof(*m));
    uint16_t flags = (o->active_low ? 3 : 1) | (o->level ? 3 : 1) << 2;
    if (m)
        *m = (struct madt_override){2, sizeof(*m), 0, line, o->gsi, flags};
    return m;
}

static uint64_t build_madt(struct builder *b, unsigned vcpus)
{
    struct madt *m = take(b, sizeof(*m));
    if (!m)
        return 0;
    begin(&m->h, "APIC", 4);
    m->lapic = LAPIC_PAGE;
    for (unsigned i = 0; i < vcpus; i++)
        if (!add_cpu(b, i))
            return 0;
    struct madt_ioapic *io = take(b, sizeof(*io));
    if (!io)
        return 0;
    *io = (struct madt_ioapic){1, sizeof(*io), 1, 0, IOAPIC_BASE, 0};
    for (unsigned i = 0; i < ARRAY_SIZE(acpi_info.isa); i++)
        if (!add_override(b, i))
            return 0;
    return finish(b, &m->h);
}

/* --- FADT (ACPI 6.5 section 5.2.9) --- */

/* Older ones grow to revision 3, the first that has the word; the new fields are zero. */
static uint64_t build_fadt(struct builder *b)
{
    size_t size;
    const void *firmware = acpi_find_table("FACP", &size);
    uint8_t *f = firmware ? take(b, max(size, (size_t)FADT_SIZE_3)) : NULL;
    if (!f)
        return 0;
    memcpy(f, firmware, size);
    struct header *h = (void *)f;
    h->revision = max(h->revision, (uint8_t)3);
    f[FADT_BOOT] |= BOOT_NO_MSI;
    return finish(b, h);
}

/* --- the list, and what points to it (5.2.5, 5.2.8) --- */

struct __packed rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t checksum_all, reserved[3];
};
_Static_assert(sizeof(struct rsdp) == RSDP_SIZE, "ACPI 6.5 section 5.2.5.3");

static bool is_ours(const char signature[4])
{
    static const char names[][5] = {"APIC", "FACP", "HPET", "DMAR", "IVRS"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (!memcmp(signature, names[i], 4))
            return true;
    return false;
}

static bool add_entry(struct builder *b, uint64_t address)
{
    void *e = address ? take(b, sizeof(address)) : NULL;
    if (e)
        memcpy(e, &address, sizeof(address));
    return e;
}

size_t dom0_acpi_build(void *buf, size_t size, uint64_t at, unsigned vcpus)
{
    struct builder b = {buf, size, 0, at};
    struct rsdp *r = take(&b, ROUND_UP(sizeof(*r), 16UL));
    uint64_t madt = r ? build_madt(&b, vcpus) : 0;
    uint64_t fadt = madt ? build_fadt(&b) : 0;
    struct header *xsdt = fadt ? take(&b, sizeof(*xsdt)) : NULL;
    if (!xsdt)
        return 0;
    begin(xsdt, "XSDT", 1);
    bool ok = add_entry(&b, fadt) && add_entry(&b, madt);
    char signature[4];
    maddr_t table;
    for (unsigned i = 0; acpi_table_at(i, signature, &table); i++)
        if (!is_ours(signature))
            ok &= add_entry(&b, table.a);
    if (!ok)
        return 0;
    memcpy(r->signature, "RSD PTR ", 8);
    memcpy(r->oem, "Trilby", 6);
    r->revision = 2;
    r->length = sizeof(*r);
    r->xsdt = finish(&b, xsdt);
    r->checksum = (uint8_t)-acpi_sum(r, 20);
    r->checksum_all = (uint8_t)-acpi_sum(r, sizeof(*r));
    return b.used;
}
