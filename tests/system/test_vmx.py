"""Intel's virtualization extension, in Bochs: Debian's kernel as a PVH domain 0.  Everything else
about that backend is asked by tiny kernels (MACHINE=bochs tests/guests/run)."""

import os
import subprocess
import sys
import time

import pytest

import machine as m

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
