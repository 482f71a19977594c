"""One measurement in a separate process: `python -m benchmarks.child SIDE JSON` prints one JSON line."""

import json
import resource
import sys
from collections.abc import Callable
from typing import Any


def peak_rss_mb() -> float:
    """Returns the highest resident memory of this process so far, MB of 1e6 bytes. ru_maxrss is in KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def sides() -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    from benchmarks import ours, peers

    functions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"ours": ours.train}
    functions |= {name: lambda job, name=name: peers.train(name, job) for name in peers.SIDES}  # type: ignore[misc]
    functions |= {"gpu-predict-ours": ours.predict, "gpu-predict-peer": peers.predict}
    return functions


def main() -> None:
    side, job = sys.argv[1], json.loads(sys.argv[2])
    measured = sides()[side](job)
    import torch

    measured |= {"side": side, "threads": torch.get_num_threads(), "peak_rss_mb": round(peak_rss_mb(), 1)}
    if torch.cuda.is_available():
        measured["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
