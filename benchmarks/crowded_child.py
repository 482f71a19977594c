"""One side of benchmarks.crowded, in a process of its own: `python -m benchmarks.crowded_child SIDE JOB_FILE`."""

import json
import sys
from pathlib import Path

import torch  # noqa: F401  # first, as in scripts: then no environment variable reaches its threads any more

from benchmarks.crowded import child

if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8")))))
