"""Reading text in pictures of screens.

A picture is (width, height, lit), the last a byte per point, 0 or 1. Text is read with glyphs that
were seen before, so no font is needed here, only cells of one size."""

import json
import os
import socket
import tempfile

ASCII = "".join(map(chr, range(33, 127)))


def cells(picture, wide=8, high=16):
    """Rows of cells, each the lines of its points."""
    width, height, lit = picture
    return [[tuple(lit[(high * y + line) * width + wide * x:][:wide] for line in range(high))
             for x in range(width // wide)] for y in range(height // high)]


def learn(row):
    """{cell: character} from a row of cells that begins with ASCII; each must look different."""
    glyphs = dict(zip(row, ASCII))
    assert len(glyphs) == len(ASCII)
    blank = tuple(bytes(len(line)) for line in row[0])
    assert blank not in glyphs
    glyphs[blank] = " "
    return glyphs


def text(rows, glyphs):
    return "\n".join("".join(glyphs.get(cell, "?") for cell in row).rstrip() for row in rows)


class Monitor:
    """QEMU's own control socket: for pictures of the emulated machine's screen. Give OPTIONS to the
    machine first."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="trilby-") # paths of sockets must be short
        self.path = os.path.join(self.folder.name, "qmp")
        self.options = ["-qmp", f"unix:{self.path},server=on,wait=off"]

    def picture(self):
        name = self.path + ".ppm"
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(120)
            peer.connect(self.path)
            lines = peer.makefile("rw", encoding="utf-8")
            lines.readline()
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": "screendump", "arguments": {"filename": name}}):
                lines.write(json.dumps(command) + "\n")
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "error" not in answer, answer
        with open(name, "rb") as file:
            kind, size, _, points = file.read().split(b"\n", 3)
        assert kind == b"P6"
        width, height = map(int, size.split())
        # The brightest of the three colours.
        lit = bytes(max(points[i:i + 3]) > 64 for i in range(0, width * height * 3, 3))
        return width, height, lit
