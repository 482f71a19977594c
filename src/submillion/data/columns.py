"""Which columns a saved model reads: those the caller names, else those it was trained on, else those found by name."""

from dataclasses import dataclass

from submillion.data.tables import Pick, pick_text_and_label


@dataclass(frozen=True)
class Columns:
    """The names of a text and a label column, as --text-column and --label-column take them; "" is not known.

    Several text columns stand with commas between them: "Title,Description".
    """

    text: str = ""
    label: str = ""


NO_COLUMNS = Columns()


def has_text(columns: list[str], text: str) -> bool:
    """Returns whether a table has the text column `text`, or all of those that stand there with commas between them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return bool(names) and (text in columns or set(names) <= set(columns))


def known_text(columns: list[str], text_column: str, trained: Columns) -> str:
    """Returns the text column that the caller names, else the trained one if the table has it, else ""."""
    return text_column or (trained.text if has_text(columns, trained.text) else "")


def pick_trained(text_column: str, label_column: str, trained: Columns, where: str, fix: str = "") -> Pick:
    """Returns the pick of the text columns and the label column of a table called `where`.

    A column that the caller names is taken, else the one the model was trained on if the table has it, else one found
    by name. fix: as for `find_column`. The pick raises DataError as `pick_text_and_label` does.
    """

    def pick(columns: list[str], strings: list[str]) -> list[str]:
        text = known_text(columns, text_column, trained)
        taken = [text, *(name.strip() for name in text.split(","))]
        trained_label = trained.label if trained.label in columns and trained.label not in taken else ""
        return pick_text_and_label(text, label_column or trained_label, where, fix)(columns, strings)

    return pick


def other_columns(read: Columns, trained: Columns, given: Columns) -> list[str]:
    """Returns a sentence for each column that was read in place of the one the model was trained on.

    read: what was read. given: what the caller named, which needs no word.
    """
    roles = (
        ("texts", read.text, trained.text, given.text),
        ("labels", read.label, trained.label, given.label),
    )
    return [
        f"{role} are read from {name!r}: there is no column {expected!r}, on which the model was trained"
        for role, name, expected, named in roles
        if name and expected and name != expected and not named
    ]
