/*
 * A device model, in domain 0, of one I/O port of the guest whose number it is given: answers what
 * port.S asks and ends. The requests come by a page that is shared with the hypervisor
 * (xen/hvm/ioreq.h) and an event.
 */
#define __XEN_TOOLS__ 1 /* the I/O request servers of xen/hvm/hvm_op.h */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xen/hvm/ioreq.h>
#include <xen/memory.h>
#include "port.h"

static volatile ioreq_t *requests(domid_t guest)
{
    xendevicemodel_handle *model = xendevicemodel_open(NULL, 0);
    xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
    ioservid_t id;
    void *page = NULL;
    if (!model || !memory)
        err(1, "no hypervisor");
    if (xendevicemodel_create_ioreq_server(model, guest, HVM_IOREQSRV_BUFIOREQ_OFF, &id) ||
        xendevicemodel_map_io_range_to_ioreq_server(model, guest, id, 0, PORT, PORT))
        err(1, "I/O request server of domain %u", guest);
    if (!xenforeignmemory_map_resource(memory, guest, XENMEM_resource_ioreq_server, id,
                                       XENMEM_resource_ioreq_server_frame_ioreq(0), 1, &page,
                                       PROT_READ | PROT_WRITE, 0))
        err(1, "its page");
    if (xendevicemodel_set_ioreq_server_state(model, guest, id, 1))
        err(1, "its state");
    return &((shared_iopage_t *)page)->vcpu_ioreq[0];
}

int main(int argc, char **argv)
{
    domid_t guest = argc > 1 ? atoi(argv[1]) : 0;
    volatile ioreq_t *request = requests(guest);
    xenevtchn_handle *events = xenevtchn_open(NULL, 0);
    xenevtchn_port_or_error_t port =
        events ? xenevtchn_bind_interdomain(events, guest, request->vp_eport) : -1;
    if (port < 0)
        err(1, "event");
    puts("ready");
    fflush(stdout);
    for (unsigned done = 0; done < WARM + 2 * COUNT;) {
        if (xenevtchn_pending(events) != port || xenevtchn_unmask(events, port))
            err(1, "event");
        if (request->state != STATE_IOREQ_READY)
            continue;
        if (request->dir == IOREQ_READ)
            request->data = 0x5a;
        request->state = STATE_IORESP_READY;
        if (xenevtchn_notify(events, port))
            err(1, "event");
        done++;
    }
}
