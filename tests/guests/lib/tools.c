/* The tools' hypercalls (tools.h). */
#include "tools.h"

struct xen_domctl dc;
struct xen_sysctl sc;

long domctl(uint32_t cmd, uint16_t domain)
{
    long ret;

    dc.cmd = cmd;
    dc.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    dc.domain = domain;
    do
        ret = HC(domctl, &dc);
    while (ret == -XEN_EAGAIN);
    return ret;
}

long sysctl(uint32_t cmd)
{
    sc.cmd = cmd;
    sc.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return HC(sysctl, &sc);
}

void nap(uint64_t ns)
{
    struct sched_poll p = {.nr_ports = 0, .timeout = time_now() + ns};

    HC(sched_op, SCHEDOP_poll, &p);
}

uint64_t free_pages(void)
{
    memset(&sc, 0, sizeof(sc));
    if (sysctl(XEN_SYSCTL_physinfo))
        return 0;
    return sc.u.physinfo.free_pages;
}
