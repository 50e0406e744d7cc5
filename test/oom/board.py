"""What fail.c counts and does in a program, and where in the program that was."""
import bisect
import mmap
import os
import struct
import subprocess

FRAMES = 30  # of fail.c
LAYOUT = struct.Struct(f"<4Q{FRAMES}Q{FRAMES}Q")  # struct board


class Board:
    """The file that a program with fail.c under it looks at (FAIL_FILE)."""

    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as file:
            file.truncate(LAYOUT.size)
            self.map = mmap.mmap(file.fileno(), LAYOUT.size)

    def read(self):
        numbers = LAYOUT.unpack_from(self.map)
        return numbers[:4], numbers[4:4 + FRAMES], numbers[4 + FRAMES:]

    def arm(self, first, last):
        """Counts from 0 again; those from `first` to `last` will fail."""
        self.map[:LAYOUT.size] = LAYOUT.pack(
            0, first, last, 0, *[0] * (2 * FRAMES))

    def disarm(self):
        """Lets all succeed; returns (counted, failed)."""
        (count, _, _, failed), _, _ = self.read()
        struct.pack_into("<2Q", self.map, 8, 0, 0)
        return count, failed

    def failed_at(self):
        return [address for address in self.read()[1] if address]

    def aborted_at(self):
        return [address for address in self.read()[2] if address]


class Symbols:
    """The functions of a process, by address. `maps`: where fail.c wrote what
    it has loaded."""

    tables = {}  # of a library: its exported functions, sorted

    def __init__(self, maps, program):
        self.program = os.path.realpath(program)
        self.maps = []
        with open(maps) as file:
            for line in file:
                fields = line.split()
                if len(fields) < 6 or not fields[5].startswith("/"):
                    continue
                start, end = (int(part, 16) for part in fields[0].split("-"))
                self.maps.append((start, end, int(fields[2], 16), fields[5]))

    def find(self, address):
        """(file, offset in it) or None."""
        for start, end, offset, path in self.maps:
            if start <= address < end:
                # The first segment lies at 0 in all that we load.
                base = min(s for s, _, o, p in self.maps if p == path)
                return path, address - base
        return None

    def table(self, path):
        if path not in self.tables:
            out = subprocess.run(["nm", "-D", "--defined-only", path],
                                 capture_output=True, text=True).stdout
            self.tables[path] = sorted(
                (int(line.split()[0], 16), line.split()[2].split("@")[0])
                for line in out.splitlines() if len(line.split()) == 3)
        return self.tables[path]

    def names(self, addresses):
        """The functions, innermost first: our own, inlined ones included, by
        name, and a library's as library:the exported one before it."""
        names = []
        for address in addresses:
            place = self.find(address - 1)  # the call, not what follows it
            if place is None:
                continue
            path, offset = place
            if path == self.program:
                names += self.own(offset)
                continue
            table = self.table(path)
            at = bisect.bisect(table, (offset, "\x7f")) - 1
            library = os.path.basename(path).split(".")[0].split("-")[0]
            if library != "fail":
                names.append(
                    f"{library}:{table[at][1] if at >= 0 else '?'}")
        return names

    def own(self, offset):
        out = subprocess.run(
            ["addr2line", "-f", "-i", "-s", "-e", self.program, hex(offset)],
            capture_output=True, text=True).stdout.splitlines()
        return [f"{name} ({place})" for name, place in
                zip(out[::2], out[1::2])]
