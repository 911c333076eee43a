"""Fixtures: one emulated machine at a time, booted once for many tests."""

import base64
import os
import subprocess

import pytest

import machine as m


class Slot:
    """The one machine that may run; another start, or a failure inside it, ends it."""

    def __init__(self):
        self.machine, self.key = None, None
        self.failures = {}

    def stop(self):
        if self.machine:
            self.machine.stop()
        self.machine, self.key = None, None

    def start(self, name, **options):
        """A fresh machine, not yet waited for."""
        self.stop()
        self.machine = m.Machine(name, **options)
        return self.machine

    def shared(self, name, **options):
        """A booted machine that stays for the next test that asks for the same name."""
        if self.key == name and self.machine.child.isalive():
            return self.machine
        # When it does not boot, waiting for it again before each test would take hours.
        if self.failures.get(name, 0) >= 2:
            pytest.fail(f"the machine {name!r} did not boot twice; not tried again", pytrace=False)
        self.failures[name] = self.failures.get(name, 0) + 1
        self.start(name, **options).boot()
        self.failures[name] = 0
        self.key = name
        return self.machine


SLOT = Slot()


@pytest.fixture(scope="session")
def slot():
    yield SLOT
    SLOT.stop()


@pytest.fixture(scope="session")
def spare_disk():
    """A disk with two partitions, an ext4 file system with one file in the first."""
    path = os.path.join(m.LOGS, "spare.img")
    os.makedirs(m.LOGS, exist_ok=True)
    files = os.path.join(m.LOGS, "spare")
    os.makedirs(files, exist_ok=True)
    with open(os.path.join(files, "hello"), "w", encoding="ascii") as file:
        file.write("from the second disk\n")
    with open(path, "wb") as image:
        image.truncate(96 << 20)
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    subprocess.run(["sfdisk", "-q", path], input=b"label: dos\nstart=2048, size=131072, type=83\n"
                   b"start=133120, type=83\n", check=True, env=environment)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", files, "-E", "offset=1048576", path, "64M"],
                   check=True, env=environment, stderr=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def boot_sector():
    """The image, in base64."""
    os.makedirs(m.LOGS, exist_ok=True)
    out = os.path.join(m.LOGS, "boot_sector")
    subprocess.run(["gcc", "-m16", "-c", os.path.join(m.TOP, "tests", "system", "boot_sector.S"), "-o", out + ".o"],
                   check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary",
                    "-o", out + ".img", out + ".o"], check=True)
    with open(out + ".img", "rb") as image:
        return base64.encodebytes(image.read()).decode()


@pytest.fixture
def host(slot, spare_disk):
    """The machine that most tests share: 2 CPUs, 4 GiB, virtio, a spare disk.  It is left without
    guests; a test that breaks it costs the next one a boot."""
    machine = slot.shared("host", cpus=2, memory=4096, extra_disks=[spare_disk],
                          xen="loglvl=all guest_loglvl=all trilby-no-such-option=7")
    yield machine
    if slot.machine is machine:
        destroy_guests(slot)


def destroy_guests(slot):
    try:
        slot.machine.check("for id in $(xl list | awk 'NR > 1 && $2 > 0 { print $2 }'); do"
                           " xl destroy $id; done", 60)
    except m.MachineError:
        slot.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A machine that stopped answering is not given to the next test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.excinfo is not None and call.excinfo.errisinstance(m.MachineError):
        text = str(call.excinfo.value)
        if "console's end" in text:
            SLOT.stop()
