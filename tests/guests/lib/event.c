/*
 * Events by the 2-level ABI (xen/event_channel.h, struct shared_info in xen/xen.h): the shared
 * page, the upcall, and counters per port that tests look at.
 */
#include "guest.h"

static union {
    struct shared_info info;
    uint8_t page[PAGE_SIZE];
} shared_page __attribute__((aligned(4096)));
static struct vcpu_info *moved[MAX_CPUS];
static int shared_state; /* 0 not tried, 1 mapped, -1 refused */
volatile unsigned event_count[4096];
volatile unsigned event_last_cpu;

struct shared_info *shared(void)
{
    if (!shared_state)
        shared_state = va_map(&shared_page, start_info->shared_info | PTE_KERN) ? -1 : 1;
    return shared_state == 1 ? &shared_page.info : NULL;
}

struct vcpu_info *vcpu_info(unsigned id)
{
    if (shared_state != 1)
        return NULL;
    return moved[id] ? moved[id] : &shared_page.info.vcpu_info[id];
}

void vcpu_info_moved(unsigned id, struct vcpu_info *info)
{
    moved[id] = info;
}

void event_init(void)
{
    for (unsigned i = 0; i < 64; i++)
        shared()->evtchn_mask[i] = 0;
}

void event_upcall(void)
{
    struct vcpu_info *info = vcpu_info(this_cpu()->id);
    struct shared_info *s = shared();

    this_cpu()->upcalls++;
    __atomic_store_n(&info->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    uint64_t words = __atomic_exchange_n(&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);

    while (words) {
        unsigned w = (unsigned)__builtin_ctzl(words);
        uint64_t ports;

        words &= words - 1;
        while ((ports = s->evtchn_pending[w] & ~s->evtchn_mask[w])) {
            unsigned port = w * 64 + (unsigned)__builtin_ctzl(ports);

            event_clear(port);
            event_last_cpu = this_cpu()->id;
            __atomic_fetch_add(&event_count[port], 1, __ATOMIC_SEQ_CST);
        }
    }
}

void events_on(void)
{
    volatile struct vcpu_info *info = vcpu_info(this_cpu()->id);

    info->evtchn_upcall_mask = 0;
    asm volatile("" ::: "memory");
    if (info->evtchn_upcall_pending)
        HC(xen_version, XENVER_version, 0); /* any hypercall delivers what is pending */
}

void events_off(void)
{
    volatile struct vcpu_info *info = vcpu_info(this_cpu()->id);

    info->evtchn_upcall_mask = 1;
    asm volatile("" ::: "memory");
}

bool event_pending(unsigned port)
{
    return shared()->evtchn_pending[port / 64] >> (port % 64) & 1;
}

void event_mask(unsigned port, bool masked)
{
    if (masked)
        __atomic_fetch_or(&shared()->evtchn_mask[port / 64], 1UL << (port % 64), __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_and(&shared()->evtchn_mask[port / 64], ~(1UL << (port % 64)),
                           __ATOMIC_SEQ_CST);
}

void event_clear(unsigned port)
{
    __atomic_fetch_and(&shared()->evtchn_pending[port / 64], ~(1UL << (port % 64)),
                       __ATOMIC_SEQ_CST);
}

bool event_wait(unsigned port, unsigned count, uint64_t ns)
{
    uint64_t end = time_now() + ns;

    while (event_count[port] < count)
        if (time_now() > end)
            return false;
    return true;
}
