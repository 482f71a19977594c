"""Leaves out the rows that an annotation tool's export marks as rejected or ignored: their label does not hold."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from submillion.data.tables import Pick, Table, is_missing
from submillion.errors import DataError

COLUMN = "answer"
REFUSED = ("reject", "rejected", "ignore", "ignored", "skip", "skipped")
ANSWERS = ("accept", "accepted", *REFUSED)


class AnswerName(str):
    """The name of a column of answers that was read beside the picked ones, also in tables that were joined."""


def with_answers(pick_of: Callable[[str], Pick]) -> Callable[[str], Pick]:
    """Returns what picks the columns that the given picks take, and beside them the column of answers, if there is one.

    pick_of: from what errors call a table, what picks its columns.
    """

    def picks(where: str) -> Pick:
        pick = pick_of(where)

        def picked(columns: list[str], strings: list[str]) -> list[str]:
            wanted = pick(columns, strings)
            answers = [AnswerName(name) for name in columns if name.lower() == COLUMN and name not in wanted]
            return [*wanted, *answers[:1]]

        return picked

    return picks


def accepted(table: Table) -> Table:
    """Returns the table without the answers, and without the rows that these refuse; notes how many.

    A column that holds other values than ANSWERS is no such column. Raises DataError if no row is left.
    """
    name = next((name for name in table.columns if isinstance(name, AnswerName)), None)
    if name is None:
        return table
    answers = table.columns[name]
    rest = replace(table, columns={key: column for key, column in table.columns.items() if key != name})
    given = Counter(str(answer).strip().lower() for answer in answers if not is_missing(answer))
    given.pop("", None)
    refused = {answer: given[answer] for answer in REFUSED if given[answer]}
    if not refused or not all(answer in ANSWERS for answer in given):
        return rest
    counts = " and ".join(f"{count:,} {answer}" for answer, count in refused.items())
    where = table.problems.where
    kept = [index for index, answer in enumerate(answers) if str(answer).strip().lower() not in REFUSED]
    if not kept:
        raise DataError(f"{where}: no row is left, for the column {name!r} says of all: {counts}")
    table.problems.note(f"{where}: {sum(refused.values()):,} rows left out, for the column {name!r} says so ({counts})")
    return rest.taken(kept)
