"""TensorBoard event files: the numbers of history.jsonl, written as training goes."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from submillion.errors import ConfigError
from submillion.runtime.progress import is_quiet
from submillion.training.loop import Record

TAGS = {  # of a history record's keys
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "rows_per_second": "train/rows_per_second",
    "validation_loss": "validation/loss",
    "validation_accuracy": "validation/accuracy",
}


def check_tensorboard() -> None:
    """Raises ConfigError if the package is missing."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--output.tensorboard needs the package tensorboard ({error})\nfix: pip install tensorboard"
        ) from None


@contextmanager
def event_writer(folder: str) -> Iterator[Record | None]:
    """Yields a function that writes a history record to an event file in the folder; None for "".

    The record is on disk when the function returns. If it cannot be written, as on a full disk, the function says so
    once and writes nothing more: training goes on.
    """
    if not folder:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer, failed = SummaryWriter(folder), False

    def write(record: Mapping[str, float]) -> None:
        nonlocal failed
        if failed:
            return
        try:
            for key, tag in TAGS.items():
                if key in record:
                    writer.add_scalar(tag, record[key], int(record["step"]))
            writer.flush()
        except OSError as error:
            failed = True
            if not is_quiet():
                print(f"\ntensorboard: {error}: nothing more is written to {folder}", file=sys.stderr)

    try:
        yield write
    finally:
        with suppress(OSError):  # reported already, or the disk is full only now, when all records are written
            writer.close()
