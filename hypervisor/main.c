/*
 * Start of day: one line per room, in an order in which each finds what it needs. Interrupts are
 * off until sched_start(). Nothing here can be given up: what fails panics in its own room.
 */
#include "acpi/acpi.h"
#include "boot/bootinfo.h"
#include "console/console.h"
#include "control/cpuid_policy.h"
#include "cpu/cpu.h"
#include "dom0/dom0.h"
#include "domain/domain.h"
#include "grant/grant.h"
#include "hvm/hvm.h"
#include "irq/irq.h"
#include "mm/mm.h"
#include "pv/pv.h"
#include "sched/sched.h"
#include "time/time.h"
#include "trace/trace.h"

int __noinline main(void); /* its caller is start-up code and given back below */

int main(void)
{
    /* Something to say it with. Complaints about options wait in the log ring meanwhile. */
    cmdline_parse(bootinfo.cmdline);
    console_init_early();
    log_info("Trilby");
    bootinfo_report();

    cpu_init_boot(); /* exceptions are reported from here on */
    bootinfo_limit_ram(boot_options.mem);
    mm_init(); /* allocator, our own page tables */
    console_init_screen();
    cpu_init_late(); /* stacks with guard pages: needs memory */

    acpi_init(bootinfo.rsdp); /* which hardware there is: before all that drives it */
    irq_init();               /* vectors, IO-APICs: before anybody binds a line */
    lapic_init();
    time_init(); /* platform clock, TSC frequency */
    time_init_cpu();
    lapic_timer_calibrate(); /* against that clock: before anybody sets a timer */

    sched_init();
    sched_init_cpu(this_cpu());
    domain_init(); /* idle vCPUs and the domains that are none */
    grant_init();
    pv_init();
    pv_init_cpu();
    hvm_init();       /* keeps what pv_init_cpu() has set up: after it */
    smp_start_cpus(); /* each runs the per-CPU lines above */

    console_init(); /* input by interrupt, ring of its final size */
    trace_init();
    cpuid_policy_init();
    dom0_build();             /* the modules are consumed */
    console_screen_release(); /* domain 0 drives the screen now */
    mm_init_late();           /* what is read-only from now on becomes so */
    bootinfo_release();       /* start-up code and modules: nobody may need them */
    mm_drop_init();           /* nor execute what was start-up code */
    sched_start();
}
