"""Exports of annotation tools: text, label, and the rows that the tool says are not to be used."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import labelled, refusal, texts

ACCEPTED = [("Goal.", "sport"), ("Bonus.", "money")]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def choice(*labels, cancelled=False):
    result = [{"from_name": "topic", "to_name": "text", "type": "choices", "value": {"choices": list(labels)}}]
    return {"was_cancelled": cancelled, "result": result if labels else []}


def response(value, status="submitted"):
    return {"value": value, "user_id": "u", "status": status}


EXPORTS = {
    "doccano": [{"id": 1, "text": "Goal.", "label": ["sport"]}, {"id": 2, "text": "Bonus.", "label": ["money"]}],
    "doccano, data": [
        {"id": 1, "data": "Goal.", "label": ["sport"], "Comments": []},
        {"id": 2, "data": "Bonus.", "label": ["money"], "Comments": []},
    ],
    "doccano, annotations": [
        {"id": 1, "text": "Goal.", "annotations": [{"label": "sport", "user": 1}]},
        {"id": 2, "text": "Bonus.", "annotations": [{"label": "money", "user": 1}]},
    ],
    "Label Studio": [
        {"id": 1, "data": {"text": "Goal."}, "annotations": [choice("sport"), choice("sport")]},
        {"id": 2, "data": {"text": "Bonus."}, "annotations": [choice("money"), choice(cancelled=True)]},
    ],
    "Label Studio (JSON-MIN)": [
        {"text": "Goal.", "id": 1, "topic": "sport", "annotator": 1, "annotation_id": 1, "lead_time": 2.5},
        {
            "text": "Bonus.",
            "id": 2,
            "topic": {"choices": ["money"]},
            "annotator": 1,
            "annotation_id": 2,
            "lead_time": 1.5,
        },
    ],
    "Prodigy": [
        {"text": "Goal.", "label": "sport", "answer": "accept", "_task_hash": 1},
        {"text": "Bonus.", "label": "money", "answer": "accept", "_task_hash": 2},
    ],
    "Prodigy, choices": [
        {"text": "Goal.", "options": [], "accept": ["sport"], "answer": "accept"},
        {"text": "Bonus.", "options": [], "accept": ["money"], "answer": "accept"},
    ],
    "Argilla": [
        {"id": "1", "fields": {"text": "Goal."}, "responses": {"topic": [response("sport")]}, "suggestions": {}},
        {"id": "2", "fields": {"text": "Bonus."}, "responses": {"topic": [response("money")]}, "suggestions": {}},
    ],
    "Argilla, flat": [
        {"text": "Goal.", "topic.responses": ["sport"], "topic.responses.status": ["submitted"]},
        {"text": "Bonus.", "topic.responses": ["money"], "topic.responses.status": ["submitted"]},
    ],
    "Argilla, version 1": [
        {"inputs": {"text": "Goal."}, "prediction": None, "annotation": "sport", "status": "Validated"},
        {"inputs": {"text": "Bonus."}, "prediction": None, "annotation": "money", "status": "Validated"},
    ],
    "spaCy": [
        {"text": "Goal.", "cats": {"sport": 1.0, "money": 0.0}},
        {"text": "Bonus.", "cats": {"sport": False, "money": True}},
    ],
    "spaCy, pairs": [["Goal.", {"cats": {"sport": 1, "money": 0}}], ["Bonus.", {"cats": {"sport": 0, "money": 1}}]],
    "spaCy, version 2": [
        {"id": 0, "paragraphs": [{"raw": "Goal.", "cats": [{"label": "sport", "value": 1.0}]}]},
        {"id": 1, "paragraphs": [{"raw": "Bonus.", "cats": [{"label": "money", "value": 1.0}]}]},
    ],
}


@pytest.mark.parametrize("name", ["export.jsonl", "export.json"])
@pytest.mark.parametrize("tool", EXPORTS)
def test_an_export_gives_its_texts_and_labels(write, tool, name):
    rows = EXPORTS[tool]
    path = write(name, jsonl(rows) if name.endswith("l") else json.dumps(rows))
    read, notes = labelled(path)
    assert read == ACCEPTED
    assert f"{name}: read as an export of {tool.partition(',')[0]}" in notes
    assert texts(path)[0] == ["Goal.", "Bonus."]


REFUSED = {
    "Prodigy": [
        {"text": "No.", "label": "sport", "answer": "reject", "_task_hash": 3},
        {"text": "Hm.", "label": "sport", "answer": "ignore", "_task_hash": 4},
    ],
    "Prodigy, choices": [
        {"text": "No.", "accept": ["sport"], "answer": "reject"},
        {"text": "Hm.", "accept": [], "answer": "ignore"},
    ],
    "Label Studio": [
        {"id": 3, "data": {"text": "No."}, "annotations": [choice("sport", cancelled=True)]},
        {"id": 4, "data": {"text": "Hm."}, "annotations": [choice(cancelled=True)]},
    ],
    "Argilla": [
        {"fields": {"text": "No."}, "responses": {"topic": [response("sport", "discarded")]}},
        {"fields": {"text": "Hm."}, "responses": {"topic": [response("sport", "draft")]}},
    ],
    "Argilla, flat": [
        {"text": "No.", "topic.responses": ["sport"], "topic.responses.status": ["discarded"]},
        {"text": "Hm.", "topic.responses": ["money"], "topic.responses.status": ["draft"]},
    ],
    "Argilla, version 1": [
        {"text": "No.", "inputs": {}, "prediction": None, "annotation": "sport", "status": "Discarded"},
        {"text": "Hm.", "inputs": {}, "prediction": None, "annotation": "money", "status": "Discarded"},
    ],
}


@pytest.mark.parametrize("tool", REFUSED)
def test_rows_whose_label_does_not_hold_are_left_out_and_counted(write, tool):
    path = write("a.jsonl", jsonl([*EXPORTS[tool][:1], *REFUSED[tool], *EXPORTS[tool][1:]]))
    read, notes = labelled(path)
    assert read == ACCEPTED
    assert any("2 rows left out, for the column 'answer' says so" in note for note in notes)
    assert texts(path)[0] == ["Goal.", "No.", "Hm.", "Bonus."]  # a text is answered whatever its label is worth


FRAME = pd.DataFrame({"text": ["Goal.", "No.", "Bonus."], "label": ["sport", "sport", "money"]})


@pytest.mark.parametrize("answer", ["reject", "ignore", " Reject "])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.xlsx", "a.pkl"])
def test_a_column_of_answers_counts_in_every_format(tmp_path, name, answer):
    frame, path = FRAME.assign(answer=["accept", answer, "accept"]), tmp_path / name
    {
        "a.csv": lambda: frame.to_csv(path, index=False),
        "a.tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "a.jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "a.parquet": lambda: frame.to_parquet(path),
        "a.xlsx": lambda: frame.to_excel(path, index=False),
        "a.pkl": lambda: frame.to_pickle(path),
    }[name]()
    read, notes = labelled(path)
    assert read == ACCEPTED
    assert any(f"1 rows left out, for the column 'answer' says so (1 {answer.strip().lower()})" in n for n in notes)


def test_answers_to_questions_are_no_marks(tmp_path):
    path = tmp_path / "a.csv"
    FRAME.assign(answer=["yes", "reject", "accept"]).to_csv(path, index=False)
    assert len(labelled(path)[0]) == 3
    path.unlink()
    FRAME.assign(answer=["accept", "reject", "reject"]).to_csv(path, index=False)
    assert [label for _, label in labelled(path, label_column="answer")[0]] == ["accept", "reject", "reject"]


def test_a_file_of_refused_rows_alone_is_refused(write):
    path = write("a.jsonl", jsonl(REFUSED["Prodigy"]))
    assert "no row is left" in refusal(path) and "1 reject and 1 ignore" in refusal(path)


def test_a_row_without_a_label_has_none_and_one_of_several_keeps_them_all(write):
    rows = [{"id": 1, "text": "a", "label": []}, {"id": 2, "text": "b", "label": ["x", "y"]}]
    assert labelled(write("a.jsonl", jsonl(rows)))[0] == [("a", None), ("b", ["x", "y"])]
    rows = [{"text": "a", "cats": {"x": 0.1}}, {"text": "b", "cats": {"x": 0.9, "y": 1}}]
    assert labelled(write("b.jsonl", jsonl(rows)))[0] == [("a", None), ("b", ["x", "y"])]


def test_parquet_of_an_answer_column_is_read_by_its_name_alone(tmp_path):
    pq.write_table(
        pa.table({"text": ["a", "b"], "label": ["x", "y"], "Answer": ["accept", None]}), tmp_path / "a.parquet"
    )
    assert labelled(tmp_path / "a.parquet")[0] == [("a", "x"), ("b", "y")]
