"""Intel's virtualization extension, in Bochs: Debian's kernel as a PVH domain 0, and guests that the
stock tools create.  Everything else about that backend is asked by tiny kernels (MACHINE=bochs
tests/guests/run)."""

import os
import pty
import subprocess
import sys
import time
import tty

import pexpect.fdpexpect
import pytest

import machine as m
import test_hvm

sys.path.insert(0, os.path.join(m.TOP, "tests", "guests"))
import bochs

INIT = r"""
#define CALL(n, a, b, c, d) ({ long r_; register long r10_ asm("r10") = d; asm volatile("syscall" \
    : "=a"(r_) : "a"((long)n), "D"((long)(a)), "S"((long)(b)), "d"((long)(c)), "r"(r10_) \
    : "rcx", "r11", "memory"); r_; })
void _start(void)
{
    static const char text[] = "user space: and it slept\n";
    long second[2] = {1, 0};
    CALL(1, 1, text, 11, 0); /* write */
    CALL(35, second, 0, 0, 0); /* nanosleep: timers */
    CALL(1, 1, text + 11, sizeof(text) - 12, 0);
    CALL(169, 0xfee1dead, 672274793, 0x4321fedc, 0); /* reboot: power off */
    for (;;)
        ;
}
"""


class IntelMachine(m.Machine):
    """The same domain 0 on a CPU of Intel's: the serial port leads to a terminal of ours."""

    def __init__(self, name, base):
        self._open_log(name)
        ours, self.its = pty.openpty()
        tty.setraw(self.its)
        images = os.path.join(m.BUILD, "dom0")
        with open(f"{base}.err", "wb") as err:
            self.process = bochs.start(base, os.ttyname(self.its), m.HYPERVISOR,
                                       "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all dom0_mem=768M",
                                       os.path.join(images, "vmlinuz"), "console=hvc0 trilby=agent", err,
                                       initrd=os.path.join(images, "initrd"),
                                       disk=os.path.join(images, "root.img"), memory=2048)
        self._talk_to(pexpect.fdpexpect.fdspawn(ours, **m.TALK))

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.child.close()
        os.close(self.its)
        self.log.close()


def initrd(path):
    """An initramfs of one program without any library."""
    tree = path + ".tree"
    os.makedirs(os.path.join(tree, "dev"), exist_ok=True)
    subprocess.run(["gcc", "-O1", "-static", "-nostdlib", "-fno-stack-protector", "-x", "c", "-o",
                    os.path.join(tree, "init"), "-"], input=INIT.encode(), check=True)
    subprocess.run(f"cd {tree} && find . | cpio -o -H newc --quiet >{path}", shell=True, check=True)


@pytest.mark.slow
def test_stock_kernel(slot, tmp_path):
    slot.stop()
    serial, archive = str(tmp_path / "serial"), str(tmp_path / "initrd")
    initrd(archive)
    with open(tmp_path / "err", "wb") as err:
        process = bochs.start(str(tmp_path / "bochs"), serial, m.HYPERVISOR,
                              "com1=115200,8n1 console=com1 loglvl=all dom0_mem=384M dom0=pvh dom0_max_vcpus=2",
                              os.path.join(m.BUILD, "dom0", "vmlinuz"), "console=hvc0 loglevel=5 swiotlb=force",
                              err, initrd=archive)
    try:
        end = time.time() + 400 * m.SLOW
        while time.time() < end and process.poll() is None: # powered off, it ends
            time.sleep(1)
    finally:
        process.kill()
        process.wait()
    with open(serial, "rb") as file:
        text = file.read()
    assert b"VMX: EPT" in text, text[-2000:]
    assert b"user space: and it slept" in text, text[-2000:]
    assert b"reboot: Power down" in text, text[-2000:]


@pytest.fixture(scope="module")
def intel(slot, tmp_path_factory):
    slot.stop()
    with IntelMachine("vmx", str(tmp_path_factory.mktemp("vmx") / "bochs")) as machine:
        yield machine.boot(400)


# One vCPU each: Bochs 2.7 lets no interrupt stop a guest that was entered with its own off, so that two
# vCPUs on one CPU may wait for each other for ever.

@pytest.mark.slow
def test_stock_tools(intel, boot_sector):
    """xl creates a PVH guest with Debian's kernel and disk, and an HVM guest with stock firmware and
    device model; they run beside each other."""
    assert "hvm hap" in intel.check("xl info virt_caps", 60)
    before = intel.free_memory()
    intel.create("light", type="pvh", cpus="0-1", memory=128, seconds=200, disk=[m.disk("one")], login=False)
    test_hvm.create(intel, "pc", boot_sector, cpus="0-1", memory=64)
    for what in ("boot sector runs", "second sector read", "the timer ticks"):
        test_hvm.says(intel, "pc", what, 400)
    intel.wait_login("light", seconds=400)
    assert "GenuineIntel" in intel.guest("light", "cat /proc/cpuinfo", 200)
    intel.check("xl destroy pc; xl destroy light", 100)
    intel.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 60)


@pytest.mark.slow
def test_debian(intel):
    """An unmodified Debian from its disk by BIOS and GRUB, with the para-virtual drivers in it."""
    test_hvm.create_pc(intel, "debian", vcpus=1, cpus="0-1", vif=[f"mac={test_hvm.MAC}"])
    said = intel.guest("debian", "cat /proc/cmdline /proc/cpuinfo", 900)
    assert "BOOT_IMAGE=/boot/vmlinuz" in said and "GenuineIntel" in said
    assert intel.guest("debian", "cat /sys/hypervisor/guest_type /sys/class/net/eth0/address", 200
                       ).split() == ["HVM", test_hvm.MAC]
    test_hvm.same_on_both_ways(intel, "debian")
    intel.check("xl shutdown -w debian", 200)
