"""Exports of annotation tools, told by their shape: doccano, Label Studio, Prodigy, Argilla, spaCy.

Each becomes plain rows with the keys "text", "label" and, if the tool says so, "answer": accept, reject or ignore.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

JsonRow = dict[str, Any]


@dataclass(frozen=True)
class AnnotationTool:
    """An annotation tool: how its rows are told from others, and how one becomes text and label."""

    name: str
    is_row: Callable[[Any], bool]
    to_row: Callable[[Any], JsonRow]

    def row(self, value: Any) -> JsonRow | None:
        """Returns the row with its text and label; None for a value that is none of the tool's rows.

        A row that the tool's shape does not fit is returned as it is.
        """
        if self.is_row(value):
            return self.to_row(value)
        return value if isinstance(value, dict) else None


def tool_of(values: Sequence[Any]) -> AnnotationTool | None:
    """Returns the tool that wrote these values; None if they are plain rows.

    A tool whose mark may be absent from rows without a label is told by the first row that has it.
    """
    rows = [value for value in values if isinstance(value, dict | list)]
    if not rows:
        return None
    for tool in TOOLS:
        if all(map(tool.is_row, rows)):
            return tool
    return None


def _one_or_all(labels: Sequence[Any]) -> Any:
    """Returns the label of a row: None without any, the one, or all of them as a list."""
    distinct = list(dict.fromkeys(label if isinstance(label, str | int) else str(label) for label in labels))
    return distinct[0] if len(distinct) == 1 else distinct or None


def _has(value: Any, **kinds: type) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())


# ---- doccano ----


def _is_doccano(value: Any) -> bool:
    text = _has(value, text=str) or _has(value, data=str)
    if not text or "answer" in value:
        return False
    labels = value.get("label", value.get("labels"))
    marked = "id" in value or "Comments" in value or "annotation_approver" in value
    if _has(value, annotations=list) and value["annotations"]:
        return all(_has(item) and "label" in item for item in value["annotations"])
    return marked and isinstance(labels, list) and all(isinstance(label, str | int) for label in labels)


def _from_doccano(value: JsonRow) -> JsonRow:
    labels: Any = value.get("label", value.get("labels"))
    if labels is None:
        labels = [item["label"] for item in value.get("annotations") or []]
    text = value["text"] if isinstance(value.get("text"), str) else value["data"]
    return {**value, "text": text, "label": _one_or_all(labels)}


# ---- Label Studio ----


def _is_label_studio(value: Any) -> bool:
    return _has(value, data=dict) and isinstance(value.get("annotations", value.get("completions")), list)


def _from_label_studio(value: JsonRow) -> JsonRow:
    kept, cancelled = [], 0
    annotations: Any = value.get("annotations", value.get("completions"))
    for annotation in annotations:
        if not isinstance(annotation, dict):
            continue
        cancelled += bool(annotation.get("was_cancelled"))
        if not annotation.get("was_cancelled"):
            kept.append(_choices(annotation.get("result")))
    labels = [label for choices in kept for label in choices]
    answer = {"answer": "ignore"} if cancelled and not kept else {}
    row = {"label": _one_or_all(labels), **answer}
    return {**value["data"], **({} if "label" in value["data"] and not kept else row)}


def _choices(result: Any) -> list[Any]:
    values: list[Any] = (
        [part.get("value") for part in result if isinstance(part, dict)] if isinstance(result, list) else []
    )
    return [choice for value in values if _has(value, choices=list) for choice in value["choices"]]


_MIN_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}


def _is_label_studio_min(value: Any) -> bool:
    return _has(value) and {"annotator", "annotation_id"} <= value.keys()


def _from_label_studio_min(value: JsonRow) -> JsonRow:
    row = {key: _choice(inner) for key, inner in value.items()}
    others = [key for key in row if key not in _MIN_KEYS and key != "text" and isinstance(row[key], str | list)]
    choices = [key for key in others if isinstance(value[key], dict)] or others
    return row | ({"label": row[choices[0]]} if "label" not in row and len(choices) == 1 else {})


def _choice(value: Any) -> Any:
    return _one_or_all(value["choices"]) if _has(value, choices=list) else value


# ---- Prodigy ----

ANSWERS = ("accept", "reject", "ignore")


def _is_prodigy(value: Any) -> bool:
    return _has(value, text=str) and (value.get("answer") in ANSWERS or "_task_hash" in value)


def _from_prodigy(value: JsonRow) -> JsonRow:
    if isinstance(value.get("accept"), list) and "label" not in value:
        return {**value, "label": _one_or_all(value["accept"])}
    return value


# ---- Argilla ----

_ARGILLA_ANSWERS = {"discarded": "reject", "draft": "ignore", "pending": "ignore", "default": "ignore"}


def _is_argilla(value: Any) -> bool:
    if _has(value, fields=dict) and ("responses" in value or "suggestions" in value):
        return True
    if _has(value) and any(key.endswith(".responses") for key in value):
        return True
    return _has(value) and "annotation" in value and "prediction" in value and ("text" in value or "inputs" in value)


def _from_argilla(value: JsonRow) -> JsonRow:
    if "annotation" in value and "prediction" in value:  # version 1
        inputs: JsonRow = value["inputs"] if _has(value, inputs=dict) else {}
        label = value["annotation"]
        status = str(value.get("status")).lower()
        answer = {"answer": "reject"} if status == "discarded" else {}
        text = {"text": value["text"]} if isinstance(value.get("text"), str) else {}
        return {**inputs, **text, "label": _one_or_all(label) if isinstance(label, list) else label, **answer}
    fields: JsonRow = value["fields"] if _has(value, fields=dict) else value
    responses = _argilla_responses(value)
    labels = [label for label, status in responses if status not in _ARGILLA_ANSWERS]
    refused = [_ARGILLA_ANSWERS[status] for _, status in responses if status in _ARGILLA_ANSWERS]
    answer = {"answer": refused[0]} if refused and not labels else {}
    return {**fields, "label": _one_or_all([label for label in labels if label is not None]), **answer}


def _argilla_responses(value: JsonRow) -> list[tuple[Any, str]]:
    """Returns the answers of the annotators with their status, in the nested and in the flat form of version 2."""
    responses = value.get("responses")
    if isinstance(responses, dict):
        flat = [answer for answers in responses.values() if isinstance(answers, list) for answer in answers]
        return [(answer.get("value"), str(answer.get("status"))) for answer in flat if isinstance(answer, dict)]
    key = next((key for key in value if key.endswith(".responses")), "")
    labels, statuses = value.get(key) or [], value.get(f"{key}.status") or []
    if not isinstance(labels, list):
        return [(labels, str(statuses))]
    statuses = statuses if isinstance(statuses, list) else [statuses]
    return [(label, str(status)) for label, status in zip(labels, [*statuses, *labels[len(statuses) :]], strict=False)]


# ---- spaCy ----


def _is_spacy(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and isinstance(value[0], str) and _has(value[1], cats=dict)
    return _has(value, text=str, cats=dict) or (_has(value, paragraphs=list) and "id" in value)


def _from_spacy(value: Any) -> JsonRow:
    if isinstance(value, list):
        return {"text": value[0], "label": _held(value[1]["cats"])}
    if "paragraphs" not in value:
        return {**value, "label": _held(value["cats"])}
    paragraphs = [paragraph for paragraph in value["paragraphs"] if isinstance(paragraph, dict)]
    cats: JsonRow = {}
    for paragraph in paragraphs:
        listed: list[Any] = paragraph["cats"] if _has(paragraph, cats=list) else []
        cats |= {str(cat.get("label")): cat.get("value") for cat in listed if isinstance(cat, dict)}
    texts = [paragraph["raw"] for paragraph in paragraphs if isinstance(paragraph.get("raw"), str)]
    return {"text": "\n".join(texts) if texts else None, "label": _held(cats)}


def _held(cats: JsonRow) -> Any:
    """Returns the categories that hold: those whose value is true, or more than a half."""
    held = [name for name, value in cats.items() if isinstance(value, bool | int | float) and value > 0.5]
    return _one_or_all(held)


TOOLS = (
    AnnotationTool("Label Studio", _is_label_studio, _from_label_studio),
    AnnotationTool("Label Studio (JSON-MIN)", _is_label_studio_min, _from_label_studio_min),
    AnnotationTool("Argilla", _is_argilla, _from_argilla),
    AnnotationTool("spaCy", _is_spacy, _from_spacy),
    AnnotationTool("Prodigy", _is_prodigy, _from_prodigy),
    AnnotationTool("doccano", _is_doccano, _from_doccano),
)
