"""Domain 0: what the stock kernel and tools find in a machine with the hypervisor below."""

import re
import time


def test_hypervisor_files(host):
    assert host.check("cat /proc/xen/capabilities") == "control_d"
    assert host.check("cat /sys/hypervisor/type") == "xen"
    assert host.check("cat /sys/hypervisor/version/major") == "4"
    assert host.check("cat /sys/hypervisor/version/minor") == "17"
    assert host.check("cat /sys/hypervisor/uuid") == "00000000-0000-0000-0000-000000000000"
    assert host.check("cat /sys/hypervisor/guest_type") == "PV"
    assert host.check("cat /sys/hypervisor/properties/pagesize") == "1000"  # printed in hexadecimal
    assert "xen-3.0-x86_64" in host.check("cat /sys/hypervisor/properties/capabilities")
    # The start of the hypervisor's part of the address space, as the ABI's header has it.
    assert host.check("cat /sys/hypervisor/properties/virtual_start") == "ffff800000000000"
    features = int(host.check("cat /sys/hypervisor/properties/features"), 16)
    assert features & (1 << 11), "XENFEAT_dom0 is not announced"


def test_devices(host):
    devices = host.check("cd /dev/xen && for f in *; do [ -c $f ] && echo $f; done").split()
    assert {"evtchn", "gntalloc", "gntdev", "hypercall", "privcmd", "xenbus",
            "xenbus_backend"} <= set(devices)
    assert host.check("tty </dev/hvc0") == "/dev/hvc0"
    assert {"privcmd", "xenbus", "xsd_kva", "xsd_port"} <= set(host.check("ls /proc/xen").split())


def test_kernel_sees_xen(host):
    log = host.check("dmesg")
    assert "Hypervisor detected: Xen PV" in log
    assert "Booting kernel on Xen" in log
    assert not re.search(r"(?m)^\[[^]]*\] (BUG|WARNING|Oops|general protection|Call Trace)", log), log
    assert host.check(
        "cat /sys/devices/system/clocksource/clocksource0/current_clocksource") in ("xen", "tsc")


def test_all_vcpus(host):
    assert host.check("nproc") == "2"
    assert host.check("cat /sys/devices/system/cpu/online") == "0-1"
    # A vCPU can be taken away and given back.
    host.check("echo 0 >/sys/devices/system/cpu/cpu1/online")
    assert host.check("nproc") == "1"
    host.check("echo 1 >/sys/devices/system/cpu/cpu1/online")
    assert host.check("nproc") == "2"


def test_time_runs_as_outside(host):
    def guest_now():
        return float(host.check("date +%s.%N"))
    before, begin = guest_now(), time.time()
    assert abs(before - begin) < 10, "the wall clock is wrong"
    host.check("sleep 5")
    inside, outside = guest_now() - before, time.time() - begin
    assert abs(inside - outside) < 1.0, (inside, outside)


def test_many_processes_keep_their_results(host):
    """Vector and general registers survive switches between vCPUs and processes."""
    host.check("head -c 3000000 /dev/urandom >/tmp/noise; sha256sum /tmp/noise >/tmp/noise.sum;"
               "md5sum /tmp/noise >/tmp/noise.md5")
    host.check("for i in 1 2 3 4; do (for j in $(seq 12); do"
               " sha256sum --status -c /tmp/noise.sum || touch /tmp/wrong;"
               " md5sum --status -c /tmp/noise.md5 || touch /tmp/wrong;"
               " [ $(awk 'BEGIN { for (x = i = 0; i < 20000; i++) x += sqrt(i); printf \"%d\", x }')"
               " = 1885547 ] || touch /tmp/wrong; done) & done; wait; ! [ -e /tmp/wrong ]", 120)


def test_balloon(host):
    def megabytes():
        return int(host.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024

    def free():
        return host.free_memory()

    total, unused = megabytes(), free()
    host.check("xl mem-set Domain-0 768")
    host.wait_for("[ $(xl list Domain-0 | awk 'NR == 2 { print $3 }') -le 768 ]", 30)
    host.wait_for(f"[ $(xl info free_memory) -ge {unused + 250} ]", 30)
    assert total - 262 <= megabytes() <= total - 250
    host.check("xl mem-set Domain-0 1024")
    host.wait_for(f"[ $(xl info free_memory) -le {unused + 2} ]", 30)
    assert abs(megabytes() - total) <= 2


def test_network(host):
    host.wait_for("ip -4 address show xenbr0 | grep -w inet", 30)
    host.check("ping -c 2 -W 5 10.0.2.2")
    assert "MULTICAST" in host.check("ip link show eth0")


def test_interrupts_arrive(host):
    text = host.check("cat /proc/interrupts")
    assert re.search(r"xen-percpu\s+-virq\s+timer", text), text
    assert re.search(r"xen-percpu\s+-ipi\s+resched", text), text
    assert re.search(r"xen-dyn\s+(-event|-virq)", text), text
    counts = re.search(r"(\d+)\s+(\d+)\s+xen-percpu\s+-virq\s+timer0", text)
    assert counts and int(counts.group(1)) > 100


def test_disks(host, spare_disk):
    assert "vda" in host.check("cat /proc/partitions")
    assert "vdb2" in host.check("cat /proc/partitions")
    host.check("mount -o ro /dev/vdb1 /mnt && grep -q 'second disk' /mnt/hello && umount /mnt")
