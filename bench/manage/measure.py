"""What managing guests costs: `xl` in one and the same domain 0 image, on the hypervisor given.

The machine runs by a fixed instruction clock with the counting plugin; bench/manage/mark.S puts
markers around each command in domain 0, bench/manage/first.S one where a guest begins. Counted are
the instructions of the whole machine and the hypervisor's share of them.
"""
import os
import sys

from counts import CLOCK, OUT, TOP, Counts, put

GUESTS = int(os.environ.get("BENCH_GUESTS", "100"))
FIRST = 11                          # first.S
MARKS = {letter: 16 + n for n, letter in enumerate("ABCDEFGHIJ")}


def script():
    """All in one go: the serial line's timing then matters to nothing that is measured."""
    config = 'name=\\"g$i\\"\\nkernel=\\"/tmp/first\\"\\nmemory=16\\nvcpus=1\\non_crash=\\"destroy\\"\\n'
    return f"""
cd /tmp
make() {{ printf "{config}" >/tmp/g$i.cfg; }}
for ((i = 0; i <= {GUESTS}; i++)); do make; done
i=0; xl create -q g0.cfg; xl destroy g0; sleep 10      # what happens only once; idle CPUs clear free memory
./mark A; xl list >/dev/null; ./mark B
xl info free_memory >free0
./mark C; xl create -q g1.cfg; ./mark D
for ((i = 2; i < {GUESTS}; i++)); do xl create -q g$i.cfg; done
i={GUESTS}
./mark E; xl create -q g$i.cfg; ./mark F
./mark G; xl list >/dev/null; ./mark H
sleep 1; xl info free_memory >free1
./mark I; xl destroy g$i; ./mark J
echo $(cat free0 free1)
"""


def measure(hypervisor, tag, machine):
    """{name: (all instructions, hypervisor's)}, and KiB per guest."""
    counts = Counts(tag)
    with machine(tag, hypervisor=hypervisor, cpus=1, memory=4096, net="none",
                 qemu=[*CLOCK, *counts.options]) as m:
        m.boot(400)
        put(m, "mark", f"{OUT}/mark")
        put(m, "first", f"{OUT}/first.elf")
        free = [int(word) for word in m.check(script(), 900).split()[-2:]]
    lines = counts.lines()
    at = {letter: next(i for i, line in enumerate(lines) if line[0] == MARKS[letter])
          for letter in MARKS}

    def between(a, b):
        return (lines[b][1] - lines[a][1], lines[b][2] - lines[a][2])

    first = next(i for i in range(at["C"], len(lines)) if lines[i][0] == FIRST)
    last = next(i for i in range(at["E"], len(lines)) if lines[i][0] == FIRST)
    return {
        "list": between(at["A"], at["B"]),
        "create": between(at["C"], at["D"]),
        "create_to_guest": between(at["C"], first),
        "create_nth": between(at["E"], at["F"]),
        "create_nth_to_guest": between(at["E"], last),
        "list_n": between(at["G"], at["H"]),
        "destroy": between(at["I"], at["J"]),
    }, (free[0] - free[1]) * 1024 / GUESTS - 16 * 1024


if __name__ == "__main__":
    sys.path.insert(0, f"{TOP}/tests/system")
    from machine import Machine
    print(measure(sys.argv[1], sys.argv[2], Machine))
