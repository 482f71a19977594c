import json
import subprocess
import sys

import pyarrow as pa
import pytest

from submillion.data.tables import (
    Problems,
    Table,
    checked_texts,
    class_label_names,
    find_column,
    find_text,
    is_missing,
    join_texts,
    pick_text,
    pick_text_and_label,
)
from submillion.errors import DataError


@pytest.mark.parametrize(
    ("columns", "role", "found"),
    [
        (["Text", "x"], "text", "Text"),
        (["id", "Review"], "text", "Review"),
        (["headline", "text"], "text", "text"),
        (["label_text", "label"], "label", "label"),
        (["Category"], "label", "Category"),
    ],
)
def test_columns_are_found_by_name(columns, role, found):
    assert find_column(columns, role, "", "a.csv") == found


def test_a_given_column_wins_and_has_to_be_there():
    assert find_column(["text", "words"], "text", "words", "a.csv") == "words"
    with pytest.raises(DataError, match=r"no column 'word' \(--data.text-column\); .*did you mean words\?"):
        find_column(["text", "words"], "text", "word", "a.csv")


def test_no_candidate_and_several_are_errors_that_name_the_flag():
    with pytest.raises(DataError, match=r"several columns could be the label: class, topic; .*--data.label-column"):
        find_column(["class", "topic"], "label", "", "a.csv")
    with pytest.raises(DataError, match=r"no label column; .*found the columns a, b; .*--data.label-column"):
        find_column(["a", "b"], "label", "", "a.csv")


def test_one_column_cannot_be_both():
    with pytest.raises(DataError, match="cannot be both"):
        pick_text_and_label("a", "a", "a.csv")(["a", "b"], ["a"])


def test_for_prediction_a_single_column_of_strings_will_do():
    assert pick_text("", "a.csv")(["id", "words"], ["words"]) == ["words"]
    assert pick_text("", "a.csv")(["text", "words"], ["text", "words"]) == ["text"]
    with pytest.raises(DataError, match="no text column"):
        pick_text("", "a.csv")(["a", "b"], ["a", "b"])


def test_several_text_columns_are_found_by_their_names():
    columns = ["Class Index", "Title", "Description", "a,b"]
    assert find_text(columns, "Title, Description", "a.csv") == ["Title", "Description"]
    assert find_text(columns, "a,b", "a.csv") == ["a,b"]
    assert pick_text_and_label("Title,Description", "", "a.csv")(columns, columns) == [
        "Title",
        "Description",
        "Class Index",
    ]
    with pytest.raises(DataError, match=r"no column 'Descripton' .* did you mean Description\?"):
        find_text(columns, "Title,Descripton", "a.csv")
    with pytest.raises(DataError, match="names a column twice: Title,Title"):
        find_text(columns, "Title,Title", "a.csv")
    with pytest.raises(DataError, match="'Title' cannot be both"):
        pick_text_and_label("Title,Description", "Title", "a.csv")(columns, columns)
    with pytest.raises(DataError, match="or name several to be joined: A,B"):
        find_text(columns, "", "a.csv")


def test_joined_texts_leave_out_what_is_missing():
    titles = ["Oil climbs ", None, "Goal", None, "  ", 7]
    rest = [" on OPEC", "A late one", " ", None, "", "seven"]
    table = Table({"a": titles, "b": rest, "label": list(range(6))}, Problems("x.csv"), range(1, 7))
    joined = join_texts(table, 2)
    assert joined.columns == {"a + b": ["Oil climbs on OPEC", "A late one", "Goal", None, "", 7], "label": [*range(6)]}
    checked_texts(joined, "a + b")
    assert [problem.split(": ")[1] for problem in joined.problems.worded] == [
        "the text is missing",
        "the text is empty",
        "the text is of type int, expected a string",
    ]


def test_missing_values():
    import pandas as pd

    assert all(map(is_missing, [None, float("nan"), pd.NA, pd.NaT]))
    assert not any(map(is_missing, ["", 0, 0.0, False, "nan"]))


def test_label_names_of_a_schema():
    features = {"text": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    entry = json.dumps({"info": {"features": features}})
    assert class_label_names(pa.schema([], {"huggingface": entry}).metadata) == {"label": ("a", "b")}
    for other in (None, {b"pandas": b"{}"}, {b"huggingface": b"{"}, {b"huggingface": b"[]"}):
        assert class_label_names(other) == {}


def test_importing_the_room_imports_nothing_heavy():
    modules = ["corpus", "files", "labels", "objects", "formats.pickles", "sources", "splits", "tables"]
    code = "import sys\n" + "".join(f"import submillion.data.{module}\n" for module in modules)
    code += "print(sorted({'torch', 'datasets', 'pandas', 'scipy', 'sklearn', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
