"""The counters of bench/counter/counter.c as they come."""
import base64
import os
import re

BEGIN, END = 1, 2                   # the markers around an operation
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = f"{TOP}/build/bench"
CLOCK = ["-icount", "shift=3,sleep=off"] # 8 ns an instruction
MACHINE = ["-rtc", "base=2020-01-01,clock=vm", "-accel", "tcg,thread=single"]


def rows_of(source):
    """[(name, operations)] of the table in a program that does them one after the other."""
    with open(f"{TOP}/{source}", encoding="utf-8") as f:
        return [(name, int(n)) for name, n in
                re.findall(r'\{"([^"]+)", \w+, \w+, (\d+)\}', f.read())]


def pairs(lines, begin=BEGIN, end=END):
    """[(all instructions, the hypervisor's)] between the markers of each pair in there."""
    return [(e[1] - b[1], e[2] - b[2]) for b, e in
            zip(*([line for line in lines if line[0] == which] for which in (begin, end)),
                strict=True)]


def put(m, name, source):
    """A program, as /tmp/NAME of domain 0."""
    with open(source, "rb") as f:
        data = base64.b64encode(f.read()).decode()
    for at in range(0, len(data), 20000):
        m.check(f"echo {data[at:at + 20000]} >>/tmp/{name}.64", 100)
    m.check(f"base64 -d /tmp/{name}.64 >/tmp/{name} && chmod +x /tmp/{name}")


class Counts:
    """One run of the machine; @watch are addresses whose execution is wanted, too."""

    def __init__(self, tag, watch=()):
        self.path = f"{OUT}/{tag}.counts"
        if os.path.exists(self.path):
            os.remove(self.path)
        plugin = f"{OUT}/counter.so,out={self.path}"
        self.options = MACHINE + ["-plugin", plugin + "".join(f",watch={at:#x}" for at in watch)]

    def lines(self):
        """[(marker or address, all instructions, the hypervisor's)] so far."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="utf-8") as f:
            words = [[int(word) for word in line.split()] for line in f if line.endswith("\n")]
        return [(line[0], line[1] + line[1 + (len(line) - 1) // 2], line[1]) for line in words]
