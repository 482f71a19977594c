"""The names that a pickle may hold, and the inert record that each of them becomes."""

from typing import Any


def _names(kind: str, *qualified: str) -> dict[str, str]:
    """Returns these names of classes and functions with the kind that they are read as."""
    return {name: kind for name in qualified}


def _both(kind: str, name: str) -> dict[str, str]:
    """Returns the name as numpy 1 writes it (numpy.core) and as numpy 2 does (numpy._core)."""
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
    """An inert record of one object of a pickle: the kind of its class or function, and what was passed to it."""

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


def mapping(node: Node) -> dict[Any, Any]:
    """Returns what a subclass of dict was made from."""
    return dict(node.args[0]) if node.args else {}


def expect(node: Any, *kinds: str) -> Node:
    """Returns the node. Raises ValueError for one of another kind, and for anything else."""
    if not isinstance(node, Node) or node.kind not in kinds:
        other = node.name if isinstance(node, Node) else type(node).__name__
        raise ValueError(f"expected {' or '.join(kinds)}, found {other}")
    return node
