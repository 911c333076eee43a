"""An HVM guest (type="hvm") by the stock tools: hvmloader, SeaBIOS, and QEMU as device model run a
boot sector of ours from an emulated disk.  Emulated SVM makes each access to a device dear: the BIOS
alone takes tens of seconds."""

import base64
import os
import subprocess

import pytest

import machine as m

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def boot_sector():
    """The image, in base64."""
    os.makedirs(m.LOGS, exist_ok=True)
    out = os.path.join(m.LOGS, "boot_sector")
    subprocess.run(["gcc", "-m16", "-c", os.path.join(HERE, "boot_sector.S"), "-o", out + ".o"],
                   check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary",
                    "-o", out + ".img", out + ".o"], check=True)
    with open(out + ".img", "rb") as image:
        return base64.encodebytes(image.read()).decode()


def create(host, name, boot_sector, **settings):
    """Its words on the serial port are in /var/log/NAME.serial."""
    host.check(f"base64 -d >/root/{name}.img <<'END'\n{boot_sector}END\n"
               f"truncate -s 1M /root/{name}.img; rm -f /var/log/{name}.serial")
    config = dict(name=name, type="hvm", memory=128, vcpus=1, vnc=1,
                  disk=[f"format=raw, vdev=hda, access=rw, target=/root/{name}.img"],
                  serial=f"file:/var/log/{name}.serial")
    config.update(settings)
    text = "".join(f"{key} = {m.to_config(value)}\n" for key, value in config.items())
    host.check(f"cat >/root/{name}.cfg <<'END'\n{text}END\nxl create /root/{name}.cfg", 60)


def says(host, name, what, seconds=120):
    host.wait_for(f"grep -q '{what}' /var/log/{name}.serial", seconds, pause=2)


def test_boot_sector(host, boot_sector):
    """Firmware, disk, serial port, timer and keyboard of the emulated PC; its end leaves nothing."""
    before = host.free_memory()
    create(host, "pc", boot_sector)
    says(host, "pc", "boot sector runs", 240)
    says(host, "pc", "second sector read")
    says(host, "pc", "the timer ticks")
    # While it waits for its device model or for anything, it can be paused and goes on.
    host.check("xl pause pc; xl list pc; xl unpause pc")
    host.check("xl destroy pc", 60)
    host.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)


@pytest.mark.slow
def test_device_model_dies(host, boot_sector):
    """The guest stands still, nobody else notices, and it can be destroyed."""
    before = host.free_memory()
    create(host, "orphan", boot_sector)
    says(host, "orphan", "boot sector runs", 240)
    host.check("pkill -9 -f qemu-system.*orphan; sleep 2; xl list")
    host.check("xl pause orphan; xl vcpu-list orphan; xl unpause orphan; xl destroy orphan", 60)
    host.wait_for(f"[ $(xl info free_memory) -ge {before} ]", 30)
