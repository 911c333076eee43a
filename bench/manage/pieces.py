"""What the pieces of building and destroying a guest cost: bench/manage/pieces.c, which has the table
of rows, in one and the same domain 0 on the hypervisor given. Counted are the hypervisor's
instructions and those of the whole machine; and how many domains it has memory for.
"""
import re

from counts import CLOCK, OUT, Counts, pairs, rows_of

MEMORY = 4096


def rows():
    return rows_of("bench/manage/pieces.c")


def measure(hypervisor, tag, machine):
    """{"rows": [(all instructions, hypervisor's)], "fill": {KiB: (domains, pages)}}."""
    counts = Counts(tag)
    with machine(tag, hypervisor=hypervisor, cpus=1, memory=MEMORY, net="none",
                 xen="spec-ctrl=no xpti=no", extra_disks=[f"{OUT}/pieces"],
                 qemu=[*CLOCK, *counts.options]) as m:
        m.boot(400)
        text = m.check("cat /dev/vdb >/tmp/pieces && chmod +x /tmp/pieces && /tmp/pieces", 3000)
    fill = {kib: (int(domains), int(pages)) for kib, domains, pages in
            re.findall(r"fill (\d+) KiB: (\d+) domains, (\d+) pages", text)}
    return {"rows": pairs(counts.lines()), "fill": fill}
