/*
 * Debug keys: one character, one question. Rooms register theirs while booting; here are the ones
 * that belong to no room. Handlers run in interrupt context or in a hypercall, without locks.
 */
#include "console/internal.h"
#include "cpu/cpu.h"

static struct {
    const char *help;
    key_handler fn;
} keys[128]; /* written while booting only */

void key_register(char key, const char *help, key_handler fn)
{
    unsigned i = (unsigned char)key;
    ASSERT(i < ARRAY_SIZE(keys) && !keys[i].fn);
    keys[i].help = help;
    keys[i].fn = fn;
}

void key_press(char key)
{
    unsigned i = (unsigned char)key;
    if (i < ARRAY_SIZE(keys) && keys[i].fn) {
        log_always("key '%c': %s", key, keys[i].help);
        keys[i].fn(key);
    } else if (key > ' ' && key <= '~') {
        log_always("no such key '%c'; 'h' lists them", key);
    }
}

static void show_help(char key __unused)
{
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].fn)
            log_always("  %c  %s", (char)i, keys[i].help);
}

static void show_this_cpu(void *unused __unused)
{
    const struct stack_top *top = stack_top();
    log_always("CPU %u, what it left last:", this_cpu()->id);
    regs_dump(&top->regs);
}

static void show_registers(char key __unused)
{
    unsigned i;
    for_each_cpu(i, &cpus_online) {
        struct cpu_mask one = {{0}};
        bit_set(one.bits, i);
        if (i == this_cpu()->id)
            show_this_cpu(NULL);
        else
            ipi_call(&one, show_this_cpu, NULL, true);
    }
}

static void reboot(char key __unused)
{
    machine_reboot();
}

__init void keys_init(void)
{
    key_register('h', "this list", show_help);
    key_register('d', "registers of each CPU", show_registers);
    key_register('R', "reboot the machine at once", reboot);
}
