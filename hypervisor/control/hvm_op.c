/*
 * hvm_op (xen/hvm/hvm_op.h). PV guests and domain 0 reach it too; without hvm/ there is nothing it
 * can do but name the one operation that Linux tries on every boot.
 */
#include "domain/domain.h"
#include "hypercall/table.h"

long hc_hvm_op(uint64_t op, uint64_t arg)
{
    return -XEN_ENOSYS;
}
