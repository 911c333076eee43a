"""What a guest's disk, card and balloon cost: one kernel with one initramfs (bench/devices/io.c has the
table of rows) as a PV and a PVH guest of the hypervisor given, domain 0 at the other end; as a guest
of KVM, and the rows without a guest.
"""
from counts import BEGIN, END, OUT, Counts, pairs, rows_of
from guests import (CLOCK, IMAGES, KINDS, LINE, MEMORY, machine, run_guest, under_kvm, wait_for)

DISK_MIB = 64                       # io.c
CROWD = 8                           # guests
PORT_ROWS = [("write a port of a device model", 2000), ("read it", 2000)] # port.h


def rows():
    return rows_of("bench/devices/io.c")


def crowd_row():
    """The first of them, done by all."""
    name, n = rows()[0]
    return f"{name}, {CROWD} guests", CROWD * n


def configure(m, name, kind, memory, mac, disk, extra=""):
    m.put_config(name, type=kind, memory=memory, cpus="all", ramdisk="/tmp/io.cpio",
                 extra=LINE + extra, tsc_mode="native", vif=[f"mac=00:16:3e:00:00:{mac:02x}"],
                 disk=[f"format=raw, vdev=xvda, access=rw, target={disk}"])


def port(m, counts):
    """A port's writes and reads, by a device model (port.S, model.c)."""
    seen = len(counts.lines())
    m.check("cat /dev/vdd >/tmp/port.elf; cat /dev/vde >/tmp/model; chmod +x /tmp/model", 60)
    m.put_config("port", type="pvh", memory=16, cpus="all", kernel="/tmp/port.elf", ramdisk="",
                 tsc_mode="native")
    m.check("xl create -qp /root/port.cfg; (/tmp/model $(xl domid port) >/tmp/model.out 2>&1 &)", 120)
    m.wait_for("grep -x ready /tmp/model.out || ! cat /tmp/model.out", 30)
    m.check("(sleep 2; xl unpause port) >/dev/null 2>&1 &")
    lines = wait_for(counts, seen, m.child.isalive)
    m.check("xl destroy port", 120)
    return pairs(lines)


def crowd(m, counts):
    """Guests that do the first row at the same time: from the first begin to the last end."""
    seen, names = len(counts.lines()), [f"g{i}" for i in range(CROWD)]
    for i, name in enumerate(names):
        configure(m, name, "pvh", 128, 16 + i, f"/tmp/disk{i}", f" crowd={CROWD} number={i}")
        m.check(f"truncate -s {DISK_MIB}M /tmp/disk{i}; xl create -qp /root/{name}.cfg", 300)
    m.check(f"(sleep 2; for g in {' '.join(names)}; do xl unpause $g; done) >/dev/null 2>&1 &")
    lines = wait_for(counts, seen, m.child.isalive, guests=CROWD)
    m.check(f"for g in {' '.join(names)}; do xl destroy $g; done", 300)
    first = next(line for line in lines if line[0] == BEGIN)
    last = [line for line in lines if line[0] == END][-1]
    return [(last[1] - first[1], last[2] - first[2])]


def bare(tag):
    return pairs(machine(tag, "io-host.cpio", 1536, "quiet mitigations=off console=ttyS0 bare"))


def kvm(tag):
    lines = under_kvm(tag, "io-host.cpio", 1536)
    return lines and pairs(lines)


def devices(hypervisor, tag, machine_class):
    """{"pv": [(all instructions, the hypervisor's)] and so on for "pvh", "crowd" and "port"}, of one
    boot of domain 0."""
    counts, results = Counts(tag), {}
    with machine_class(tag, hypervisor=hypervisor, cpus=1, memory=3072, net="none",
                       xen="spec-ctrl=no xpti=no",
                       extra_disks=[f"{IMAGES}/io.cpio", f"{IMAGES}/io", f"{OUT}/port.elf",
                                    f"{OUT}/model"],
                       qemu=[*CLOCK, *counts.options]) as m:
        m.boot(600)
        m.check("cat /dev/vdb >/tmp/io.cpio; cat /dev/vdc >/tmp/io; chmod +x /tmp/io;"
                f"dd if=/dev/zero of=/tmp/disk bs=1M count={DISK_MIB} 2>/dev/null;"
                "ip address add 10.9.0.1/24 dev xenbr0; ip link set xenbr0 up;"
                "/tmp/io >/dev/null 2>&1 &", 60)
        for kind in KINDS:
            configure(m, kind, kind, MEMORY, 9, "/tmp/disk")
            # At first, while the disk is slow, time flies by this clock, and the tools give up.
            m.run(f"xl create -qp /root/{kind}.cfg; xl destroy {kind}; sleep 1", 300)
            results[kind] = pairs(run_guest(m, counts, kind))
        results["crowd"] = crowd(m, counts)
        results["port"] = port(m, counts)
    return results
