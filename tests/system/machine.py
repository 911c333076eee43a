"""An emulated PC with Trilby in it, and a domain 0 that runs commands for a test.

QEMU is started by system/qemu, which alone knows its command line.  Everything goes over the
serial console, because that is what a person has and because it works as soon as domain 0's
console does; system/dom0/files/usr/lib/trilby/agent is the other end and explains the protocol.
"""

import base64
import collections
import os
import re
import shlex
import signal
import time

import pexpect

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD", os.path.join(TOP, "build"))
HYPERVISOR = os.environ.get("HYPERVISOR", os.path.join(BUILD, "trilby"))
LOGS = os.environ.get("TEST_LOGS", os.path.join(BUILD, "test-logs"))

# All waiting times below are for an idle machine with two cores; engineers share theirs.
SLOW = float(os.environ.get("TEST_PATIENCE", "3"))

# How pexpect reads the serial console.
TALK = {"timeout": 60 * SLOW, "encoding": "utf-8", "codec_errors": "replace", "maxread": 65536}


class MachineError(AssertionError):
    """The machine did not do what a test relies on; carries the end of its console."""


class Result:
    """What a command in domain 0 printed (both streams), and its exit status."""

    def __init__(self, command, status, output):
        self.command, self.status, self.output = command, status, output

    def __repr__(self):
        return f"<{self.command!r} exit {self.status}: {self.output[-2000:]}>"


class Machine:
    """One run of the emulated PC.  Options are those of system/qemu, with _ for -."""

    started = collections.Counter()

    def __init__(self, name, extra_disks=(), linux="", qemu=(), agent=True, **options):
        self._open_log(name)
        options.setdefault("hypervisor", HYPERVISOR)
        options.setdefault("serial", "stdio")
        options["linux"] = f"{linux} trilby=agent".strip() if agent else linux
        command = [os.path.join(TOP, "system", "qemu")]
        for key, value in options.items():
            command += ["--" + key.replace("_", "-"), str(value)]
        for disk in extra_disks:
            command += ["--extra-disk", disk]
        command += ["--", *qemu]
        self.log.write("$ " + " ".join(map(shlex.quote, command)) + "\n")
        self.log.flush()
        self._talk_to(pexpect.spawn(command[0], command[1:], echo=False, **TALK))

    def _open_log(self, name):
        os.makedirs(LOGS, exist_ok=True)
        # The console of one that had to be given up is kept.
        self.started[name] += 1
        again = "" if self.started[name] == 1 else f".{self.started[name]}"
        self.log_path = os.path.join(LOGS, name + again + ".log")
        self.log = open(self.log_path, "w", encoding="utf-8", errors="replace")

    def _talk_to(self, child):
        self.child = child
        child.logfile_read = self.log
        # The pause that pexpect makes before each write is for password prompts.
        child.delaybeforesend = None
        self.tag = 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()

    def stop(self):
        """Ends QEMU at once, if it still runs."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close()
        self.log.close()

    def console(self):
        """All that appeared on the serial console so far."""
        self.log.flush()
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def _fail(self, what):
        lines = [line for line in self.console().replace("\r", "").split("\n") if line.strip()]
        tail = "\n".join(lines[-25:])
        raise MachineError(f"{what}; the console's end ({self.log_path}):\n{tail}") from None

    def expect(self, pattern, seconds=60, what=None):
        """Waits for a pattern on the serial console and returns the match."""
        try:
            self.child.expect(pattern, timeout=seconds * SLOW)
        except pexpect.TIMEOUT:
            self._fail(f"no {what or pattern!r} within {seconds * SLOW:.0f} s")
        except pexpect.EOF:
            self._fail(f"the machine ended before {what or pattern!r}")
        return self.child.match

    def expect_line(self, pattern, seconds=60):
        """Waits for a whole line that has the pattern in it and returns it.  Lines that only repeat
        the command line, as boot loaders and kernels do, are not counted."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            left = (deadline - time.monotonic()) / SLOW
            line = self.expect(r"([^\n]*)\n", max(left, 0.1), f"line with {pattern!r}").group(1)
            if re.search(pattern, line) and not re.search(r"(?i)command ?line", line):
                return line.strip()
            if left <= 0:
                self._fail(f"no line with {pattern!r} within {seconds * SLOW:.0f} s")

    def wait_end(self, seconds=60):
        """Waits until QEMU ends by itself (power-off; a reboot too, as it is told not to)."""
        try:
            self.child.expect(pexpect.EOF, timeout=seconds * SLOW)
        except pexpect.TIMEOUT:
            self._fail(f"the machine did not end within {seconds * SLOW:.0f} s")

    def boot(self, seconds=90):
        """Waits until domain 0 takes commands."""
        self.expect(r"@ready\r*\n", seconds, "domain 0 ready for commands")
        return self

    # Commands.

    def _put(self, command):
        text = base64.b64encode(command.encode()).decode()
        pieces = [text[i:i + 90] for i in range(0, len(text), 90)] or [""]
        for number, piece in enumerate(pieces):
            for _ in range(8):
                self.child.send(f"piece {number} {len(piece)} {piece}\n")
                try:
                    self.child.expect(rf"@got {number}\r*\n", timeout=5 * SLOW)
                    break
                except pexpect.TIMEOUT:
                    # An unfinished line may still sit in the terminal: end it, then once more.
                    self.child.send("\n")
                except pexpect.EOF:
                    self._fail("the machine ended while it was given a command")
            else:
                self._fail("domain 0 does not take a command")

    def run(self, command, seconds=30):
        """Runs a bash script in domain 0."""
        self._put(command)
        self.tag += 1
        tag = f"t{self.tag}"
        self.child.send(f"run {tag}\n")
        deadline = time.monotonic() + seconds * SLOW
        lines = {}
        line = re.compile(rf"@{tag} (?:(\d+) (\d+) ([A-Za-z0-9+/=]*)|end (\d+) (\d+))\r*\n")
        while True:
            try:
                self.child.expect(line, timeout=max(1, deadline - time.monotonic()))
            except pexpect.EOF:
                self._fail(f"the machine ended during {command!r}")
            except pexpect.TIMEOUT:
                self._fail(f"no end of {command!r} within {seconds * SLOW:.0f} s")
            number, length, data, count, status = self.child.match.groups()
            if number is not None:
                if len(data) == int(length):
                    lines[int(number)] = data
                continue
            if all(n in lines for n in range(1, int(count) + 1)):
                break
            if time.monotonic() > deadline:
                self._fail(f"the output of {command!r} did not come whole")
            self.child.send("again\n")
        text = base64.b64decode("".join(lines[n] for n in sorted(lines)))
        return Result(command, int(status), text.decode(errors="replace"))

    def check(self, command, seconds=30):
        """Runs a command that must succeed and returns its output without the last newline."""
        return self._output(self.run(command, seconds))

    def _output(self, result):
        if result.status != 0:
            raise MachineError(f"exit {result.status} of {result.command!r} in domain 0:\n"
                               f"{result.output[-3000:]}")
        return result.output.rstrip("\n")

    def wait_for(self, command, seconds=60, pause=0.5):
        """Repeats a command in domain 0 until it succeeds; returns its output."""
        tries = int(seconds * SLOW / pause)
        return self.check(f"for ((i = 0; i < {tries}; i++)); do if o=$({command} 2>&1); then"
                          f' echo "$o"; exit 0; fi; sleep {pause}; done; echo "$o"; exit 1',
                          seconds * 3)

    # Guests.

    def guest(self, name, command, seconds=60):
        """Runs a command inside a guest, typed at its console, and returns its output."""
        limit = int(seconds * SLOW)
        result = self.run(f"/usr/lib/trilby/guest-run {name} {shlex.quote(command)} {limit}",
                          seconds + 10)
        if result.status == 125:
            # What its vCPUs were doing instead, for whoever reads only this.
            state = self.run("xl list; xl vcpu-list; xl debug-keys q; xl dmesg | tail -40", 30)
            raise MachineError(f"{result.output}\n{state.output}")
        return self._output(result)

    def put_config(self, name, **settings):
        """Writes /root/NAME.cfg from settings as an xl.cfg has them.  Guests under SVM stay off CPU 0:
        in QEMU 7.2 an FXRSTOR on any CPU clears a flag of the first one without a lock
        (cpu_clear_ignne()), in the word that also holds "nested paging is on" and the global
        interrupt flag, so that a #VMEXIT there can be undone in part."""
        config = {"name": name, "memory": 192, "vcpus": 1}
        if settings.get("type", "pv") != "pv":
            config["cpus"] = "1"
        if settings.get("type") != "hvm":
            config.update({
                "kernel": "/boot/guest/vmlinuz-amd64",
                "ramdisk": "/boot/guest/initrd-amd64",
                "extra": f"root=/dev/xvda1 console=hvc0 name={name}",
            })
        config.update(settings)
        text = "".join(f"{key} = {to_config(value)}\n" for key, value in config.items())
        self.check(f"cat >/root/{name}.cfg <<'END'\n{text}END")

    def create(self, name, login=True, seconds=60, **settings):
        """Creates a guest with `xl create` from settings as an xl.cfg has them."""
        self.put_config(name, **settings)
        self.check(f"rm -f /var/log/xen/console/guest-{name}.log; xl create /root/{name}.cfg", seconds)
        if login:
            self.wait_login(name)

    def wait_login(self, name, boots=1, seconds=90):
        """Waits until the console log of a guest that started so many times ends in a login
        prompt.  Prompts themselves do not count starts: each empty line at one gives another."""
        self.wait_for(f"/usr/lib/trilby/at-login {name} {boots}", seconds)

    def free_memory(self):
        """What the hypervisor has free, in MiB."""
        return int(self.check("xl info free_memory"))

    def free_pages(self):
        """The same to the page: the hypervisor's own count in its log, where it is Trilby."""
        self.check("xl debug-keys M; sleep 0.2")
        counts = re.findall(r"memory: (\d+) of \d+ pages free", self.check("xl dmesg"))
        return int(counts[-1]) if counts else self.free_memory() * 256

    def domid(self, name):
        return int(self.check(f"xl domid {name}"))

    def vnc_port(self, name):
        return int(self.check(f"xenstore-read /local/domain/{self.domid(name)}/console/vnc-port"))


def disk(image, vdev="xvda", access="rw"):
    """A line of disk=: one of the guests' images by its name, or a path."""
    if not image.startswith("/"):
        image = f"/var/lib/guests/{image}.img"
    return f"format=raw, vdev={vdev}, access={access}, target={image}"


def to_config(value):
    """A value in the syntax of xl.cfg."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_config(item) for item in value) + "]"
    if isinstance(value, int):
        return str(value)
    return '"' + value + '"'
