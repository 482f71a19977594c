"""Data sets of the hub, which a server on this machine stands in for: it answers as the hub does."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

FILES = {
    "train.csv": b"text,label\nOil climbs,Business\nLate goal wins,Sports\n",
    "test.csv": b"text,label\nBanks rise,Business\n",
}
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
from submillion.config.schema import DataConfig
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
