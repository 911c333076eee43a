"""A machine with Intel's virtualization extension: Bochs, which starts GRUB from a CD that is made here.

Debian's Bochs has its debugger in it, which is told to continue, and only displays that draw: the
one for terminals gets a terminal that nobody looks at. It comes to no end by itself and ignores
SIGTERM.
"""
import os
import pty
import re
import subprocess
import threading
import tty

RC = """\
config_interface: textconfig
display_library: term
cpu: model={model}, count={cpus}, ips=150000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
vga: extension=none, update_freq=1
pci: enabled=1, chipset=i440fx
plugin_ctrl: speaker=0, sb16=0, es1370=0, gameport=0, parallel=0, unmapped=1
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
{disk}boot: cdrom
com1: enabled=1, mode={mode}, dev={serial}
clock: sync=none, time0=utc
log: {log}
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""


DISK = """\
ata0-slave: type=disk, mode=volatile, path={path}, journal={base}.written, cylinders={cylinders}, heads=16, spt=32
"""


def start(base, serial, hypervisor, xen_args, kernel, kernel_args, err, initrd="none", disk=None,
          memory=512):
    """Boots the machine with files of its own at BASE.*; the process, whose death is its end.  SERIAL
    is a terminal or the file that is written; what is written to DISK is gone with the process."""
    terminal = serial.startswith("/dev/")
    if not terminal:
        open(serial, "wb").close()
    image = f"{base}.image"
    subprocess.run(["strip", "-o", image, hypervisor], check=True)
    subprocess.run(["system/iso/build", f"{base}.iso", "bios1", image, xen_args, kernel, kernel_args, initrd],
                   check=True)
    with open(f"{base}.bochsrc", "w", encoding="ascii") as f:
        f.write(RC.format(model=os.environ.get("BOCHS_CPU", "corei7_skylake_x"), cpus=os.environ.get("SMP", "2"),
                          memory=memory, iso=f"{base}.iso", disk=disk_line(base, disk) if disk else "",
                          mode="term" if terminal else "file", serial=serial, log=f"{base}.bochs"))
    with open(f"{base}.commands", "w", encoding="ascii") as f:
        f.write("c\n")
    ours, its = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(["bochs-bin", "-q", "-f", f"{base}.bochsrc", "-rc", f"{base}.commands"],
                               stdin=its, stdout=its, stderr=subprocess.PIPE, env=env, start_new_session=True)
    os.close(its)
    threading.Thread(target=drain, args=(ours,), daemon=True).start()
    err = os.fdopen(os.dup(err.fileno()), "wb", buffering=0) # the caller may close its own first
    threading.Thread(target=messages, args=(process.stderr, err), daemon=True).start()
    return process


def disk_line(base, path):
    """The disk's size must be a whole number of its cylinders."""
    cylinders, rest = divmod(os.path.getsize(path), 16 * 32 * 512)
    assert rest == 0, f"{path}: {rest} bytes more than cylinders of 256 KiB"
    return DISK.format(base=base, path=path, cylinders=cylinders)


def messages(pipe, err):
    """Copies what Bochs says to ERR.  It draws the machine's screen on a terminal that it makes itself
    and names, and stands still once nobody reads what it draws."""
    for line in pipe:
        err.write(line)
        if screen := re.search(rb'connected to screen "(.*)"', line):
            terminal = os.open(screen[1], os.O_RDWR | os.O_NOCTTY)
            tty.setraw(terminal)
            threading.Thread(target=drain, args=(terminal,), daemon=True).start()


def drain(terminal):
    """Reads what is drawn until nobody draws any more."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass
    os.close(terminal)
