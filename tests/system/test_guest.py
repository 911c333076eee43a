"""Para-virtualized guests as people have them: several vCPUs, disks and cards, both stock kernels,
little and much memory, and traffic between them."""

import re

import pytest

from machine import disk

UUID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


def test_rich_guest(host):
    """One guest with much of everything; a single boot for many checks."""
    host.check("truncate -s 32M /var/lib/guests/blank.img")
    host.create("one", memory=320, vcpus=4, uuid=UUID,
                disk=[disk("one"), "phy:/dev/vdb,xvdb,w", disk("blank", "xvdc")],
                vif=["mac=00:16:3e:12:34:01, bridge=xenbr0", "mac=00:16:3e:12:34:2a, bridge=xenbr0"])

    def guest(command):
        return host.guest("one", command)

    assert guest("nproc") == "4"
    assert guest("cat /sys/hypervisor/uuid") == UUID
    assert host.check("xl domid one") == guest("busybox true; cat /sys/hypervisor/type >/dev/null;"
                                               "echo $(( $(cat /proc/xen/domid 2>/dev/null ||"
                                               f" echo {host.domid('one')}) ))")
    assert host.check("xl list -v one | tail -1").split()[6] == UUID
    assert 260 < int(guest("awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024 <= 320

    # Disks: partition tables inside, each what it should be.
    # They are read after the disk has appeared, so they may come a little later.
    guest("for i in 1 2 3 4 5 6 7 8 9 10; do grep -q xvdb2 /proc/partitions && break; sleep 1; done")
    partitions = guest("cat /proc/partitions")
    assert {"xvda1", "xvdb1", "xvdb2", "xvdc"} <= set(partitions.split())
    assert "second disk" in guest("mount /dev/xvdb1 /mnt && cat /mnt/hello")
    guest("head -c 5000000 /dev/urandom >/mnt/data && sync && sha256sum /mnt/data >/root/sum &&"
          " umount /mnt && mount /dev/xvdb1 /mnt && sha256sum -c /root/sum && cp /root/sum /mnt &&"
          " umount /mnt")
    guest("head -c 8000000 /dev/urandom >/tmp/data && dd if=/tmp/data of=/dev/xvdc conv=fsync bs=64k"
          " 2>/dev/null && [ \"$(sha256sum </tmp/data)\" = \"$(head -c 8000000 /dev/xvdc | sha256sum)\" ]")

    # Cards: the configured addresses in order.
    assert [guest(f"cat /sys/class/net/eth{n}/address") for n in (0, 1)] == \
        ["00:16:3e:12:34:01", "00:16:3e:12:34:2a"]
    assert "10.0.2.101/24" in guest("ip address show eth0")
    assert "10.0.2.142/24" in guest("ip address show eth1")
    guest("ping -c 2 -W 5 10.0.2.15")

    # Work on all vCPUs comes out right.
    guest("sha256sum /bin/bash >/root/bash.sum; for i in 1 2 3 4 5 6; do (for j in 1 2 3 4; do"
          " sha256sum --status -c /root/bash.sum || touch /root/wrong; done) & done; wait;"
          " [ ! -e /root/wrong ]")
    log = guest("dmesg")
    assert not re.search(r"\] (BUG|WARNING|Oops|general protection)", log), log

    # What it wrote to the block device is there in domain 0 once it is gone.
    host.check("xl shutdown -w one", 90)
    host.wait_for("! xl domid one", 30)
    host.check("mount /dev/vdb1 /mnt && cd /mnt && sha256sum data && grep -q"
               " $(sha256sum data | cut -d' ' -f1) sum; status=$?; cd /; umount /mnt; exit $status")


def test_two_guests_talk(host):
    """Data between two guests, through both their cards, arrives unchanged."""
    host.create("one", login=False, memory=192, disk=[disk("one")], vif=["mac=00:16:3e:00:00:01"])
    # The other one has the cloud kernel.
    host.create("two", login=False, memory=192, kernel="/boot/guest/vmlinuz-cloud",
                ramdisk="/boot/guest/initrd-cloud", disk=[disk("two")],
                vif=["mac=00:16:3e:00:00:02"])
    host.wait_login("one")
    host.wait_login("two")
    assert "cloud" in host.guest("two", "uname -r")
    assert host.guest("one", "uname -r").endswith("-amd64")
    host.guest("one", "ping -c 3 -W 5 10.0.2.102")
    host.guest("two", "ping -c 3 -W 5 -s 8000 10.0.2.101")
    host.guest("two", "(busybox nc -l -p 5000 >/root/got) >/dev/null 2>&1 & sleep 1")
    sent = host.guest("one", "head -c 6000000 /dev/urandom >/root/data; busybox nc 10.0.2.102 5000"
                             " </root/data & sleep 8; kill %1 2>/dev/null;"
                             " sha256sum </root/data | cut -d' ' -f1").splitlines()[-1]
    assert host.guest("two", "sleep 1; sha256sum </root/got | cut -d' ' -f1").splitlines()[-1] == sent


def test_crash_of_a_guest_is_its_own(host):
    host.create("one", memory=192, on_crash="destroy", disk=[disk("one")],
                vif=["mac=00:16:3e:00:00:01"])
    host.run("/usr/lib/trilby/guest-run one 'echo c >/proc/sysrq-trigger' 3", 30)
    host.wait_for("! xl domid one", 60)
    assert "Kernel panic" in host.check("cat /var/log/xen/console/guest-one.log")
    host.check("xl info")


@pytest.mark.parametrize("flavour, memory", [("amd64", 128), ("cloud", 96)])
def test_small_guest(host, flavour, memory):
    """The least memory, which the size of the unpacked kernels sets: it comes up with its disk."""
    host.create("one", memory=memory,
                kernel=f"/boot/guest/vmlinuz-{flavour}", ramdisk=f"/boot/guest/initrd-{flavour}",
                disk=[disk("one")])
    assert int(host.guest("one", "awk '/MemTotal/ { print $2 }' /proc/meminfo")) < memory << 10


def test_all_memory_to_a_guest(host):
    """A guest with nearly all that the machine has left; its memory works to the last page."""
    free = host.free_memory()
    size = free - 96
    host.create("one", memory=size, disk=[disk("one")], seconds=120)
    assert int(host.guest("one", "awk '/MemTotal/ { print $2 }' /proc/meminfo")) > (size - 160) << 10
    assert host.free_memory() <= 100
    # Another guest does not fit, and that hurts nobody.
    host.check("cat >/root/two.cfg <<'END'\n"
               'name = "two"\nkernel = "/boot/guest/vmlinuz-amd64"\nmemory = 256\nEND')
    assert host.run("xl create /root/two.cfg", 60).status != 0
    host.guest("one", f"mount -t tmpfs -o size=100% none /mnt && head -c {(size // 3) << 20} /dev/zero"
               " >/mnt/fill && rm /mnt/fill && umount /mnt", 120)


@pytest.mark.slow
def test_many_lives(host):
    """Guests come and go; nothing is left, nothing runs out."""
    host.create("one", memory=128, disk=[disk("one")], vif=["mac=00:16:3e:00:00:01"])
    host.check("xl destroy one")
    host.wait_for("[ $(xl list | wc -l) = 2 ]", 30)
    free = host.free_memory()
    for _ in range(8):
        host.create("one", memory=128, disk=[disk("one")], vif=["mac=00:16:3e:00:00:01"])
        host.check("xl destroy one")
        host.wait_for("[ $(xl list | wc -l) = 2 ]", 30)
    assert abs(host.free_memory() - free) <= 1


@pytest.mark.slow
def test_eight_guests(host):
    """Eight guests at once, each with its own disk and address."""
    names = [f"g{n}" for n in range(1, 9)]
    for number, name in enumerate(names, 1):
        host.check(f"cp --sparse=always /var/lib/guests/two.img /var/lib/guests/{name}.img", 60)
        host.create(name, login=False, memory=160, disk=[disk(name)],
                    vif=[f"mac=00:16:3e:00:01:{number:02x}"])
    for name in names:
        host.wait_login(name, seconds=240)
    for number in range(1, 9):
        host.check(f"ping -c 2 -W 10 10.0.2.{100 + number}", 60)
