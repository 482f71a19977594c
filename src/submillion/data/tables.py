"""Columns in memory, the problems found in them, and the choice of the text and the label column."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unicodedata import category

from submillion.data.problems import Place, Problems
from submillion.errors import DataError, did_you_mean, encodable

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_NAMES = ("text", "sentence", "content", "document", "review", "article", "headline")
LABEL_NAMES = ("label", "labels", "category", "class", "class index", "target", "topic", "label_text")


class NoLabelColumn(DataError):
    """A table that has a text column, and no label column."""


Pick = Callable[[list[str], list[str]], list[str]]
"""From all column names and the names of the string columns among them: the names of the columns to read."""


class OptionalColumn(str):
    """The name of a picked column that rows of JSON and dicts may lack; their value is None then."""


@dataclass
class Table:
    """The columns that were picked, in the order of the pick, as Python values."""

    columns: dict[str, list[Any]]
    problems: Problems
    rows: Sequence[int]
    """1-based number of each row in its file; a row that could not be read at all has none."""
    lines: Sequence[int] | None = None
    """1-based line on which each row begins, for text files."""
    label_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that the source itself gives to a column's integers."""
    files: Sequence[str] | None = None
    """The file of each row, if every row is a file of its own."""

    parts: Sequence[str] | None = None
    """The file of each row, if the table stands in several."""

    def place(self, index: int) -> Place:
        """Returns where the row at an index of the columns stands."""
        line = self.lines[index] if self.lines is not None else 0
        file_of_row = self.files or self.parts
        return Place(self.rows[index], line, file_of_row[index] if file_of_row is not None else "")

    def at(self, index: int) -> str:
        """Returns 'row 3 (line 4)', or the name of the row's own file, for the row at an index of the columns."""
        return self.files[index] if self.files is not None else str(self.place(index))

    def taken(self, indices: Sequence[int]) -> "Table":
        """Returns the rows at some indices, with the table's own problems."""

        def part(values: Sequence[Any] | None) -> list[Any] | None:
            return None if values is None else [values[index] for index in indices]

        return replace(
            self,
            columns={name: [values[index] for index in indices] for name, values in self.columns.items()},
            rows=[self.rows[index] for index in indices],
            lines=part(self.lines),
            files=part(self.files),
            parts=part(self.parts),
        )

    def only(self, indices: Sequence[int]) -> "Table":
        """Returns the rows at some indices, without the problems that were found so far."""
        problems = Problems(self.problems.where, self.problems.fix, notes=self.problems.notes)
        return replace(self.taken(indices), problems=problems)

    def places(self) -> list[Place]:
        """Returns where each row stands."""
        return [self.place(index) for index in range(len(self.rows))]


def lacks(row: Mapping[Any, Any], wanted: Sequence[str]) -> list[str]:
    """Returns the wanted columns that the row must have and has not."""
    return [name for name in wanted if name not in row and not isinstance(name, OptionalColumn)]


def is_missing(value: Any) -> bool:
    """Returns whether a value is None, NaN, or pandas' NA or NaT (by name: pandas need not be imported for this)."""
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def checked_texts(table: Table, column: str) -> list[str]:
    """Returns the column's texts; each value that is no usable text is added to the table's problems."""
    texts = table.columns[column]
    for index, text in enumerate(texts):
        if is_missing(text):
            table.problems.add(f"{table.at(index)}: the text is missing")
        elif isinstance(text, str) and (not text or text.isspace()):
            table.problems.add(f"{table.at(index)}: the text is empty")
        elif problem := _no_text(text):
            table.problems.add(f"{table.at(index)}: {problem}")
    return texts


def answerable_texts(table: Table, column: str) -> list[str]:
    """Returns the column's texts, "" for those that are missing or blank: each row gets an answer.

    What is no text is added to the table's problems.
    """
    texts = blank_as_empty(table.columns[column])
    for index, text in enumerate(texts):
        if problem := _no_text(text):
            table.problems.add(f"{table.at(index)}: {problem}")
    return texts


def blank_as_empty(texts: Sequence[Any]) -> list[Any]:
    """Returns the texts, "" for those that are missing or blank. What is no text stays as it is."""
    return ["" if is_blank(text) else text for text in texts]


def is_blank(value: Any) -> bool:
    """Returns whether a text is missing or holds no character that can be seen: spaces, line ends, marks of width 0."""
    if not isinstance(value, str):
        return is_missing(value)
    return all(character.isspace() or category(character) in ("Cc", "Cf") for character in value)


def _no_text(value: Any) -> str:
    """Returns why a value is no text, and "" for a text."""
    if not isinstance(value, str):
        return f"the text is of type {type(value).__name__}, expected a string"
    # json.loads accepts "\ud83d" alone; no tokenizer does.
    return "" if encodable(value) else "the text holds half of a surrogate pair, which is no character"


def find_column(columns: list[str], role: str, given: str, where: str, flag: str = "", fix: str = "") -> str:
    """Returns the column for a role, "text" or "label": the given one, else the one whose name says so.

    given: a name, or a number counted from 1. flag: how it can be given, for the errors; --data.ROLE-column unless told
    otherwise. fix: what to do if no name says so or several do; to name the column with the flag unless told otherwise.

    A column named exactly as the role is taken before any other candidate. Raises DataError for a given column that is
    not there, for no candidate and for several.
    """
    flag = flag or f"--data.{role}-column"
    if given:
        if given in columns:
            return given
        if given.isdecimal() and len(given) < 6 and 0 < int(given) <= len(columns):
            return columns[int(given) - 1]
        raise (NoLabelColumn if role == "label" else DataError)(
            f"{where}: no column {given!r} ({flag}); the columns are {', '.join(columns)}{did_you_mean(given, columns)}"
        )
    known = TEXT_NAMES if role == "text" else LABEL_NAMES
    exact = [column for column in columns if column.lower() == role]
    candidates = exact or [column for column in columns if column.lower() in known]
    if len(candidates) == 1:
        return candidates[0]
    what = f"several columns could be the {role}: {', '.join(candidates)}" if candidates else f"no {role} column"
    name_it = f"name it with {flag} NAME" + (", or name several to be joined: A,B" if role == "text" else "")
    kind = NoLabelColumn if role == "label" and not candidates else DataError
    raise kind(
        f"{where}: {what}; expected one of {', '.join(known)}, found the columns {', '.join(columns)}; {fix or name_it}"
    )


def find_text(columns: list[str], given: str, where: str, flag: str = "--data.text-column", fix: str = "") -> list[str]:
    """Returns the text column, or the columns that are given with commas between them, whose texts are read as one.

    Raises DataError for a column that is named twice, and as `find_column` does.
    """
    names = [given] if given in columns else [name.strip() for name in given.split(",") if name.strip()] or [""]
    found = [find_column(columns, "text", name, where, flag, fix) for name in names]
    if len(set(found)) < len(found):
        raise DataError(f"{where}: {flag} names a column twice: {given}")
    return found


def join_texts(table: Table, count: int) -> Table:
    """Returns the table with its first `count` columns as one: title and description become "title description".

    A part that is missing or blank is left out. A part that is no string takes the place of the whole text, for
    `checked_texts` to refuse.
    """
    names = list(table.columns)[:count]
    if count == 1:
        return table
    parts = zip(*(table.columns.pop(name) for name in names), strict=True)
    return replace(table, columns={" + ".join(names): [_joined(row) for row in parts], **table.columns})


def _joined(parts: Sequence[Any]) -> Any:
    there = [part for part in parts if not is_missing(part)]
    if not there:
        return None
    wrong = [part for part in there if not isinstance(part, str)]
    return wrong[0] if wrong else " ".join(part.strip() for part in there if part.strip())


def pick_text(text_column: str, where: str, flag: str = "--text-column", fix: str = "") -> Pick:
    """Returns the pick of the text column or columns, for texts without labels.

    A single column of strings is taken whatever its name. fix: as for `find_column`.
    """

    def pick(columns: list[str], strings: list[str]) -> list[str]:
        unnamed = not text_column and not any(column.lower() in TEXT_NAMES for column in columns)
        return strings if unnamed and len(strings) == 1 else find_text(columns, text_column, where, flag, fix)

    return pick


def pick_text_and_label(text_column: str, label_column: str, where: str, fix: str = "") -> Pick:
    """Returns the pick of the text column or columns, then the label column, for training.

    fix: as for `find_column`. The pick raises DataError as `find_column` does, and for a column that is both.
    """

    def pick(columns: list[str], strings: list[str]) -> list[str]:
        texts = find_text(columns, text_column, where, fix=fix)
        label = find_column(columns, "label", label_column, where, fix=fix)
        if label in texts:
            raise DataError(f"{where}: {label!r} cannot be both the text and the label; name both columns")
        return [*texts, label]

    return pick


def from_arrow(table: "pa.Table", pick: Pick, problems: Problems, first_row: int = 1) -> Table:
    """Returns the picked columns of a pyarrow table.

    A string that is not UTF-8 becomes a problem of its row. Raises DataError if two columns have one name.
    """
    schema = table.schema
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise DataError(f"{problems.where}: each column needs its own name, found twice: {', '.join(repeated)}")
    wanted = pick(schema.names, [field.name for field in schema if _is_string(field.type)])
    rows = range(first_row, first_row + table.num_rows)
    columns = {name: _values(table.column(name), rows, name, problems) for name in wanted}
    return Table(columns, problems, rows, label_names=class_label_names(schema.metadata))


def _values(column: "pa.ChunkedArray", rows: range, name: str, problems: Problems) -> list[Any]:
    """Returns a column's values; bytes are decoded as UTF-8, decimals are integers or floats."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_bytes = _is_binary(kind)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values, is_bytes = column.cast(pa.large_binary()).to_pylist(), True
    if is_bytes:
        return [_decoded(value, row, name, problems) for row, value in zip(rows, values, strict=True)]
    if pa.types.is_decimal(kind):
        return [value if value is None else int(value) if value == int(value) else float(value) for value in values]
    return values


def _is_binary(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _is_string(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view() or _is_binary(kind)


def _decoded(value: bytes | None, row: int, column: str, problems: Problems) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} of column {column!r} (0x{value[error.start]:02x})"
        problems.add(f"row {row}: {byte} is not UTF-8", kind=f"{column!r} is not UTF-8")
        return value.decode(errors="replace")


def class_label_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Returns {ClassLabel column: its names} of the schema entry that Hugging Face datasets writes into its files."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # no such entry, or one that is not about label names


def with_class_labels(table: "pa.Table", names: Mapping[str, Sequence[str]]) -> "pa.Table":
    """Returns the table with the names of its ClassLabel columns in the schema, for `class_label_names` to read."""
    features = {column: {"_type": "ClassLabel", "names": list(labels)} for column, labels in names.items()}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
