/*
 * console_io (xen/xen.h, CONSOLEIO_*): domain 0's hvc0 is the machine's console. Other domains'
 * output is a debugging aid: whole lines into the log, rate-limited, never raw to the terminal.
 */
#include "console/console.h"
#include "domain/domain.h"
#include "hypercall/guest_access.h"
#include "hypercall/table.h"

#define CHUNK 128

static long rest(guest_ptr_t buf, uint64_t count)
{
    return hypercall_again(__HYPERVISOR_console_io, CONSOLEIO_write, count, buf.addr, 0);
}

static long write_raw(guest_ptr_t buf, uint64_t count)
{
    char chunk[CHUNK];
    for (uint64_t done = 0; done < count;) {
        size_t n = min(count - done, (uint64_t)sizeof(chunk));
        int rc = copy_from_guest(chunk, guest_offset(buf, done), n);
        if (rc)
            return rc;
        console_write(chunk, n);
        done += n;
        if (vcpu_wanted() && done < count)
            return rest(guest_offset(buf, done), count - done);
    }
    return 0;
}

/* One line at a time, control characters replaced; a line longer than a chunk is broken. */
static long write_guest_log(guest_ptr_t buf, uint64_t count)
{
    char chunk[CHUNK + 1];
    for (uint64_t done = 0; done < count;) {
        size_t n = min(count - done, (uint64_t)CHUNK);
        int rc = copy_from_guest(chunk, guest_offset(buf, done), n);
        if (rc)
            return rc;
        size_t used = 0;
        while (used < n && chunk[used] != '\n') {
            if (chunk[used] < ' ' || chunk[used] > '~')
                chunk[used] = '.';
            used++;
        }
        chunk[used] = '\0';
        if (used)
            log_guest(current_domain()->id, LOG_INFO, "%s", chunk);
        done += used < n ? used + 1 : used;
        if (vcpu_wanted() && done < count)
            return rest(guest_offset(buf, done), count - done);
    }
    return 0;
}

static long read_input(guest_ptr_t buf, uint64_t count)
{
    char chunk[CHUNK];
    size_t n = console_read(chunk, min(count, (uint64_t)sizeof(chunk)));
    int rc = copy_to_guest(buf, chunk, n);
    return rc ? rc : (long)n;
}

long hc_console_io(uint64_t cmd, uint64_t count, uint64_t buf)
{
    bool privileged = current_domain()->privileged;
    if (count > INT32_MAX)
        return -XEN_EINVAL;

    switch (cmd) {
    case CONSOLEIO_write:
        return privileged ? write_raw(guest_ptr(buf), count)
                          : write_guest_log(guest_ptr(buf), count);
    case CONSOLEIO_read:
        return privileged ? read_input(guest_ptr(buf), count) : -XEN_EPERM;
    default:
        return -XEN_ENOSYS;
    }
}
