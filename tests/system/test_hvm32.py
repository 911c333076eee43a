"""32-bit kernels of Debian, unmodified: with PAE they have Xen's drivers and talk to the hypervisor in
the layouts of 32-bit code; without it they have none, and run on the emulated devices of a PC."""

import os
import subprocess

import pytest

import machine as m
from conftest import destroy_guests

MAC = "00:16:3e:00:00:08"
BLOCKS = "bs=1M skip=64 count=4"


@pytest.fixture
def pc32(slot):
    """A machine whose second disk has the kernels, at /mnt."""
    subprocess.run([os.path.join(m.TOP, "system", "i386", "build")], check=True)
    host = slot.shared("i386", cpus=2, memory=4096, xen="loglvl=all guest_loglvl=all",
                       extra_disks=[os.path.join(m.BUILD, "i386", "guests.img")])
    host.check("mountpoint -q /mnt || mount -o ro /dev/vdb /mnt")
    yield host
    if slot.machine is host:
        destroy_guests(slot)


def create(host, kernel, extra, **settings):
    host.create("small", login=False, **(dict(
        type="hvm", memory=192, vcpus=2, vnc=1, serial="pty", hdtype="ahci",
        kernel=f"/mnt/vmlinuz-{kernel}", ramdisk=f"/mnt/initrd-{kernel}",
        extra=f"console=ttyS0 quiet {extra}", disk=[m.disk("one", "hda")],
        vif=[f"mac={MAC}, model=e1000"]) | settings))


def devices_work(host, disk):
    want = host.check(f"dd if=/var/lib/guests/one.img {BLOCKS} 2>/dev/null | sha256sum").split()[0]
    assert want in host.guest("small", f"dd if=/dev/{disk} {BLOCKS} 2>/dev/null | sha256sum", 120)
    assert host.guest("small", "cat /sys/class/net/eth0/address") == MAC
    host.guest("small", "ping -c 3 -W 5 10.0.2.15")
    assert abs(int(host.guest("small", "date +%s")) - int(host.check("date +%s"))) < 20


def xen_drivers_work(host, kernel, abi):
    assert host.guest("small", "uname -rm", 300).endswith(f"-{kernel} i686")
    assert host.guest("small", "nproc") == "2"
    assert "xen" in host.guest("small", "cat /sys/devices/system/clocksource/clocksource0/"
                               "available_clocksource").split()
    assert f"Using {abi} ABI" in host.guest("small", "dmesg | grep xen:events:")
    lines = host.guest("small", "cat /proc/interrupts").split("\n")
    assert sum("xen-dyn" in line for line in lines) >= 4, lines # store, disk, card both ways
    upcalls = [line.split() for line in lines if line.strip().startswith("HYP:")]
    assert upcalls and all(int(count) > 20 for count in upcalls[0][1:3]), lines
    devices_work(host, "xvda")
    times = host.guest("small", "date +%s; sleep 2; date +%s").split()
    assert int(times[1]) >= int(times[0]) + 2


@pytest.mark.slow
@pytest.mark.parametrize("option, abi", [("", "FIFO-based"), ("xen.fifo_events=0", "2-level")])
def test_pae(pc32, option, abi):
    """The whole of a guest by Xen's drivers: two vCPUs, events by either ABI, time, disk, card."""
    before = pc32.free_memory()
    create(pc32, "686-pae", option)
    xen_drivers_work(pc32, "686-pae", abi)
    assert pc32.guest("small", "cat /sys/hypervisor/guest_type") == "HVM"
    pc32.check("xl shutdown -w small", 90)
    pc32.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)


@pytest.mark.slow
def test_pae_pvh(pc32):
    """The same kernel enters as a PVH guest, too: without firmware and device model."""
    pc32.create("small", login=False, type="pvh", vcpus=2, kernel="/mnt/vmlinuz-686-pae",
                ramdisk="/mnt/initrd-686-pae", extra="console=hvc0 quiet xen.fifo_events=0",
                disk=[m.disk("one")], vif=[f"mac={MAC}"])
    xen_drivers_work(pc32, "686-pae", "2-level")
    assert pc32.guest("small", "cat /sys/hypervisor/guest_type") == "PVH"
    pc32.check("xl shutdown -w small", 90)


@pytest.mark.slow
def test_no_pae(pc32):
    """Two levels of page tables, no driver of Xen's: all by the devices of a PC."""
    create(pc32, "686", "")
    assert pc32.guest("small", "uname -rm; nproc", 300).split()[0:2] == \
        [pc32.guest("small", "uname -r"), "i686"]
    assert pc32.guest("small", "uname -r").endswith("-686")
    assert "xen" not in pc32.guest("small", "cat /proc/interrupts; ls /sys").lower()
    devices_work(pc32, "sda")
    assert pc32.guest("small", "basename $(readlink /sys/class/net/eth0/device/driver)") == "e1000"
    pc32.check("xl destroy small", 60)
