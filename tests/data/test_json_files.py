"""JSON in the shapes that people have, whatever the file's ending says."""

import json

import pandas as pd
import pytest
from reading import labelled, refusal, texts

ROWS = [{"text": "Goal.", "label": "sport"}, {"text": "Bonus.", "label": "money"}]
PAIRS = [("Goal.", "sport"), ("Bonus.", "money")]
FRAME = pd.DataFrame(ROWS)
SHAPES = {
    "lines": "".join(json.dumps(row) + "\n" for row in ROWS),
    "array": json.dumps(ROWS),
    "indented array": json.dumps(ROWS, indent=2),
    "array, a row on each line": "[" + ",\n".join(json.dumps(row) for row in ROWS) + "]",
    "below a key": json.dumps({"version": "1.0", "data": ROWS}),
    "below two keys": json.dumps({"corpus": {"meta": {"n": 2}, "rows": ROWS}}, indent=1),
    "by columns": FRAME.to_json(orient="columns"),
    "split": FRAME.to_json(orient="split"),
    "lists": json.dumps(FRAME.to_dict("list")),
    "array of arrays": json.dumps([["text", "label"], *map(list, PAIRS)]),
    "lines of arrays": "".join(json.dumps(row) + "\n" for row in [["text", "label"], *map(list, PAIRS)]),
}


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".ndjson", ".json.gz"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_read_whatever_the_ending(write, shape, ending):
    import gzip

    content = SHAPES[shape].encode()
    assert labelled(write(f"a{ending}", gzip.compress(content) if ending.endswith("gz") else content))[0] == PAIRS


def test_the_first_object_may_lack_the_label(write):
    lines = '{"text": "a"}\n{"text": "b", "label": "x"}\n{"label": "y", "text": "c", "more": 1}\n'
    assert labelled(write("a.jsonl", lines))[0] == [("a", None), ("b", "x"), ("c", "y")]


def test_strings_are_texts(write):
    assert texts(write("a.json", '["Goal.", "Bonus."]'))[0] == ["Goal.", "Bonus."]
    assert texts(write("a.jsonl", '"Goal."\n"Bonus."\n'))[0] == ["Goal.", "Bonus."]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps({"train": ROWS, "test": ROWS}), "found several: train, test"),
        ("[1, 2]", "no text column"),
        ('{"text": "a", "label": "x"}\n["b"]\n', "line 2: expected a JSON object, found list"),
        ("[" * 5000, "no JSON array"),
        ("3\n4\n", "expected a JSON object, found int"),
        ('[{"text": "a"},\n{"text": \n', "no JSON"),
    ],
)
def test_what_has_no_rows_is_refused(write, content, words):
    assert words in refusal(write("a.json", content))


def test_the_place_of_nested_rows_is_said(write):
    _, notes = labelled(write("a.json", SHAPES["below two keys"]))
    assert notes == ("a.json: the rows are read below the key 'corpus.rows'",)
