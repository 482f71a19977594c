"""Pickles read as data: no function or class that a pickle names is ever imported or called.

A pickle is a program; unpickling it the usual way runs whatever it names. Here every admitted name stands for a `Node`,
an inert record of what the pickle would have passed to it, and any other name is refused. What the records say is then
read by the functions below, for exactly the forms that `datasets`, pandas, numpy and pyarrow write. So a hostile pickle
can at worst describe a wrong table, and pyarrow's own full validation holds that one to its buffers.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from submillion.data.tables import with_class_labels
from submillion.errors import DataError

MOST_COLUMNS = 1_000_000  # that a range may name: it takes no room in the file
FIX = "fix: where the file was made, write it as csv, jsonl or parquet instead"


def _names(kind: str, *qualified: str) -> dict[str, str]:
    return {name: kind for name in qualified}


def _both(kind: str, name: str) -> dict[str, str]:
    """numpy 1 says numpy.core, numpy 2 says numpy._core."""
    return _names(kind, f"numpy.core.{name}", f"numpy._core.{name}")


_PANDAS_INDEX = "pandas.core.indexes"
ADMITTED: dict[str, str] = {
    **_names("bytes", "_codecs.encode"),
    **_names("bytearray", "builtins.bytearray", "__builtin__.bytearray"),
    **_names("slice", "builtins.slice", "__builtin__.slice"),
    # datasets 2, 3, 4, 5
    **_names("Dataset", "datasets.arrow_dataset.Dataset"),
    **_names("DatasetDict", "datasets.dataset_dict.DatasetDict"),
    **_names("InMemoryTable", "datasets.table.InMemoryTable"),
    **_names("ConcatenationTable", "datasets.table.ConcatenationTable"),
    **_names("MemoryMappedTable", "datasets.table.MemoryMappedTable"),
    **_names("Features", "datasets.features.features.Features"),
    **_names("ClassLabel", "datasets.features.features.ClassLabel"),
    **_names("DatasetInfo", "datasets.info.DatasetInfo"),
    **_names(
        "unread",
        "datasets.features.features.Value",
        "datasets.features.features.Sequence",
        "datasets.features.features.LargeList",
        "datasets.features.features.List",
        "datasets.info.PostProcessedInfo",
        "datasets.info.SupervisedKeysData",
        "datasets.splits.NamedSplit",
        "datasets.splits.Split",
        "datasets.splits.SplitDict",
        "datasets.splits.SplitInfo",
        "datasets.tasks.text_classification.TextClassification",
        "datasets.utils.version.Version",
    ),
    # pyarrow
    **_names("arrow_table", "pyarrow.lib._reconstruct_table"),
    **_names("record_batch", "pyarrow.lib._reconstruct_record_batch"),
    **_names("chunked_array", "pyarrow.lib.chunked_array"),
    **_names("arrow_array", "pyarrow.lib._restore_array"),
    **_names("buffer", "pyarrow.lib.py_buffer"),
    **_names("schema", "pyarrow.lib.schema"),
    **_names("field", "pyarrow.lib.field"),
    **_names("type_for_alias", "pyarrow.lib.type_for_alias"),
    **_names("list_", "pyarrow.lib.list_"),
    **_names("large_list", "pyarrow.lib.large_list"),
    **_names("struct", "pyarrow.lib.struct"),
    **_names("dictionary", "pyarrow.lib.dictionary"),
    **_names("timestamp", "pyarrow.lib.timestamp"),
    # numpy 1 and 2
    **_both("ndarray", "multiarray._reconstruct"),
    **_both("scalar", "multiarray.scalar"),
    **_both("frombuffer", "numeric._frombuffer"),
    **_names("dtype", "numpy.dtype"),
    **_names("unread", "numpy.ndarray"),
    # pandas 1.5, 2, 3
    **_names("DataFrame", "pandas.DataFrame", "pandas.core.frame.DataFrame"),
    **_names("Series", "pandas.Series", "pandas.core.series.Series"),
    **_names("BlockManager", "pandas.core.internals.managers.BlockManager"),
    **_names("SingleBlockManager", "pandas.core.internals.managers.SingleBlockManager"),
    **_names("block", "pandas._libs.internals._unpickle_block"),
    **_names("index", f"{_PANDAS_INDEX}.base._new_Index"),
    **_names("array_backed", "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked"),
    **_names("CategoricalDtype", "pandas.CategoricalDtype", "pandas.core.dtypes.dtypes.CategoricalDtype"),
    **_names("Categorical", "pandas.Categorical", "pandas.core.arrays.categorical.Categorical"),
    **_names(
        "arrow_strings",
        "pandas.arrays.ArrowStringArray",
        "pandas.core.arrays.string_arrow.ArrowStringArray",
        "pandas.core.arrays.string_arrow.ArrowStringArrayNumpySemantics",
        "pandas.core.arrays.arrow.array.ArrowExtensionArray",
    ),
    **_names("StringArray", "pandas.arrays.StringArray", "pandas.core.arrays.string_.StringArray"),
    **_names(
        "masked",
        "pandas.arrays.IntegerArray",
        "pandas.arrays.BooleanArray",
        "pandas.arrays.FloatingArray",
        "pandas.core.arrays.integer.IntegerArray",
        "pandas.core.arrays.boolean.BooleanArray",
        "pandas.core.arrays.floating.FloatingArray",
    ),
    **_names("missing", "pandas.NA", "pandas._libs.missing.NA"),
    **_names(
        "unread",
        "pandas.arrays.DatetimeArray",
        "pandas.core.arrays.datetimes.DatetimeArray",
        "pandas.Index",
        "pandas.RangeIndex",
        f"{_PANDAS_INDEX}.base.Index",
        f"{_PANDAS_INDEX}.range.RangeIndex",
        f"{_PANDAS_INDEX}.numeric.Int64Index",
        "pandas.StringDtype",
        "pandas.core.arrays.string_.StringDtype",
        *(f"pandas.{width}Dtype" for width in ("Int8", "Int16", "Int32", "Int64", "Float32", "Float64", "Boolean")),
        *(f"pandas.core.arrays.integer.Int{width}Dtype" for width in (8, 16, 32, 64)),
        *(f"pandas.core.arrays.floating.Float{width}Dtype" for width in (32, 64)),
        "pandas.core.arrays.boolean.BooleanDtype",
    ),
}


class Node:
    """What a pickle says about one object: the kind of its class or function, and what was passed. It does nothing."""

    kind = ""
    name = ""

    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Node":
        # Not in __init__: the opcode NEWOBJ calls __new__ alone.
        node = object.__new__(cls)
        node.args, node.state, node.items = args, None, {}
        return node

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value


class _Reader(pickle.Unpickler):
    """Builds nodes. `find_class` is the only way by which a pickle reaches a name, whatever the opcode."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.kinds: dict[str, type[Node]] = {}  # of this pickle alone, so that nothing it does to them outlives it

    def find_class(self, module: str, name: str) -> type[Node]:
        full = f"{module}.{name}"
        kind = ADMITTED.get(full)
        if kind is None:
            raise DataError(
                f"refused: the pickle wants {full}; only tables of datasets, pandas, numpy and pyarrow are admitted, "
                "and plain dicts and lists; nothing in it was run"
            )
        if full not in self.kinds:
            self.kinds[full] = type("Node", (Node,), {"kind": kind, "name": full})
        return self.kinds[full]


def read_pickle(path: Path) -> Any:
    """What a pickle holds, as plain values: a pyarrow.Table for a Dataset, a dict of columns for a DataFrame or Series,
    dicts (of splits, of columns) and lists as they are.

    Raises DataError for a name that is not admitted, a file cut short, a memory-mapped dataset (its rows are in another
    file) and records that do not fit together.
    """
    try:
        raw = path.read_bytes()
        _check_opcodes(raw)
        return _plain(_Reader(io.BytesIO(raw)).load())
    except DataError as error:
        raise DataError(f"{path.name}: {error}\n{FIX}") from None
    except EOFError:
        raise DataError(f"{path.name}: the pickle is cut short\n{FIX}, or copy it again") from None
    except Exception as error:  # what a damaged pickle does to any step below cannot be listed
        what = "cut short" if "truncated" in str(error) else "damaged, or no pickle of a table"
        raise DataError(f"{path.name}: the pickle is {what} ({type(error).__name__}: {error})\n{FIX}") from None


def _check_opcodes(raw: bytes) -> None:
    """Raises EOFError for a pickle that is cut short, ValueError for one that would take more memory than it can fill.

    The unpickler makes room for what a length or a number says before it looks whether the file holds as much.
    """
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            if opcode.name in ("PUT", "LONG_BINPUT") and argument is not None and argument > len(raw):
                raise ValueError(f"object number {argument:,} in a file of {len(raw):,} bytes")
    except ValueError as error:
        if raw.startswith(b"\x80") and any(
            words in str(error) for words in ("remain", "exhausted", "not enough data", "no newline")
        ):
            raise EOFError(str(error)) from None
        raise


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, type) and issubclass(value, Node) and value.kind == "missing":
        return None
    if not isinstance(value, Node):
        return value
    if value.kind == "Dataset":
        return _dataset(value)
    if value.kind == "DatasetDict":
        return {key: _plain(item) for key, item in (_mapping(value) | value.items).items()}
    if value.kind == "DataFrame":
        return _frame(value)
    if value.kind == "Series":
        name = value.state.get("_name") or value.state.get("name")
        return {str(name or "text"): _values(value.state["_mgr"].state[1][0])}
    if value.kind == "arrow_table":
        return _arrow_table(value)
    return _values(value)


def _mapping(node: Node) -> dict[Any, Any]:
    return dict(node.args[0]) if node.args else {}


def _expect(node: Any, *kinds: str) -> Node:
    if not isinstance(node, Node) or node.kind not in kinds:
        found = node.name if isinstance(node, Node) else type(node).__name__
        raise ValueError(f"expected {' or '.join(kinds)}, found {found}")
    return node


# ---- datasets ----


def _dataset(node: Node) -> Any:
    table = _dataset_table(node.state["_data"])
    indices = node.state.get("_indices")
    if indices is not None:  # left by select, shuffle, filter, sort: the rows that count, in their order
        table = table.take(_dataset_table(indices).column(0))
    features = _expect(_expect(node.state["_info"], "DatasetInfo").state["features"], "Features")
    names = {
        column: list(map(str, feature.state["names"]))
        for column, feature in (_mapping(features) | features.items).items()
        if isinstance(feature, Node) and feature.kind == "ClassLabel"
    }
    return with_class_labels(table, names)


def _dataset_table(node: Any) -> Any:
    import pyarrow as pa

    state = _expect(node, "InMemoryTable", "ConcatenationTable", "MemoryMappedTable").state
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

    node = _expect(node, "arrow_table", "record_batch")
    columns, schema = node.args
    fields = [_field(field) for field in _expect(schema, "schema").args[0]]
    table = pa.table([_arrow(column) for column in columns], schema=pa.schema(fields))
    table.validate(full=True)
    return table


def _field(node: Any) -> Any:
    import pyarrow as pa

    name, kind = _expect(node, "field").args[:2]
    return pa.field(str(name), _type(kind))


def _type(node: Any) -> Any:
    import pyarrow as pa

    node = _expect(node, "type_for_alias", "list_", "large_list", "struct", "dictionary", "timestamp")
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
    """A pyarrow array or chunked array, validated in full: offsets and codes that point outside are an error."""
    import pyarrow as pa

    if _expect(node, "arrow_array", "chunked_array").kind == "chunked_array":
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
    raw = [None if buffer is None else pa.py_buffer(_bytes(_expect(buffer, "buffer").args[0])) for buffer in buffers]
    # The count of nulls is pyarrow's to find (-1), not the pickle's to claim.
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_buffers(kind, length, raw, _arrow_array(dictionary), -1, offset)
    inner = [_arrow_array(child) for child in children]
    return pa.Array.from_buffers(kind, length, raw, -1, offset, inner or None)


def _bytes(value: Any) -> bytes:
    """Bytes, a bytearray (protocol 5), or what protocols 2 to 4 write instead: a call with bytes or latin-1 text."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("latin-1")
    args = _expect(value, "bytearray", "bytes").args
    return _bytes(args[0]) if args else b""


# ---- numpy ----


def _array(node: Any) -> np.ndarray:
    """The array of a node; the elements of an object array are plain values, strings as a rule."""
    node = _expect(node, "ndarray", "frombuffer", "scalar")
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
        flat[:] = [_plain(element) for element in elements]
    else:
        flat = np.frombuffer(_bytes(raw), dtype=kind)
    if not all(isinstance(size, int) and size >= 0 for size in shape) or flat.size != math.prod(shape):
        raise ValueError(f"{flat.size} elements in an array of shape {shape!r}")
    # numpy lists an object array's elements in C order, whatever its flag says of the memory.
    return flat.reshape(shape, order="F" if fortran and kind.kind != "O" else "C")


def _dtype(node: Any) -> np.dtype:
    node = _expect(node, "dtype")
    code = str(node.args[0])
    if not re.fullmatch(r"[biufOSUMm]\d+", code):
        raise ValueError(f"an array of type {code}")
    if code[0] in "OMm":  # dates are not texts; they are carried as numbers so that the columns beside them can be read
        return np.dtype(object if code[0] == "O" else "i8")
    order = node.state[1] if node.state else "="
    return np.dtype(("=" if order == "|" else str(order)) + code)


# ---- pandas ----


def _frame(node: Node) -> dict[str, list[Any]]:
    manager = _expect(node.state["_mgr"], "BlockManager")
    blocks, axes = manager.args
    names = [str(name) for name in _values(axes[0])]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"each column needs its own name, found twice: {', '.join(repeated)}")
    columns: dict[str, list[Any]] = {}
    for block in blocks:
        values, placement, _ = _expect(block, "block").args
        places = _places(placement, len(names))
        found = _values(values)
        if not (values.kind in ("ndarray", "frombuffer") or (found and isinstance(found[0], list))):
            found = [found]  # an extension array is one column; numpy's blocks, and those of dates, hold several
        columns |= {names[place]: column for place, column in zip(places, found, strict=True)}
    return {name: columns[name] for name in names}


def _places(node: Any, count: int) -> Sequence[int]:
    """Of a block's columns among so many, from a slice or an array."""
    if not (isinstance(node, Node) and node.kind == "slice"):
        return _array(node).tolist()
    if not all(part is None or isinstance(part, int) for part in node.args):
        raise ValueError("a slice of something else than integers")
    return range(count)[slice(*node.args)]


def _values(node: Any) -> list[Any]:
    """The values of one array, index or extension array, None where they are missing."""
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
        held = node.args[1]
        if "start" not in held:
            return _values(held["data"])
        numbers = range(held["start"], held["stop"], held["step"])
        if len(numbers) > MOST_COLUMNS:
            raise ValueError(f"an index of {len(numbers):,} names")
        return list(numbers)
    raise ValueError(f"expected an array, found {node.name}")


def _array_backed(node: Node) -> list[Any]:
    """A Categorical (codes and categories), or an array of strings or dates."""
    dtype, array = node.state[:2] if _is_dtype(node.state[0]) else (node.state[1], node.state[0])
    values = _array(array).tolist()
    if isinstance(dtype, Node) and dtype.kind == "CategoricalDtype":
        categories = _values(dtype.state["categories"])
        return [None if code < 0 else categories[code] for code in values]
    return values


def _is_dtype(node: Any) -> bool:
    return not (isinstance(node, Node) and node.kind in ("ndarray", "frombuffer"))
