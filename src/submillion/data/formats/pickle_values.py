"""Reads the records of a pickle as values, for exactly the forms that datasets, pandas, numpy and pyarrow write.

A hostile pickle can at worst describe a wrong table, and pyarrow's own full validation holds that one to its buffers.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from submillion.data.formats.pickle_nodes import Node, expect, mapping
from submillion.data.tables import with_class_labels
from submillion.errors import DataError

MOST_COLUMNS = 1_000_000  # that a range may name: it takes no room in the file


def plain(value: Any) -> Any:
    """Returns what a node describes: a pyarrow.Table, a dict of columns or a list; dicts and lists item by item.

    Raises DataError for a memory-mapped dataset, whose rows are in another file, and for columns of one name; any other
    exception for records that do not fit together.
    """
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, type) and issubclass(value, Node) and value.kind == "missing":
        return None
    if not isinstance(value, Node):
        return value
    if value.kind == "Dataset":
        return _dataset(value)
    if value.kind == "DatasetDict":
        return {key: plain(item) for key, item in (mapping(value) | value.items).items()}
    if value.kind == "DataFrame":
        return _frame(value)
    if value.kind == "Series":
        name = value.state.get("_name") or value.state.get("name")
        return {str(name or "text"): _values(value.state["_mgr"].state[1][0])}
    if value.kind == "arrow_table":
        return _arrow_table(value)
    return _values(value)


# ---- datasets ----


def _dataset(node: Node) -> Any:
    table = _dataset_table(node.state["_data"])
    indices = node.state.get("_indices")
    if indices is not None:  # left by select, shuffle, filter, sort: the rows that count, in their order
        table = table.take(_dataset_table(indices).column(0))
    features = expect(expect(node.state["_info"], "DatasetInfo").state["features"], "Features")
    names = {
        column: list(map(str, feature.state["names"]))
        for column, feature in (mapping(features) | features.items).items()
        if isinstance(feature, Node) and feature.kind == "ClassLabel"
    }
    return with_class_labels(table, names)


def _dataset_table(node: Any) -> Any:
    import pyarrow as pa

    state = expect(node, "InMemoryTable", "ConcatenationTable", "MemoryMappedTable").state
    if node.kind == "ConcatenationTable":
        return pa.concat_tables([_side_by_side([_dataset_table(block) for block in row]) for row in state["blocks"]])
    if node.kind == "MemoryMappedTable" or "table" not in state:
        raise DataError(
            f"the pickle holds no rows, only the path of the file they were mapped from ({state.get('path')}); "
            "pickle the dataset from memory, or call its to_parquet"
        )
    return _arrow_table(state["table"])


def _side_by_side(tables: list[Any]) -> Any:
    table = tables[0]
    for other in tables[1:]:
        for name in other.column_names:
            table = table.append_column(name, other.column(name))
    return table


# ---- pyarrow ----


def _arrow_table(node: Any) -> Any:
    import pyarrow as pa

    node = expect(node, "arrow_table", "record_batch")
    columns, schema = node.args
    fields = [_field(field) for field in expect(schema, "schema").args[0]]
    table = pa.table([_arrow(column) for column in columns], schema=pa.schema(fields))
    table.validate(full=True)
    return table


def _field(node: Any) -> Any:
    import pyarrow as pa

    name, kind = expect(node, "field").args[:2]
    return pa.field(str(name), _type(kind))


def _type(node: Any) -> Any:
    import pyarrow as pa

    node = expect(node, "type_for_alias", "list_", "large_list", "struct", "dictionary", "timestamp")
    if node.kind == "type_for_alias":
        return pa.type_for_alias(str(node.args[0]))
    if node.kind == "timestamp":
        return pa.timestamp(*map(str, filter(None, node.args)))
    if node.kind == "dictionary":
        return pa.dictionary(_type(node.args[0]), _type(node.args[1]))
    if node.kind == "struct":
        return pa.struct([_field(field) for field in node.args[0]])
    make = pa.list_ if node.kind == "list_" else pa.large_list
    inner = node.args[0]
    return make(_field(inner) if inner.kind == "field" else _type(inner))


def _arrow(node: Any) -> Any:
    """Returns an array or chunked array, validated in full: offsets and codes that point outside are an error."""
    import pyarrow as pa

    if expect(node, "arrow_array", "chunked_array").kind == "chunked_array":
        return pa.chunked_array([_arrow(chunk) for chunk in node.args[0]], type=_type(node.args[1]))
    array = _arrow_array(node.args[0])
    array.validate(full=True)
    return array


def _arrow_array(parts: Any) -> Any:
    import pyarrow as pa

    kind, length, _, offset, buffers, children, dictionary = (*parts, None)[:7]
    kind = _type(kind)
    if not (isinstance(length, int) and isinstance(offset, int) and length >= 0 and offset >= 0):
        raise ValueError(f"an array of length {length!r} at offset {offset!r}")
    raw = [None if buffer is None else pa.py_buffer(_bytes(expect(buffer, "buffer").args[0])) for buffer in buffers]
    # The count of nulls is pyarrow's to find (-1), not the pickle's to claim.
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_buffers(kind, length, raw, _arrow_array(dictionary), -1, offset)
    inner = [_arrow_array(child) for child in children]
    return pa.Array.from_buffers(kind, length, raw, -1, offset, inner or None)


def _bytes(value: Any) -> bytes:
    """Returns bytes, from a bytearray (protocol 5) or a call with bytes or latin-1 text (protocols 2 to 4) too."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("latin-1")
    args = expect(value, "bytearray", "bytes").args
    return _bytes(args[0]) if args else b""


# ---- numpy ----


def _array(node: Any) -> np.ndarray:
    """Returns a node's array; the elements of an object array are plain values, strings as a rule."""
    node = expect(node, "ndarray", "frombuffer", "scalar")
    if node.kind == "ndarray":
        _, shape, dtype, fortran, raw = node.state
    elif node.kind == "frombuffer":
        raw, dtype, shape, order = node.args
        fortran = order == "F"
    else:
        (dtype, raw), shape, fortran = node.args, (), False
    kind = _dtype(dtype)
    if kind.kind == "O":
        elements = raw if isinstance(raw, list) else [raw]
        flat = np.empty(len(elements), dtype=object)
        flat[:] = [plain(element) for element in elements]
    else:
        flat = np.frombuffer(_bytes(raw), dtype=kind)
    if not all(isinstance(size, int) and size >= 0 for size in shape) or flat.size != math.prod(shape):
        raise ValueError(f"{flat.size} elements in an array of shape {shape!r}")
    # numpy lists an object array's elements in C order, whatever its flag says of the memory.
    return flat.reshape(shape, order="F" if fortran and kind.kind != "O" else "C")


def _dtype(node: Any) -> np.dtype:
    node = expect(node, "dtype")
    code = str(node.args[0])
    if not re.fullmatch(r"[biufOSUMm]\d+", code):
        raise ValueError(f"an array of type {code}")
    if code[0] in "OMm":  # dates are not texts; they are carried as numbers so that the columns beside them can be read
        return np.dtype(object if code[0] == "O" else "i8")
    order = node.state[1] if node.state else "="
    return np.dtype(("=" if order == "|" else str(order)) + code)


# ---- pandas ----


def _frame(node: Node) -> dict[str, list[Any]]:
    manager = expect(node.state["_mgr"], "BlockManager")
    blocks, axes = manager.args
    names = [str(name) for name in _values(axes[0])]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"each column needs its own name, found twice: {', '.join(repeated)}")
    columns: dict[str, list[Any]] = {}
    for block in blocks:
        values, placement, _ = expect(block, "block").args
        places = _places(placement, len(names))
        block_columns = _values(values)
        if not (values.kind in ("ndarray", "frombuffer") or (block_columns and isinstance(block_columns[0], list))):
            block_columns = [block_columns]  # an extension array is one column; numpy's and dates' blocks hold several
        columns |= {names[place]: column for place, column in zip(places, block_columns, strict=True)}
    return {name: columns[name] for name in names}


def _places(node: Any, count: int) -> Sequence[int]:
    """Returns which of `count` columns a block holds, from a slice or an array."""
    if not (isinstance(node, Node) and node.kind == "slice"):
        return _array(node).tolist()
    if not all(part is None or isinstance(part, int) for part in node.args):
        raise ValueError("a slice of something else than integers")
    return range(count)[slice(*node.args)]


def _values(node: Any) -> list[Any]:
    """Returns the values of one array, index or extension array, None for those that are missing."""
    if not isinstance(node, Node):
        raise ValueError(f"expected an array, found {type(node).__name__}")
    if node.kind in ("ndarray", "frombuffer", "scalar"):
        return _array(node).tolist()
    if node.kind == "arrow_strings":
        return _arrow(node.state.get("_pa_array", node.state.get("_data"))).to_pylist()
    if node.kind == "masked":
        pairs = zip(_array(node.state["_data"]).tolist(), _array(node.state["_mask"]).tolist(), strict=True)
        return [None if masked else value for value, masked in pairs]
    if node.kind == "array_backed":
        return _array_backed(node)
    if node.kind == "index":
        index = node.args[1]
        if "start" not in index:
            return _values(index["data"])
        numbers = range(index["start"], index["stop"], index["step"])
        if len(numbers) > MOST_COLUMNS:
            raise ValueError(f"an index of {len(numbers):,} names")
        return list(numbers)
    raise ValueError(f"expected an array, found {node.name}")


def _array_backed(node: Node) -> list[Any]:
    """Returns the values of a Categorical (codes and categories), or of an array of strings or dates."""
    dtype, array = node.state[:2] if _is_dtype(node.state[0]) else (node.state[1], node.state[0])
    values = _array(array).tolist()
    if isinstance(dtype, Node) and dtype.kind == "CategoricalDtype":
        categories = _values(dtype.state["categories"])
        return [None if code < 0 else categories[code] for code in values]
    return values


def _is_dtype(node: Any) -> bool:
    return not (isinstance(node, Node) and node.kind in ("ndarray", "frombuffer"))
