/* SOURCES: boot/cmdline.c lib/string.c lib/printf.c */
/* The hypervisor's command line: any text is parsed, and each number stays within its option's
 * bounds. */
#include "fuzz.h"

#include "boot/bootinfo.h"
#include "console/console.h"

void log_print(enum log_level level, const char *fmt, ...)
{
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
}

const char *symbol_find(uint64_t addr, uint64_t *offset);
const char *symbol_find(uint64_t addr, uint64_t *offset)
{
    return "?";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool known;
    static struct boot_options initial;
    if (!known)
        initial = boot_options;
    known = true;
    char *line = malloc(size + 1);
    memcpy(line, data, size);
    line[size] = '\0';
    boot_options = initial;
    cmdline_parse(line);
    free(line);
    return 0;
}
