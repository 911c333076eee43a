"""How figures are written in docs/benchmarks.md."""
import math


def stable(a, b):
    return abs(a - b) <= 0.001 * max(a, b)


def geomean(values):
    values = list(values)
    return math.exp(sum(math.log(v) for v in values) / len(values))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def number(n):
    return f"{n:,.0f}" if n >= 100 else f"{n:.1f}"
