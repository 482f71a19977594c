import builtins
import contextlib
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from submillion.data.files import check_texts, iter_texts
from submillion.data.formats.pickle_nodes import ADMITTED
from submillion.data.formats.pickles import read_pickle
from submillion.data.tables import class_label_names
from submillion.errors import DataError

FIXTURES = Path(__file__).parent / "fixtures"
TEXTS = ["Oil climbs as OPEC meets", "Late goal wins the cup", "Chip maker posts profit", "Peace talks resume"]
LABELS = [2, 1, 3, 0]
NAMES = ["World", "Sports", "Business", "Sci/Tech"]
BY_NAME = [NAMES[label] for label in LABELS]


def plain(value):
    if isinstance(value, pa.Table):
        return value.to_pydict()
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def read(tmp_path, value, protocol=pickle.DEFAULT_PROTOCOL):
    path = tmp_path / "a.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return plain(read_pickle(path))


def refused(tmp_path, raw: bytes) -> str:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    return str(caught.value)


# ---- what the libraries write ----


@pytest.fixture(scope="module")
def dataset():
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)})
    return datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS}, features=kinds)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_competitions_form_a_dataset_of_one_column(tmp_path, dataset, protocol):
    path = tmp_path / "test_unlabelled.pkl"
    path.write_bytes(pickle.dumps(dataset.remove_columns("label"), protocol))
    assert list(iter_texts(path, chunk_rows=3)) == [TEXTS[:3], TEXTS[3:]]
    assert check_texts(path) == 4


def test_a_dataset_keeps_its_label_names(tmp_path, dataset):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(dataset))
    table = read_pickle(tmp_path / "a.pkl")
    assert table.to_pydict() == {"text": TEXTS, "label": LABELS}
    assert class_label_names(table.schema.metadata) == {"label": tuple(NAMES)}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.select([3, 1, 0]),
        lambda d: d.select(range(1, 3)),
        lambda d: d.shuffle(seed=3),
        lambda d: d.sort("label"),
        lambda d: d.with_format("numpy"),
        lambda d: d.rename_column("text", "sentence"),
        lambda d: d.select([2, 0]).select([1]),
    ],
)
def test_a_datasets_order_and_selection_are_kept(tmp_path, dataset, change):
    changed = change(dataset)
    found = read(tmp_path, changed)
    truth = changed.with_format(None)
    assert found == {name: list(truth[name]) for name in truth.column_names}


def test_concatenated_datasets(tmp_path, dataset):
    from datasets import Dataset, DatasetDict, concatenate_datasets

    rows = concatenate_datasets([dataset, dataset.select([2])])
    assert read(tmp_path, rows) == {"text": [*TEXTS, TEXTS[2]], "label": [*LABELS, 3]}
    sides = [Dataset.from_dict({"text": TEXTS}), Dataset.from_dict({"label": LABELS})]
    assert read(tmp_path, concatenate_datasets(sides, axis=1)) == {"text": TEXTS, "label": LABELS}
    splits = DatasetDict({"train": dataset, "test": dataset.select([0])})
    assert read(tmp_path, splits) == {
        "train": {"text": TEXTS, "label": LABELS},
        "test": {"text": TEXTS[:1], "label": LABELS[:1]},
    }


def test_a_dataset_with_other_columns(tmp_path):
    import datetime

    from datasets import Dataset

    columns = {"text": TEXTS, "tags": [["a"], [], ["b", "c"], ["d"]], "at": [datetime.datetime(2004, 1, 1)] * 4}
    assert read(tmp_path, Dataset.from_dict(columns)) == columns


def test_a_memory_mapped_dataset_is_refused_with_the_reason(tmp_path, dataset):
    from datasets import load_from_disk

    dataset.save_to_disk(tmp_path / "saved")
    error = refused(tmp_path, pickle.dumps(load_from_disk(tmp_path / "saved")))
    assert "holds no rows, only the path of the file they were mapped from" in error and "saved" in error


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"text": TEXTS, "label": LABELS}),
        pd.DataFrame({"text": np.array(TEXTS, dtype=object), "label": BY_NAME}, dtype=object),
        pd.DataFrame({"id": [9, 8, 7, 6], "text": TEXTS, "score": [0.5] * 4, "label": LABELS}),
        pd.DataFrame({"text": TEXTS, "label": LABELS}).iloc[[2, 0]],
        pd.DataFrame({"text": TEXTS, "label": LABELS}, index=list("abcd")),
        pd.DataFrame({"text": TEXTS, "label": pd.Categorical(BY_NAME)}),
        pd.DataFrame({"text": TEXTS, "label": pd.Categorical([*BY_NAME[:3], None])}),
        pd.DataFrame({"text": pd.Series(TEXTS, dtype="string"), "label": pd.Series(LABELS, dtype="Int64")}),
        pd.DataFrame({"text": [*TEXTS[:3], None], "label": pd.array([1, 2, None, 3], dtype="Int64")}),
        pd.DataFrame({"text": TEXTS, "label": [True, False, True, False]}),
        pd.DataFrame([TEXTS, BY_NAME], index=["text", "label"], dtype=object).T,  # blocks in Fortran order
        pd.DataFrame(np.arange(8).reshape(4, 2), columns=["text", "label"], copy=False),
    ],
)
def test_data_frames(tmp_path, frame, protocol):
    found = read(tmp_path, frame, protocol)
    assert list(found) == list(frame.columns)
    for name, values in found.items():
        truth = [None if pd.isna(value) else value for value in frame[name]]
        assert [None if pd.isna(value) else value for value in values] == truth


def test_a_frame_with_dates_beside_the_texts(tmp_path):
    frame = pd.DataFrame({"at": pd.to_datetime(["2004-01-01"] * 4), "text": TEXTS})
    found = read(tmp_path, frame)
    assert found["text"] == TEXTS and len(found["at"]) == 4


def test_series_arrays_and_plain_values(tmp_path):
    assert read(tmp_path, pd.Series(TEXTS, name="headline")) == {"headline": TEXTS}
    assert read(tmp_path, pd.Series(TEXTS)) == {"text": TEXTS}
    assert read(tmp_path, np.array(TEXTS)) == TEXTS
    assert read(tmp_path, np.array(TEXTS, dtype=object)) == TEXTS
    for dtype in (int, float, str, object):
        for protocol in (2, 5):
            table = np.array([[1, 2, 3], [4, 5, 6]], dtype=dtype, order="F")
            assert read(tmp_path, table, protocol) == table.tolist()
    assert read(tmp_path, [{"text": "a", "label": np.int64(2)}]) == [{"text": "a", "label": 2}]
    assert read(tmp_path, [("a", 1), ("b", 0)]) == [["a", 1], ["b", 0]]


OLDER = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


def test_the_fixtures_are_there():
    assert len(OLDER) == 3


@pytest.mark.parametrize("version", OLDER)
def test_what_older_versions_wrote(version):
    def fixture(name):
        return plain(read_pickle(FIXTURES / version / f"{name}.pkl"))

    labelled = {"text": TEXTS, "label": LABELS}
    assert fixture("text_only2") == fixture("text_only4") == {"text": TEXTS}
    assert fixture("shuffled") == {"text": [TEXTS[3], TEXTS[1], TEXTS[0]], "label": [0, 1, 2]}
    assert fixture("concat") == {"text": [*TEXTS, TEXTS[2]], "label": [*LABELS, 3]}
    assert fixture("dict") == {"train": labelled, "test": {"text": TEXTS[:1], "label": LABELS[:1]}}
    assert fixture("df4") == fixture("df5") == fixture("df_string") == labelled
    assert fixture("df_cat") == {"text": TEXTS, "label": BY_NAME}
    assert fixture("series4") == {"text": TEXTS}
    with pytest.raises(DataError, match="holds no rows, only the path"):
        fixture("mmapped")


# ---- what an attacker writes ----


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def short(text: str) -> bytes:
    return b"\x8c" + struct.pack("<B", len(text)) + text.encode()


def stack_global(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


MARK = "touch {}"


def hostile(command: str) -> dict[str, bytes]:
    """By name of the trick: a pickle that runs the command if anything in it is run."""
    system = stack_global(os.system.__module__, "system")
    node = stack_global("pandas.core.frame", "DataFrame")
    return {
        "reduce os.system": pickle.dumps(Call(os.system, command)),
        "reduce eval": pickle.dumps(Call(builtins.eval, f"__import__('os').system({command!r})")),
        "protocol 0": pickle.dumps(Call(os.system, command), protocol=0),
        "in a list": pickle.dumps({"text": ["fine", Call(os.system, command)]}),
        "nested getattr": pickle.dumps(Call(getattr, Call(__import__, "os"), "system")),
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"(" + b"cos\nsystem\n" + b"S'" + command.encode() + b"'\no.",
        "stack_global": b"\x80\x04" + system + short(command) + b"\x85R.",
        "dotted name": b"\x80\x04" + stack_global("pandas.core.frame", "os.system") + short(command) + b"\x85R.",
        "through an admitted module": b"\x80\x04" + stack_global("numpy", "dtype.__class__") + b".",
        "build on a class": b"\x80\x04" + node + b"}" + short("__reduce__") + system + b"sb.",
        "build on an instance": b"\x80\x04" + node + b")R}" + short("__class__") + system + b"sb.",
        "newobj": b"\x80\x04" + system + short(command) + b"\x85\x81.",
        "reconstructor": b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pos.system\n.",
    }


@pytest.mark.parametrize("trick", sorted(hostile("")))
def test_a_hostile_pickle_runs_nothing(tmp_path, trick, monkeypatch):
    ran = tmp_path / "ran"
    raw = hostile(f"touch {ran}")[trick]
    calls = []
    monkeypatch.setattr(os, "system", lambda *args: calls.append(args))
    monkeypatch.setattr(builtins, "eval", lambda *args: calls.append(args))
    error = refused(tmp_path, raw)
    assert not ran.exists() and not calls
    assert "write it as csv, jsonl or parquet" in error


def test_the_tricks_do_work_on_the_usual_unpickler(tmp_path):
    """Else the test above would hold for a harmless pickle too."""
    ran = tmp_path / "ran"
    for trick in ("reduce os.system", "inst", "obj", "stack_global"):
        pickle.loads(hostile(f"touch {ran}")[trick])
        assert ran.exists(), trick
        ran.unlink()


def test_a_refusal_names_what_the_pickle_wanted(tmp_path):
    error = refused(tmp_path, pickle.dumps(Call(os.system, "true")))
    assert error.startswith("hostile.pkl: refused: the pickle wants posix.system; only tables of datasets, pandas")
    assert "builtins.eval" in refused(tmp_path, pickle.dumps(Call(builtins.eval, "1")))


@pytest.mark.parametrize("full", sorted(ADMITTED))
def test_no_admitted_name_is_called(tmp_path, full):
    """Called with hostile arguments, built upon, iterated: each admitted name leaves records and nothing else."""
    module, _, name = full.rpartition(".")
    path = tmp_path / "a.pkl"
    ran = tmp_path / "ran"
    argument = short(f"touch {ran}")
    for tail in (b"\x85R.", b"\x85\x81.", b"\x85R" + argument + b"b."):
        path.write_bytes(b"\x80\x04" + stack_global(module, name) + argument + tail)
        with contextlib.suppress(DataError):
            read_pickle(path)
        assert sorted(tmp_path.iterdir()) == [path]


def test_arrow_offsets_that_point_outside_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(raw := pickle.dumps(pa.table({"text": ["abcd", "efgh"]})))
    assert plain(read_pickle(tmp_path / "a.pkl")) == {"text": ["abcd", "efgh"]}
    offsets = struct.pack("<3i", 0, 4, 8)
    assert raw.count(offsets) == 1
    error = refused(tmp_path, raw.replace(offsets, struct.pack("<3i", 0, 1 << 20, 8)))
    assert "damaged" in error and "ArrowInvalid" in error


def test_pandas_strings_with_offsets_that_point_outside_are_refused(tmp_path):
    frame = pd.DataFrame({"text": pd.array(["abcd", "efgh"], dtype="string[pyarrow]")})
    assert read(tmp_path, frame) == {"text": ["abcd", "efgh"]}
    raw, offsets = pickle.dumps(frame), struct.pack("<3q", 0, 4, 8)
    assert raw.count(offsets) == 1
    assert "ArrowInvalid" in refused(tmp_path, raw.replace(offsets, struct.pack("<3q", 0, 1 << 20, 8)))


def test_an_array_larger_than_its_bytes_is_refused(tmp_path):
    raw = pickle.dumps(np.arange(4))
    assert refused(tmp_path, raw.replace(b"K\x04\x85", b"K\x7f\x85"))


def test_every_cut_of_a_good_pickle_is_an_error_of_ours(tmp_path, dataset):
    raw = pickle.dumps(dataset)
    for end in range(0, len(raw), 7):
        refused(tmp_path, raw[:end])


def test_flipped_bytes_never_raise_anything_else(tmp_path, dataset):
    path = tmp_path / "a.pkl"
    rng = np.random.default_rng(0)
    for raw in (pickle.dumps(dataset), pickle.dumps(pd.DataFrame({"text": TEXTS, "label": LABELS}))):
        for _ in range(300):
            bad = bytearray(raw)
            bad[rng.integers(len(bad))] = rng.integers(256)
            path.write_bytes(bad)
            with contextlib.suppress(DataError):
                read_pickle(path)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02]r\xff\xff\xff\x22.",  # an object number of 587 million: room for that many before anything is read
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"(lp999999999\n.",
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc.",  # a terabyte, of which 3 bytes are there
    ],
)
def test_a_pickle_that_claims_more_memory_than_it_fills_is_refused_at_once(tmp_path, raw):
    started = time.perf_counter()
    assert "the pickle is" in refused(tmp_path, raw)
    assert time.perf_counter() - started < 1
