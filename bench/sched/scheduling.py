"""Scheduling, measured: tiny guests on one CPU beside an idle domain 0, on the hypervisor given.

All guests (bench/sched/guest) are created paused; bench/sched/watch.c lets some of them run
together and prints what they did between two markers. The machine runs by a fixed instruction
clock of 8 ns an instruction, so what guests and domain 0 call time is instructions.
"""
import json
import os
import sys

from counts import CLOCK, OUT, TOP, Counts, pairs, put

HOGS = int(os.environ.get("BENCH_HOGS", "128"))
BEGIN, END = 16, 17                     # watch.c
CROWDS = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= HOGS]
SLEEPERS = ("sleeper", "drowsy")
BESIDE = (0, 1, 3, 7)                   # hogs
WEIGHTS = (128, 256, 512, 1024)
CAPS = (10, 25, 50)


def experiments():
    """[(name, virtual seconds, guests, commands before it)]."""
    def hogs(n):
        return [f"hog{i}" for i in range(n)]

    def sched(*changes):
        return "; ".join(f"xl sched-credit2 -d {name} {change}" for name, change in changes)

    yield from ((f"hogs {n}", 2, hogs(n), "") for n in CROWDS)
    yield from ((f"{name} {k}", 4, [name] + hogs(k), "") for name in SLEEPERS for k in BESIDE)
    yield "worker", 4, ["worker"] + hogs(1), ""
    yield "thief", 4, ["thief"] + hogs(1), ""
    for cap in CAPS:
        yield f"cap {cap}", 4, hogs(1), sched(("hog0", f"-c {cap}"))
    for cap in CAPS:
        yield f"cap {cap} beside", 4, hogs(2), sched(("hog0", f"-c {cap}"))
    yield ("weights", 30, hogs(len(WEIGHTS)),
           sched(("hog0", "-c 0"), *((f"hog{i}", f"-w {w}") for i, w in enumerate(WEIGHTS))))
    again = "xl sched-credit2 -s -r 0; " + sched(*((f"hog{i}", "-w 256") for i in range(len(WEIGHTS))))
    yield "free hogs 8", 2, hogs(8), again
    yield from ((f"free sleeper {k}", 4, ["sleeper"] + hogs(k), "") for k in (1, 3))
    yield "free worker", 4, ["worker"] + hogs(1), ""


def script(chosen):
    """Lines: "run NAME", then what watch.c prints."""
    text = """cd /tmp
make() { printf "name=\\"$1\\"\\nkernel=\\"/tmp/sched.elf\\"\\nmemory=8\\nvcpus=1\\n" >$1.cfg
    printf "extra=\\"$2\\"\\ntsc_mode=\\"native\\"\\n" >>$1.cfg; xl create -qpe $1.cfg || exit; }
run() { echo "run $1"; ./watch $2 $(for g in $3; do xl domid $g; done) || exit; }
"""
    names = sorted({name for _, _, names, _ in chosen for name in names})
    text += "".join(f"make {name} {name.rstrip('0123456789')}\n" for name in names)
    for name, seconds, who, before in chosen:
        text += f"{before}\nsleep 0.2\nrun '{name}' {seconds} '{' '.join(who)}'\n"
    return text


def parse(output, lines, chosen):
    """{experiment: {"window": ns, "all": instructions, "own": the hypervisor's, "guests": [what each
    did in the window]}}"""
    found = {}
    for (name, _, _, _), text, (everything, own) in zip(chosen, output.split("run ")[1:],
                                                        pairs(lines, BEGIN, END), strict=True):
        rows = [line.split() for line in text.splitlines()[1:]]
        guests = [{**dict(zip(("round", "rounds", "gaps", "wakes", "missed", "longest"),
                              map(int, row[1:7]))),
                   "late": [[int(n) for n in slot.split(":")] for slot in row[7:]]}
                  for row in rows[1:]]
        found[name] = {"window": int(rows[0][1]), "all": everything, "own": own, "guests": guests}
    return found


def measure(hypervisor, tag, machine, chosen=None):
    chosen = chosen or list(experiments())
    counts = Counts(tag)
    with machine(tag, hypervisor=hypervisor, cpus=1, memory=2560, net="none",
                 xen="spec-ctrl=no xpti=no", qemu=[*CLOCK, *counts.options]) as m:
        m.boot(400)
        for name in ("sched.elf", "watch"):
            put(m, name, f"{OUT}/{name}")
        output = m.check(script(chosen), 3000)
    return parse(output, counts.lines(), chosen)


if __name__ == "__main__":
    # HYPERVISOR TAG [KIND OF EXPERIMENT...]
    sys.path.insert(0, f"{TOP}/tests/system")
    from machine import Machine
    print(json.dumps(measure(sys.argv[1], sys.argv[2], Machine, [
        e for e in experiments() if len(sys.argv) < 4 or e[0].split()[0] in sys.argv[3:]])))
