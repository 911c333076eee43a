"""What a guest's disk, card and balloon cost: one kernel with one initramfs (bench/devices/io.c has the
table of rows) as a PV and a PVH guest of the hypervisor given; domain 0 at the other end.
"""
from counts import OUT, Counts, pairs, rows_of
from guests import CLOCK, IMAGES, KINDS, LINE, MEMORY, run_guest, wait_for

DISK_MIB = 64                       # io.c
PORT_ROWS = [("write a port of a device model", 2000), ("read it", 2000)] # port.h


def rows():
    return rows_of("bench/devices/io.c")


def port(m, counts):
    """A port's writes and reads, by a device model (port.S, model.c)."""
    seen = len(counts.lines())
    m.check("cat /dev/vdd >/tmp/port.elf; cat /dev/vde >/tmp/model; chmod +x /tmp/model", 60)
    m.put_config("port", type="pvh", memory=16, cpus="all", kernel="/tmp/port.elf", ramdisk="",
                 tsc_mode="native")
    m.check("xl create -qp /root/port.cfg; (/tmp/model $(xl domid port) >/tmp/model.out 2>&1 &)", 120)
    m.wait_for("grep -x ready /tmp/model.out || ! cat /tmp/model.out", 30)
    m.check("(sleep 2; xl unpause port) >/dev/null 2>&1 &")
    wait_for(counts, len(KINDS) + 1, m.child.isalive)
    m.check("xl destroy port", 120)
    return pairs(counts.lines()[seen:])


def devices(hypervisor, tag, machine_class):
    """{"pv": [(all instructions, the hypervisor's)], "pvh": the same}, of one boot of domain 0."""
    counts, results, seen = Counts(tag), {}, 0
    with machine_class(tag, hypervisor=hypervisor, cpus=1, memory=2048, net="none",
                       xen="spec-ctrl=no xpti=no",
                       extra_disks=[f"{IMAGES}/io.cpio", f"{IMAGES}/io", f"{OUT}/port.elf",
                                    f"{OUT}/model"],
                       qemu=[*CLOCK, *counts.options]) as m:
        m.boot(600)
        m.check("cat /dev/vdb >/tmp/io.cpio; cat /dev/vdc >/tmp/io; chmod +x /tmp/io;"
                f"dd if=/dev/zero of=/tmp/disk bs=1M count={DISK_MIB} 2>/dev/null;"
                "ip address add 10.9.0.1/24 dev xenbr0; ip link set xenbr0 up;"
                "/tmp/io >/dev/null 2>&1 &", 60)
        for done, kind in enumerate(KINDS):
            m.put_config(kind, type=kind, memory=MEMORY, cpus="all", ramdisk="/tmp/io.cpio",
                         extra=LINE, tsc_mode="native", vif=["mac=00:16:3e:00:00:09"],
                         disk=["format=raw, vdev=xvda, access=rw, target=/tmp/disk"])
            # At first, while the disk is slow, time flies by this clock, and the tools give up.
            m.run(f"xl create -qp /root/{kind}.cfg; xl destroy {kind}; sleep 1", 300)
            run_guest(m, counts, kind, done + 1)
            lines = counts.lines()
            results[kind] = pairs(lines[seen:])
            seen = len(lines)
        results["port"] = port(m, counts)
    return results
