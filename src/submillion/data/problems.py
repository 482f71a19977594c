"""What is wrong with one file: one cause is told once, with how many rows have it and which come first."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from submillion.errors import DataError

SHOWN = 20  # causes worded in an error; the rest are counted
FIRST_PLACES = 5  # rows named of one cause
_PLACE = re.compile(r"(?:row (\d+)(?: \(line (\d+)\))?|line (\d+))(?: of ([^:\n]+))?: ", re.ASCII)  # as of Place
CORRECT_FILE = "fix: correct the file there, or save it again"


@dataclass(frozen=True)
class Place:
    """Where in a file: a row, the line on which it begins, or a line that belongs to no row known; 0 for none."""

    row: int = 0
    line: int = 0
    part: str = ""
    """The file that the row stands in, of a split in several files."""

    def __str__(self) -> str:
        line = f"line {self.line}" if self.line else ""
        where = f"row {self.row}" + (f" ({line})" if line else "") if self.row else line
        return f"{where} of {self.part}" if self.part else where


@dataclass
class Cause:
    """One kind of problem: its first wording, the advice for it, and every place that has it."""

    wording: str
    fix: str
    count: int = 0
    places: list[Place] = field(default_factory=list)

    def line(self) -> str:
        """Returns "row 2 (line 3): the text is empty; 5 times in all, also row 3 (line 4), ..."."""
        where = f"{self.places[0]}: " if self.places else ""
        if self.count == 1:
            return f"{where}{self.wording}"
        others = ", ".join(str(place) for place in self.places[1:FIRST_PLACES])
        also = f", also {others}" + (", ..." if len(self.places) > FIRST_PLACES else "") if others else ""
        return f"{where}{self.wording}; {self.count:,} times in all{also}"


@dataclass
class Problems:
    """What is wrong with one file, collected so that one error names it all."""

    where: str
    fix: str = "fix: correct or remove these rows"
    """The advice for a problem that brings none of its own."""
    causes: dict[str, Cause] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """How the file was understood if that is not obvious, a plain line each, for a person to see."""

    def note(self, line: str) -> None:
        """Keeps a line about how the file was understood, once."""
        if line not in self.notes:
            self.notes.append(line)

    @property
    def count(self) -> int:
        return sum(cause.count for cause in self.causes.values())

    @property
    def worded(self) -> list[str]:
        """Returns a line for each of the first SHOWN causes."""
        return [cause.line() for cause in list(self.causes.values())[:SHOWN]]

    def add(self, problem: str, kind: str = "", fix: str = "") -> None:
        """Adds a problem.

        One that begins with a place, "row 3 (line 4): " or "line 4: ", is told once with all others of its kind. kind:
        what makes two problems one cause; the words after the place unless given. fix: the advice for it.
        """
        match = _PLACE.match(problem)
        wording = problem[match.end() :] if match else problem
        cause = self.causes.setdefault(kind or wording, Cause(wording, fix))
        cause.count += 1
        if match:
            row, line_of_row, line = (int(number or 0) for number in match.groups()[:3])
            cause.places.append(Place(row, line_of_row or line, match[4] or ""))

    def take(self, others: "Problems", part: str) -> None:
        """Adds the problems of a part of the file, which is a file of its own of that name."""
        for kind, theirs in others.causes.items():
            cause = self.causes.setdefault(kind, Cause(theirs.wording, theirs.fix))
            cause.count += theirs.count
            cause.places += [replace(place, part=part) for place in theirs.places]
        for line in others.notes:
            self.note(line)

    def stop(self, problem: str, fix: str = CORRECT_FILE) -> DataError:
        """Returns the error for a problem after which reading cannot go on, with those found before it."""
        self.add(f"{problem}; reading stopped here", fix=fix)
        return self.error()

    def error(self) -> DataError:
        """Returns the error that names every cause, and after them the advice for each."""
        count, causes = self.count, list(self.causes.values())
        lines = [f"{self.where}: {count:,} problem{'s' if count > 1 else ''}", *self.worded]
        if rest := sum(cause.count for cause in causes[SHOWN:]):
            lines.append(f"and {rest:,} more")
        fixes = dict.fromkeys(cause.fix or self.fix for cause in causes)
        return DataError("\n".join(["\n  ".join(lines), *fixes]))

    def check(self) -> None:
        """Raises DataError if anything was found."""
        if self.causes:
            raise self.error()

    def by_place(self) -> Iterator[tuple[Place, str]]:
        """Yields each place with what is wrong there."""
        for cause in self.causes.values():
            for place in cause.places:
                yield place, cause.wording
