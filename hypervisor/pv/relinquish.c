/*
 * The end of a PV domain's memory: CPUs leave its address spaces, its vCPUs give them up, then
 * every page's pin and allocation goes (domain/relinquish.c).
 */
#include "pv/pagetable.h"

int pv_relinquish_memory(struct domain *d)
{
    pv_evict_domain(d);
    for (unsigned i = 0; i < d->max_vcpus; i++)
        if (d->vcpu[i])
            pv_drop_l4(d->vcpu[i]);
    return domain_relinquish_pages(d);
}
