"""Plain text files to columns: a text on each line, or fastText's lines, which begin with their label."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from submillion.data.formats.grid import Row, chunked
from submillion.data.formats.options import ReadOptions
from submillion.data.formats.separated import separated_tables
from submillion.data.formats.text import TextFile, find_text_file
from submillion.data.tables import Pick, Problems, Table
from submillion.errors import DataError

MARK = "__label__"
PEEKED = 100
MOST_TABBED = 0.9  # of the lines, that hold one tab: then they may be columns


def plain_tables(path: Path, pick: Pick, problems: Problems, options: ReadOptions, chunk_rows: int) -> Iterator[Table]:
    """Yields the picked columns of a text file: "text", and "label" if the lines begin with __label__.

    If the options name a separator or say whether there is a header, the file is read as separated values. Raises
    DataError if a label is asked for and the lines have none.
    """
    if options.separator != "auto" or options.header == "yes":
        yield from separated_tables(path, pick, problems, options, chunk_rows)
        return
    file = find_text_file(path, options, problems)
    first = [line for line in islice(file.lines(Problems(path.name)), PEEKED) if line.strip()]
    if first and all(line.startswith(MARK) for line in first):
        problems.note(f"{path.name}: read as fastText's lines: the label after {MARK}, then the text")
        wanted = pick(["label", "text"], ["label", "text"])
        yield from chunked(_fasttext_rows(file, wanted, problems), wanted, problems, chunk_rows)
        return
    unlabelled = next((number for number, line in enumerate(first, start=1) if not line.startswith(MARK)), 0)
    if unlabelled and any(line.startswith(MARK) for line in first):
        raise DataError(
            f"{path.name}: expected every line to begin with {MARK}, as the others do, found one that does not: "
            f"line {unlabelled} of those with text\nfix: correct or remove that line"
        )
    if first and sum(line.count("\t") == 1 for line in first) >= MOST_TABBED * len(first):
        problems.note(
            f"{path.name}: each line is read as one text, with the tab in it; {options.flag('separator')} tab reads "
            "columns"
        )
    try:
        wanted = pick(["text"], ["text"])
    except DataError as error:
        raise type(error)(  # it may be a NoLabelColumn, which a held-out split may have
            f"{path.name}: no label column, it is a text a line\n"
            f"fix: lines such as {MARK}sport Late goal wins the cup; or, where columns are separated by tabs, "
            f"{options.flag('separator')} tab; or a csv with a header"
        ) from None
    yield from chunked(_text_rows(file, problems), wanted, problems, chunk_rows)


def _text_rows(file: TextFile, problems: Problems) -> Iterator[Row]:
    for number, line in enumerate(file.lines(problems), start=1):
        yield number, number, [line.rstrip("\r\n")]


def _fasttext_rows(file: TextFile, wanted: list[str], problems: Problems) -> Iterator[Row]:
    for number, line in enumerate(file.lines(problems), start=1):
        labels, rest = [], line.strip()
        while rest.startswith(MARK):
            word, _, rest = rest.partition(" ") if "\t" not in rest.split(" ")[0] else rest.partition("\t")
            labels.append(word.removeprefix(MARK))
            rest = rest.lstrip()
        if not labels and not rest:
            continue  # a blank line is no row of fastText's
        if len(labels) > 1 and "label" in wanted:
            problems.add(f"line {number}: several labels ({', '.join(labels)}), expected one label for each text")
            continue
        values = {"label": labels[0] if labels else None, "text": rest}
        yield number, number, [values[name] for name in wanted]
