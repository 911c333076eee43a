/*
 * The command line. Every option is a row of the table below: its name (Xen's where Xen has it),
 * what kind of value it takes, where that goes, and one line of help (docs/ is made from it). A
 * word of the command line is "name", "no-name" or "name=value"; one that names no row, or whose
 * value does not fit its kind, is reported and has no effect at all.
 *
 * Runs once, before anything else; pure but for `boot_options` and the log.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "lib/printf.h"
#include "lib/string.h"

struct boot_options boot_options = {
    .console = "com1,vga",
    .com1 = "115200,8n1",
    .com2 = "115200,8n1",
    .loglvl = LOG_INFO,
    .guest_loglvl = LOG_WARNING,
};

enum kind { BOOL, BOOL_NOT, UINT, SIZE, TEXT, LEVEL, VCPUS, DOM0_MEM };

struct option {
    const char *name;
    enum kind kind;
    void *where;
    uint64_t max; /* UINT: largest value; TEXT: size of the buffer */
    const char *help;
};

static const struct option options[] = {
#define O(name) &boot_options.name
    {"console", TEXT, O(console), sizeof(boot_options.console), "devices: com1 or com2, vga"},
    {"com1", TEXT, O(com1), sizeof(boot_options.com1), "baud,8n1[,port[,irq]]"},
    {"com2", TEXT, O(com2), sizeof(boot_options.com2), "baud,8n1[,port[,irq]]"},
    {"dom0", TEXT, O(dom0), sizeof(boot_options.dom0),
     "pv or pvh: what kind of guest it is; pvh,platform: with a PC's timers (tests)"},
    {"dom0_mem", DOM0_MEM, NULL, 0, "size | min:size,max:size: domain 0's memory"},
    {"dom0_max_vcpus", VCPUS, O(dom0_max_vcpus), 256, "number | min-max of domain 0's vCPUs"},
    {"dom0_vcpus_pin", BOOL, O(dom0_vcpus_pin), 0, "each of them stays on one CPU"},
    {"mem", SIZE, O(mem), 0, "RAM above this address is not used"},
    {"maxcpus", UINT, O(maxcpus), 256, "CPUs to start"},
    {"loglvl", LEVEL, O(loglvl), 0, "none, error, warning, info, debug, all"},
    {"guest_loglvl", LEVEL, O(guest_loglvl), 0, "the same, for what guests cause"},
    {"conring_size", SIZE, O(conring_size), 0, "size of the log ring"},
    {"noreboot", BOOL, O(noreboot), 0, "halt after a panic"},
    {"sync_console", BOOL, O(sync_console), 0, "output is complete when the call returns"},
    {"smep", BOOL_NOT, O(no_smep), 0, "use supervisor mode execution prevention"},
    {"smap", BOOL_NOT, O(no_smap), 0, "use supervisor mode access prevention"},
    {"x2apic", BOOL_NOT, O(no_x2apic), 0, "use x2APIC mode"},
    {"clocksource", TEXT, O(clocksource), sizeof(boot_options.clocksource),
     "hpet, acpi, pit or tsc"},
#undef O
};

static bool parse_bool(const char *value, bool *out)
{
    static const char *const yes[] = {"1", "on", "yes", "true", "enable"};
    static const char *const no[] = {"0", "off", "no", "false", "disable"};
    for (unsigned i = 0; i < ARRAY_SIZE(yes); i++) {
        bool is_yes = !strcmp(value, yes[i]);
        if (is_yes || !strcmp(value, no[i])) {
            *out = is_yes;
            return true;
        }
    }
    return false;
}

static bool parse_uint(const char *value, uint64_t most, unsigned *out)
{
    const char *end;
    uint64_t v = str_to_u64(value, &end);
    if (end == value || *end || v > most)
        return false;
    *out = (unsigned)v;
    return true;
}

/* As Xen reads sizes: K, M, G, T or B behind the number, K when there is nothing. */
static bool parse_size_at(const char *s, const char **end, uint64_t *out)
{
    unsigned shift = 10;
    uint64_t v = str_to_u64(s, end);
    if (*end == s)
        return false;
    switch (**end | 0x20) {
    case 'b':
        shift = 0;
        break;
    case 'k':
        shift = 10;
        break;
    case 'm':
        shift = 20;
        break;
    case 'g':
        shift = 30;
        break;
    case 't':
        shift = 40;
        break;
    default:
        --*end; /* no suffix: nothing to skip */
        break;
    }
    ++*end;
    if (v > ~0UL >> shift)
        return false;
    *out = v << shift;
    return true;
}

static bool parse_size(const char *value, uint64_t *out)
{
    const char *end;
    uint64_t v;
    if (!parse_size_at(value, &end, &v) || *end)
        return false;
    *out = v;
    return true;
}

/* "size", "min:size", "max:size", separated by commas. */
static bool parse_dom0_mem(const char *value)
{
    uint64_t size = 0, least = 0, most = 0;
    for (const char *s = value;; s++) {
        uint64_t *out = &size;
        if (!strncmp(s, "min:", 4)) {
            out = &least;
            s += 4;
        } else if (!strncmp(s, "max:", 4)) {
            out = &most;
            s += 4;
        }
        if (!parse_size_at(s, &s, out))
            return false;
        if (!*s)
            break;
        if (*s != ',')
            return false;
    }
    if ((most && size > most) || (most && least > most))
        return false;
    boot_options.dom0_mem = size;
    boot_options.dom0_mem_min = least;
    boot_options.dom0_mem_max = most;
    return true;
}

/* "n" or "min-max": domain 0 gets the larger one, limited by the CPUs there are. */
static bool parse_vcpus(const char *value, uint64_t most, unsigned *out)
{
    const char *end;
    uint64_t low = str_to_u64(value, &end);
    if (end == value || low > most)
        return false;
    if (*end == '-') {
        unsigned high;
        if (!parse_uint(end + 1, most, &high) || high < low)
            return false;
        low = high;
    } else if (*end) {
        return false;
    }
    *out = (unsigned)low;
    return true;
}

/* "level" or "shown always/shown at a limited rate": the limit is ours, so the second counts. */
static bool parse_level(const char *value, int *out)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"none", -1},       {"error", LOG_ERROR}, {"warning", LOG_WARNING},
                  {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {"all", LOG_DEBUG}};
    int found = -2;
    for (const char *s = value;;) {
        const char *slash = strchr(s, '/');
        size_t n = slash ? (size_t)(slash - s) : strlen(s);
        int level = -2;
        for (unsigned i = 0; i < ARRAY_SIZE(levels); i++)
            if (strlen(levels[i].name) == n && !strncmp(levels[i].name, s, n))
                level = levels[i].level;
        if (level == -2 || level < found)
            return false;
        found = level;
        if (!slash)
            break;
        if (s != value)
            return false;
        s = slash + 1;
    }
    *out = found;
    return true;
}

/* @value NULL: the bare word; @negated: its no- form. */
static bool apply(const struct option *o, const char *value, bool negated)
{
    if (o->kind == BOOL || o->kind == BOOL_NOT) {
        bool v = !negated;
        if (value && (negated || !parse_bool(value, &v)))
            return false;
        *(bool *)o->where = o->kind == BOOL ? v : !v;
        return true;
    }
    if (negated || !value)
        return false;
    switch (o->kind) {
    case UINT:
        return parse_uint(value, o->max, o->where);
    case SIZE:
        return parse_size(value, o->where);
    case VCPUS:
        return parse_vcpus(value, o->max, o->where);
    case LEVEL:
        return parse_level(value, o->where);
    case DOM0_MEM:
        return parse_dom0_mem(value);
    default:
        if (strlen(value) >= o->max)
            return false;
        str_copy(o->where, value, o->max);
        return true;
    }
}

static const struct option *find(const char *name, size_t n)
{
    for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
        if (strlen(options[i].name) == n && !strncmp(options[i].name, name, n))
            return &options[i];
    return NULL;
}

static void parse_word(const char *word)
{
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const struct option *o = find(word, n);
    bool negated = false;
    if (!o && n > 3 && !strncmp(word, "no-", 3)) {
        o = find(word + 3, n - 3);
        negated = true;
    }
    if (!o)
        log_warn("option \"%s\" is not known, ignored", word);
    else if (!apply(o, equals ? equals + 1 : NULL, negated))
        log_warn("option \"%s\" is malformed, ignored (%s: %s)", word, o->name, o->help);
}

void cmdline_parse(const char *cmdline)
{
    char word[256];
    while (*cmdline) {
        size_t n = 0, kept = 0;
        for (; cmdline[n] && cmdline[n] != ' ' && cmdline[n] != '\t'; n++)
            if (kept < sizeof(word) - 1)
                word[kept++] = cmdline[n];
        word[kept] = '\0';
        if (kept < n)
            log_warn("option \"%s...\" is too long, ignored", word);
        else if (n)
            parse_word(word);
        cmdline += n + (cmdline[n] != '\0');
    }
}
