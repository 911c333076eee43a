"""The ways to boot, numbers of CPUs, sizes of memory, and domain 0's own drivers.  Each boot
combines one of each, so that all values occur with few boots."""

import re

import pytest

#                way      cpus  MiB    disk      card
COMBINATIONS = [
    pytest.param("bios1", 1, 1024, "ahci", "e1000e", id="grub-bios-mb1-1cpu-1G-ahci-e1000e"),
    pytest.param("bios2", 2, 2048, "nvme", "virtio", id="grub-bios-mb2-2cpu-2G-nvme-virtio"),
    pytest.param("efi", 8, 3072, "virtio", "e1000e", id="ovmf-mb2-8cpu-3G-virtio-e1000e"),
    pytest.param("kernel", 2, 6144, "ahci", "virtio", id="kernel-2cpu-6G-ahci-virtio"),
    pytest.param("kernel", 8, 16384, "nvme", "e1000e", id="kernel-8cpu-16G-nvme-e1000e",
                 marks=pytest.mark.slow),
    pytest.param("efi", 1, 4096, "ahci", "virtio", id="ovmf-mb2-1cpu-4G-ahci-virtio",
                 marks=pytest.mark.slow),
]

DISK = {"virtio": "vda", "ahci": "sda", "nvme": "nvme0n1"}
DRIVER = {"virtio": "virtio_net", "e1000e": "e1000e"}


@pytest.mark.parametrize("way, cpus, memory, disk, card", COMBINATIONS)
def test_boot(slot, way, cpus, memory, disk, card):
    dom0_mem = 512 if memory <= 1024 else 1024
    host = slot.start(f"boot-{way}-{cpus}-{memory}", boot=way, cpus=cpus, memory=memory, disk=disk,
                      net=card, xen=f"dom0_mem={dom0_mem}M")
    host.boot(120)

    # CPUs and memory: what the hypervisor found is what the machine has.
    info = dict(re.findall(r"^(\w+)\s*: (.*)$", host.check("xl info"), re.M))
    assert int(info["nr_cpus"]) == cpus
    assert memory - 64 <= int(info["total_memory"]) <= memory
    assert int(host.check("nproc")) == cpus
    total = int(host.check("awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024
    # The kernel keeps its own text and the page array for itself.
    assert dom0_mem - 160 - memory // 32 < total <= dom0_mem
    free = int(info["free_memory"])
    assert memory - dom0_mem - 256 < free < memory - dom0_mem

    # All CPUs run, and not all vCPUs on one.
    host.check(f"for i in $(seq {cpus}); do (for ((n = 0; n < 5000; n++)); do :; done) & done; wait",
               60)
    used = re.findall(r"Domain-0\s+0\s+\d+\s+(\d+)\s+[rb-]+\s+(\S+)", host.check("xl vcpu-list"))
    assert len(used) == cpus
    assert all(float(seconds) > 0 for _, seconds in used)

    # Disk and card with the drivers that belong to them, interrupts counted at the right kind.
    source = host.check("findmnt -n -o SOURCE / || awk '$2 == \"/\" { print $1 }' /proc/mounts")
    assert DISK[disk] in source
    host.check("dd if=/dev/urandom of=/root/data bs=1M count=8 && sync && sha256sum /root/data"
               " >/root/sum && echo 3 >/proc/sys/vm/drop_caches && sha256sum -c /root/sum", 60)
    driver = host.check("basename $(readlink /sys/class/net/eth0/device/driver)")
    assert driver == DRIVER[card]
    host.wait_for("ip -4 address show xenbr0 | grep -w inet", 30)
    host.check("ping -c 2 -W 5 10.0.2.2")
    interrupts = host.check("cat /proc/interrupts")
    kind = r"xen-pirq\s+-?msi" if card == "e1000e" or disk != "virtio" else r"xen-pirq"
    assert re.search(kind, interrupts), interrupts
    assert re.search(r"xen-pirq\s+-?ioapic", interrupts), interrupts

    # One small guest shows that the rest works in this machine, too.
    host.create("one", memory=160, disk=["format=raw, vdev=xvda, access=rw,"
                                         " target=/var/lib/guests/one.img"],
                vif=["mac=00:16:3e:00:00:01, bridge=xenbr0"])
    assert host.guest("one", "echo 6*7 = $((6*7))") == "6*7 = 42"
    host.guest("one", "ping -c 2 -W 5 10.0.2.15")
    host.check("xl destroy one")

    host.check("(sleep 1; poweroff) >/dev/null 2>&1 </dev/null &")
    host.wait_end(60)


def test_reboot(slot):
    """With reboots allowed QEMU comes back to the firmware and all starts again."""
    host = slot.start("reboot", qemu=["-action", "reboot=reset"], cpus=2)
    host.boot()
    first = host.check("cat /proc/sys/kernel/random/boot_id")
    host.check("(sleep 1; reboot) >/dev/null 2>&1 </dev/null &")
    host.boot()
    host.tag += 100
    assert host.check("cat /proc/sys/kernel/random/boot_id") != first
