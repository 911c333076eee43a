"""The part of docs/benchmarks.md about scheduling, from two runs of each side (scheduling.py)."""
import scheduling as measured
from tables import number, stable, table

SIDES = ("trilby", "xen")


def share(guest, run):
    """The part of the time in which it did its work; what it cost to come to it is not in it."""
    return guest["rounds"] * guest["round"] / run["window"]


def within(guest, part):
    """The least time within which so large a part of the wake-ups came, to 3 %."""
    left = part * guest["wakes"]
    for end, count in guest["late"]:
        left -= count
        if left <= 0:
            return min(end, guest["longest"])
    raise ValueError("no wake-ups")


def percent(part, digits=2):
    return f"{round(100 * part, digits) + 0.0:.{digits}f} %"


def microseconds(ns):
    return f"{ns / 1000:,.0f}"


class Sides:
    """One experiment, as both sides did it, twice each."""

    def __init__(self, data, name):
        self.runs = {side: [run[name] for run in data["runs"][side]] for side in SIDES}

    def first(self, figure):
        """Of the first runs, Trilby's and Xen's, and whether the second ones agree."""
        values = {side: [figure(run) for run in self.runs[side]] for side in SIDES}
        return (*(values[side][0] for side in SIDES),
                all(stable(*values[side]) for side in SIDES))

    def worst(self, figure):
        """Trilby's and Xen's largest."""
        return [max(figure(run) for run in self.runs[side]) for side in SIDES]


def switches(run):
    """Times that a guest was off the CPU for a while in the midst of its work."""
    return sum(guest["gaps"] for guest in run["guests"])


def crowds(data):
    for n in measured.CROWDS:
        sides = Sides(data, f"hogs {n}")
        a, b, same = sides.first(lambda run: run["own"] / run["all"])
        row = [n, f"**{a / b:.2f}**" + ("" if same else " ~"), percent(a), percent(b)]
        for side in SIDES:
            run = sides.runs[side][0]
            row += ["-", "-"] if n == 1 else [f"{run['window'] / 1e6 / switches(run):.1f}",
                                              number(run["own"] / switches(run))]
        yield row


def sleepers(data):
    rows = [(f"{period} ms, {k} that compute", f"{name} {k}")
            for name, period in zip(measured.SLEEPERS, (1, 4)) for k in measured.BESIDE]
    rows += [(f"1 ms, {k} that compute, no rate limit", f"free sleeper {k}") for k in (1, 3)]
    for label, name in rows:
        cells = [Sides(data, name).worst(lambda run, part=part: within(run["guests"][0], part))
                 for part in (0.5, 0.99, 1)]
        yield [label, f"**{cells[1][0] / cells[1][1]:.3f}**",
               *(microseconds(ns) for ns in [a for a, _ in cells] + [b for _, b in cells])]


def missed(data):
    """The largest part of its times that Xen's sleeper was not there for."""
    return percent(max(1 - kept(run) for name in measured.SLEEPERS for k in measured.BESIDE
                       for run in Sides(data, f"{name} {k}").runs["xen"]), 0)


def errors(sides, due):
    """How far shares are from their due ones: the largest, Trilby's and Xen's, in points of the CPU,
    and the same of the share itself."""
    return (sides.worst(lambda run: max(abs(got - want) for got, want in due(run))),
            sides.worst(lambda run: max(abs(got - want) / want for got, want in due(run))))


def by_weight(run):
    got = [share(guest, run) for guest in run["guests"]]
    return [(s / sum(got), w / sum(measured.WEIGHTS)) for s, w in zip(got, measured.WEIGHTS)]


def capped(cap):
    return lambda run: [(share(run["guests"][0], run), cap / 100)]


def shares(data):
    rows = [("weights " + " : ".join(map(str, measured.WEIGHTS)), "weights", by_weight)]
    for cap in measured.CAPS:
        rows += [(f"a cap of {cap} %, alone", f"cap {cap}", capped(cap)),
                 (f"a cap of {cap} %, beside a hog", f"cap {cap} beside", capped(cap))]
    for label, name, due in rows:
        points, parts = errors(Sides(data, name), due)
        yield (label, f"**{points[0] / points[1]:.2f}**", *map(percent, points + parts))


def kept(run):
    worker = run["guests"][0]
    return worker["wakes"] / (worker["wakes"] + worker["missed"])


def stolen(run):
    """What the thief has more than half of what both have."""
    got = [share(guest, run) for guest in run["guests"]]
    return got[0] / sum(got) - 0.5


def pairs(data):
    def least(name):
        return [min(kept(run) for run in Sides(data, name).runs[side]) for side in SIDES]

    rows = [("wakes every 1 ms, works 300 us: kept of its need", least("worker")),
            ("the same without a rate limit", least("free worker")),
            ("works 900 us, sleeps 100 us: beyond its half",
             Sides(data, "thief").worst(stolen))]
    return [(label, *(f"**{percent(value, 1)}**" for value in values)) for label, values in rows]


def slope(data):
    """By how much one switch among most guests is dearer than between two, and Trilby's by Xen's."""
    rows = [row for row in crowds(data) if row[0] > 1]
    ours, theirs = ([float(row[at].replace(",", "")) for row in rows] for at in (5, 7))
    return ours[-1] / ours[0], theirs[-1] / theirs[0], ours[-1] / theirs[-1]


def part(data):
    ours, theirs, ratio = slope(data)
    free = Sides(data, "free hogs 8").first(lambda run: run["own"] / run["all"])
    return f"""## Scheduling (group 3: B13 to B17)

Tiny PV guests (`bench/sched`) on one CPU, created by `xl` beside one and the same domain 0, which
sleeps while they are measured; both schedulers as they are without options. The clock is 8 ns an
instruction, so a virtual second is 125 million instructions, and what a switch takes weighs some
twenty times what it does on today's machines. Guests count their own work. Shares and latencies are
the worse of two runs; "~": counts of two runs differ by more than 0.1 %, as what domain 0 does by
itself now and then does not come at the same time in each.

As they start, both schedulers have a rate limit, by which who runs goes on for a while at least: Xen's
for a millisecond, Trilby's for 100 us. Where it matters most, both were measured without it, too
(`xl sched-credit2 -s -r 0`). With 8 guests that compute Xen's loss is {percent(free[1])} then,
Trilby's {percent(free[0])}.

**Guests that compute.** Loss is the hypervisor's part of all instructions in two seconds; then the
time from one switch to the next, and all that the hypervisor executes by the number of switches.
With {measured.CROWDS[-1]} guests that is {ours:.2f} times what it is with 2 with Trilby, {theirs:.2f} times with
Xen; and Trilby's {ratio:.2f} of Xen's. The aims: a loss of 1 % at most, 1.2 times, 0.33.

{table(("guests", "ratio of loss", "loss, Trilby", "loss, Xen", "ms a turn, Trilby",
        "a switch, Trilby", "ms a turn, Xen", "a switch, Xen"), crowds(data))}
**Latency.** A guest that sleeps until the next millisecond, and one that does until the next
fourth, beside guests that compute: microseconds from the time that it asked for until it runs, and
the ratio of those within which 99 of 100 wake-ups come. Times that passed while it could not even
ask are not among them; Xen's guest missed up to {missed(data)}. The aims: 0.05, and 200 us
at most.

{table(("sleeps for, beside", "ratio of 99 %", "half, Trilby", "99 %, Trilby", "longest, Trilby",
        "half, Xen", "99 %, Xen", "longest, Xen"), sleepers(data))}
**Shares.** How far the time that guests had for their work is from what it should be, in
thirty seconds for weights, four for caps: points of the CPU, and of the share itself. The switches of
a capped guest are on its own account, so it has a little less than its cap. The aim: half a point.

{table(("", "ratio", "points, Trilby", "points, Xen", "of the share, Trilby", "of the share, Xen"),
       shares(data))}
**Beside one that computes**: what a guest with little work keeps of it, and what one gains that
sleeps before its time is over. The aims: 90 % and 1 %.

{table(("", "Trilby", "Xen"), pairs(data))}
The simulation of the policy (`make sim`):

```
{data["sim"].strip()}
```
"""
