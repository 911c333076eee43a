/* hvm_op (xen/hvm/hvm_op.h): without hvm/ there is nothing that it could do. */
#include "hypercall/table.h"

long hc_hvm_op(uint64_t op, uint64_t arg)
{
    return -XEN_ENOSYS;
}
