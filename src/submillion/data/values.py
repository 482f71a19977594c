"""Values of a column as files of answers hold them."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from submillion.data.tables import is_missing


def as_json(value: Any) -> Any:
    """Returns the value as JSON holds it: what is missing as None, what JSON has no kind for as a str.

    Integers of any size, strings, booleans and finite numbers stay as they are; so do lists and mappings of these.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)


def as_cell(value: Any) -> str:
    """Returns the value as a cell of a csv or tsv holds it: "" for what is missing, JSON for booleans and lists."""
    value = as_json(value)
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else str(value)
