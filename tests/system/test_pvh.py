"""A PVH guest (type="pvh") with the stock Debian kernel, made by stock xl: what a PV guest can do, by
nested paging. One boot for many checks."""

import re

import pytest

from machine import disk


@pytest.fixture
def pvh_host(slot, spare_disk):
    """A machine whose domain 0 is a PVH guest, with the stock kernel."""
    return slot.shared("pvh-host", cpus=2, memory=3072, extra_disks=[spare_disk],
                       xen="loglvl=all guest_loglvl=all dom0=pvh", linux="swiotlb=force")


def test_pvh_guest(host):
    before = host.free_memory()
    host.check("truncate -s 32M /var/lib/guests/pvh-blank.img")
    host.create("pvh", type="pvh", memory=256, vcpus=2, seconds=120,
                disk=[disk("one"), disk("pvh-blank", "xvdb")],
                vif=["mac=00:16:3e:12:34:03, bridge=xenbr0"])

    def guest(command):
        return host.guest("pvh", command)

    assert guest("cat /sys/hypervisor/guest_type") == "PVH"
    assert guest("nproc") == "2"
    guest("dd if=/bin/bash of=/dev/xvdb bs=4k conv=fsync 2>/dev/null &&"
          " head -c $(stat -c %s /bin/bash) /dev/xvdb | cmp - /bin/bash")
    assert guest("cat /sys/class/net/eth0/address") == "00:16:3e:12:34:03"
    guest("ping -c 2 -W 5 10.0.2.15")
    guest("sha256sum /bin/bash >/root/bash.sum; for i in 1 2 3 4; do (for j in 1 2 3; do"
          " sha256sum --status -c /root/bash.sum || touch /root/wrong; done) & done; wait;"
          " [ ! -e /root/wrong ]")

    log = guest("dmesg")
    assert not re.search(r"\] (BUG|Oops|general protection)", log), log

    host.check("xl shutdown -w pvh", 90)
    host.wait_for("! xl domid pvh", 30)
    assert host.free_memory() == before


@pytest.mark.slow
def test_management(host):
    """What xl does to a running guest, which may have more memory later."""
    host.create("pvh", type="pvh", memory=256, maxmem=320, vcpus=2, maxvcpus=4, seconds=120,
                disk=[disk("one")])

    def guest(command):
        return host.guest("pvh", command)

    # The tools try every frame number up to the special pages below 4 GiB, a million of them.
    host.check("xl dump-core pvh /root/core && head -c 4 /root/core | grep -q ELF && rm /root/core",
               400)
    for mib in (192, 256):
        host.check(f"xl mem-set pvh {mib}")
        host.wait_for(f"[ $(($(xl list pvh | awk 'NR == 2 {{ print $3 }}') - {mib})) -le 1 ] &&"
                      f" [ $(xl list pvh | awk 'NR == 2 {{ print $3 }}') -ge {mib - 1} ]", 60)
    host.check("xl vcpu-set --ignore-host pvh 4")
    host.wait_for("xl vcpu-list pvh | tail -n +2 | wc -l | grep -q 4", 20)
    guest("for c in 2 3; do for i in 1 2 3 4 5; do"
          " echo 1 >/sys/devices/system/cpu/cpu$c/online && break; sleep 1; done; done")
    assert guest("nproc") == "4"
    host.check("xl vcpu-set pvh 1")
    host.wait_for("[ $(xl vcpu-list pvh | grep -c -- '--p') = 3 ]", 30)
    assert guest("nproc") == "1"
    host.check("xl reboot pvh", 30)
    host.wait_login("pvh", boots=2)
    host.check("xl trigger pvh nmi; xl pause pvh; xl unpause pvh")
    assert "NMI" in guest("dmesg")
    host.check("xl destroy pvh", 60)


def test_domain_0(pvh_host):
    """Its drivers find the machine's disk and network card, and their interrupts come."""
    check = pvh_host.check
    assert "one to one" in pvh_host.console()
    assert check("cat /sys/hypervisor/guest_type") == "PVH"
    assert check("nproc") == "2"
    assert re.search(r"IO-APIC.*virtio0", check("cat /proc/interrupts"))
    check("dd if=/dev/urandom of=/root/blob bs=64k count=128 2>/dev/null; sync;"
          " sha256sum /root/blob >/root/blob.sum; echo 3 >/proc/sys/vm/drop_caches;"
          " sha256sum -c --quiet /root/blob.sum")
    pvh_host.wait_for("ping -c 1 -W 5 10.0.2.2", 30)
    log = check("dmesg")
    assert not re.search(r"\] (BUG|Oops|general protection)", log), log


@pytest.mark.slow
def test_guests_of_it(pvh_host):
    """It makes guests of both kinds by stock xl, and all memory comes back."""
    pvh_host.check("xl mem-set 0 900; sleep 1")
    before = pvh_host.free_memory()
    for kind in ("pv", "pvh"):
        name = "under-" + kind
        pvh_host.create(name, type=kind, memory=192, vcpus=2, seconds=90,
                        disk=[disk("one"), disk("/dev/vdb2", "xvdb")],
                        vif=["bridge=xenbr0"])
        assert pvh_host.guest(name, "cat /sys/hypervisor/guest_type") == kind.upper()
        pvh_host.guest(name, "ping -c 2 -W 5 10.0.2.15")
        pvh_host.guest(name, "dd if=/dev/urandom of=/root/blob bs=64k count=64 2>/dev/null; sync;"
                       " sha256sum /root/blob >/root/sum; echo 3 >/proc/sys/vm/drop_caches;"
                       " sha256sum -c --quiet /root/sum; dd if=/root/blob of=/dev/xvdb bs=64k"
                       " conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches;"
                       " head -c $(stat -c %s /root/blob) /dev/xvdb | cmp - /root/blob;"
                       " rm /root/blob")
        pvh_host.check(f"xl shutdown -w {name}", 120)
        pvh_host.wait_for(f"! xl domid {name}", 60)
    # Tables for the frame numbers at which it mapped the guests' pages stay: less than 1 MiB.
    assert before - pvh_host.free_memory() <= 1
