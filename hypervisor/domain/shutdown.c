/*
 * How domains end: by their own wish, by what they did, by their watchdog; and coming back from
 * suspension.
 *
 * Shutting down stops every vCPU (one of d->pauses), waits until they are quiet, then sets
 * d->shut_down and tells the toolstack by VIRQ_DOM_EXC, which resumes or destroys the domain. What
 * kills a domain is often found deep inside locks or an interrupt: there d->kill_pending and a bit
 * of work for each vCPU are set, and the first that leaves the hypervisor does the rest.
 *
 * Domain 0's end is the machine's.
 */
#include "boot/bootinfo.h"
#include "console/console.h"
#include "domain/internal.h"
#include "event/event.h"
#include "lib/printf.h"

#define CRASH_PAUSE SECONDS(5) /* to read the screen before the machine starts again */

static void __noreturn machine_end(uint8_t code)
{
    console_force_sync();
    ipi_stop_others();
    switch (code) {
    case SHUTDOWN_poweroff:
        log_info("Domain 0 halted: so does the machine");
        machine_halt();
    case SHUTDOWN_crash:
        log_error("Domain 0 crashed: the machine cannot go on");
        if (boot_options.noreboot)
            machine_halt();
        time_busy_wait(CRASH_PAUSE);
        break;
    case SHUTDOWN_watchdog:
        log_error("Domain 0 did not feed its watchdog: the machine starts again");
        break;
    default:
        log_info("Domain 0 wants the machine to start again");
        break;
    }
    machine_reboot();
}

void domain_shutdown(struct domain *d, uint8_t code)
{
    if (d->privileged)
        machine_end(code);

    spin_lock(&d->lock);
    bool first = !d->shutting_down && !d->dying;
    if (first) {
        d->shutting_down = true;
        if (!d->shutdown_code_latched)
            d->shutdown_code = code;
        domain_pause_locked(d);
    }
    spin_unlock(&d->lock);
    if (!first)
        return;

    domain_wait_quiet(d);
    spin_lock(&d->lock);
    d->shut_down = true;
    spin_unlock(&d->lock);
    event_send_global_virq(VIRQ_DOM_EXC);
}

int domain_resume(struct domain *d)
{
    spin_lock(&d->lock);
    int rc = d->shut_down && !d->dying ? 0 : -XEN_EINVAL;
    if (!rc) {
        d->shut_down = d->shutting_down = false;
        d->shutdown_code = 0;
        d->shutdown_code_latched = false;
        WRITE_ONCE(d->kill_pending, false);
        domain_unpause_locked(d);
    }
    spin_unlock(&d->lock);
    return rc;
}

/* --- from where one must not wait --- */

static void tell_vcpu(struct vcpu *v)
{
    vcpu_add_work(v, VCPU_WORK_END);
    sched_unblock(&v->sched, SCHED_BLOCKED | SCHED_POLLING);
    if (v != current_vcpu())
        sched_poke(&v->sched);
}

static void end_by_itself(struct domain *d)
{
    struct vcpu *v;
    if (current_domain() == d) {
        tell_vcpu(current_vcpu()); /* it is on its way out anyway */
        return;
    }
    for_each_vcpu(d, v)
        tell_vcpu(v);
}

/* False: it is to end already. */
static bool claim_end(struct domain *d, uint8_t code)
{
    if (__atomic_exchange_n(&d->kill_pending, true, __ATOMIC_SEQ_CST))
        return false;
    WRITE_ONCE(d->end_code, code);
    return true;
}

void domain_end_soon(struct domain *d, uint8_t code)
{
    if (claim_end(d, code))
        end_by_itself(d);
}

void domain_kill(struct domain *d, const char *why, ...)
{
    char reason[160];
    va_list ap;
    if (!claim_end(d, SHUTDOWN_crash))
        return;
    va_start(ap, why);
    vsnprintf(reason, sizeof(reason), why, ap);
    va_end(ap);
    log_guest(d->id, LOG_ERROR, "killed: %s", reason);
    if (current_domain() == d) {
        const struct cpu_user_regs *r = &current_vcpu()->stack->regs;
        log_guest(d->id, LOG_ERROR, "vCPU %u at %04x:0x%lx, rsp 0x%lx, rflags 0x%lx",
                  current_vcpu()->id, r->cs, r->rip, r->rsp, r->rflags);
    }
    end_by_itself(d);
}

/* --- watchdogs: SCHEDOP_watchdog --- */

static void watchdog_fired(void *domain)
{
    struct domain *d = domain;
    log_guest(d->id, LOG_WARNING, "its watchdog fired");
    domain_end_soon(d, SHUTDOWN_watchdog);
}

void domain_watchdogs_init(struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->watchdog); i++)
        timer_init(&d->watchdog[i], watchdog_fired, d, this_cpu()->id);
}

void domain_watchdogs_stop(struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->watchdog); i++)
        timer_stop(&d->watchdog[i]);
}

static int free_watchdog(const struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->watchdog_on); i++)
        if (!d->watchdog_on[i])
            return i;
    return -XEN_ENOSPC;
}

int domain_watchdog(struct domain *d, uint32_t id, uint32_t seconds)
{
    ns_t when = time_now() + SECONDS(seconds);
    int rc = 0;
    if (id > ARRAY_SIZE(d->watchdog) || (id == 0 && seconds == 0))
        return -XEN_EINVAL;
    spin_lock(&d->lock);
    int i = id ? (int)id - 1 : free_watchdog(d);
    if (i < 0)
        rc = i;
    else if (id && !d->watchdog_on[i])
        rc = -XEN_EINVAL;
    else if (id == 0)
        rc = i + 1; /* the new one's number */
    if (rc >= 0) {
        d->watchdog_on[i] = seconds != 0;
        if (seconds)
            timer_set(&d->watchdog[i], when);
        else
            timer_stop(&d->watchdog[i]);
    }
    spin_unlock(&d->lock);
    return rc;
}
