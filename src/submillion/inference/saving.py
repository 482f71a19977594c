"""What a run leaves. Room for it is checked before training, and no full disk loses a trained model."""

import errno
import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from submillion.atomic import write_together
from submillion.config import to_mapping, to_toml
from submillion.data.corpus import Corpus
from submillion.data.skipping import FILE_NAME as SKIPPED
from submillion.data.skipping import skipped_csv
from submillion.errors import ConfigError, SavingError
from submillion.inference.card import FILE_NAME as CARD
from submillion.inference.card import render_card, short_name
from submillion.inference.learning import Run
from submillion.inference.plots import plot_history
from submillion.training.artefact import FILE_NAME as MODEL
from submillion.training.artefact import Artefact, base_record
from submillion.training.loop import FitResult

Contents = Mapping[str, str | bytes]  # of files, by name
RECORDED = ("validation", "test", "cross_validation", "best_step", "steps")  # of metrics.json, in the artefact too
_PLOTS_BYTES = 2**20  # two plots take a fifth of it
_TEXTS_BYTES = 2**20  # history, metrics, configuration and card take a tenth of it
_FIXES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EROFS: "mount it writable",
    errno.EACCES: "make it writable for you",
    errno.EPERM: "make it writable for you",
}


def check_room(run: Run) -> None:
    """Checks that the disks of output.dir and output.assets, which are there, have room for what the run will write.

    The model counts twice, for what an estimate does not know. Raises ConfigError where a disk has less room.
    """
    output = run.config.output
    spelling = run.tokenizer.spelling
    words = sum(len(word.encode()) + 1 for word in spelling.words) if spelling else 0
    model = 4 * run.plan.trainable + len(run.tokenizer.to_str().encode()) + words
    counts = 8 * len(run.corpus.label_names) ** 2  # confusion matrices in metrics.json
    skipped = len(skipped_csv(run.corpus.skipped))
    needed = {
        "--output.dir": (Path(output.dir), 2 * model + counts + skipped + _TEXTS_BYTES + _PLOTS_BYTES),
        "--output.assets": (Path(output.assets), _PLOTS_BYTES),
    }
    by_disk: dict[int, list[str]] = {}
    for flag, (folder, _) in needed.items():
        by_disk.setdefault(folder.stat().st_dev, []).append(flag)
    for flags in by_disk.values():
        size = sum(needed[flag][1] for flag in flags)
        disk = shutil.disk_usage(needed[flags[0]][0])
        if disk.total and disk.free < size:  # a network file system may report 0 of 0
            places = " and ".join(f"{flag} {needed[flag][0]}" for flag in flags)
            raise ConfigError(
                f"{places}: expected {size / 1e6:,.1f} MB free on this disk for what the run writes, "
                f"found {disk.free / 1e6:,.1f} MB\n"
                f"fix: free some space there, or name a folder on another disk with {' and '.join(flags)}"
            )


def save_run(run: Run, metrics: dict[str, Any], result: FitResult) -> None:
    """Writes everything a run leaves: the model's folder, then the plots once more in output.assets.

    Raises SavingError where one of them cannot be written. The trained model is whole on disk even then, in the place
    that the error names, unless no place takes it.
    """
    output = run.config.output
    title = f"{short_name(run.config.model.base)} on {short_name(run.config.data.source)}\n"
    title += f"{metrics['parameters']['trainable']:,} trainable parameters"
    plots = plot_history(result.history, result.best_step, title)
    _save_model(_contents(run, metrics, result, plots), Path(output.dir))
    try:
        _write(plots, Path(output.assets))
    except OSError as error:
        raise SavingError(
            f"--output.assets {output.assets}: the plots cannot be written there: {_reason(error)}\n"
            f"the model is saved, and the same plots with it, in {output.dir}\nfix: {_fix(error)}, and copy them"
        ) from None


def trained_rows(corpus: Corpus) -> dict[str, Any]:
    """Returns what `evaluate` will know the training rows by: `Artefact.rows`."""
    return {"sha256": corpus.sha256, "test_cut": "test" in corpus.cut, "first_label": corpus.first_label}


def _contents(run: Run, metrics: dict[str, Any], result: FitResult, plots: Mapping[str, bytes]) -> Contents:
    """Returns the files of the model's folder. model.pt comes last: that it is there means the rest is."""
    config, corpus, tokenizer = run.config, run.corpus, run.tokenizer
    artefact = Artefact(
        tensors=dict(run.network.trainable()),
        label_names=list(corpus.label_names),
        base=base_record(run.base, run.network.encoder.shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=tokenizer.fingerprint,
        words=list(tokenizer.spelling.words) if tokenizer.spelling else [],
        rows=trained_rows(corpus),
        columns=asdict(corpus.columns) if corpus.columns.text else {},
        config=to_mapping(config),
        parameters=metrics["parameters"],
        metrics={name: metrics[name] for name in RECORDED if name in metrics},
        calibration={"temperature": metrics["temperature"]}
        | ({"int8_margin": metrics["int8"]["margin"]} if "int8" in metrics else {}),
    )
    return {
        **plots,
        "history.jsonl": "".join(json.dumps(record) + "\n" for record in result.history),
        "metrics.json": json.dumps(metrics, indent=2) + "\n",
        "config.toml": to_toml(config),
        **({SKIPPED: skipped_csv(corpus.skipped)} if corpus.skipped else {}),
        CARD: render_card(config, artefact.base, corpus, run.plan, metrics, list(plots)),
        MODEL: artefact.content(),
    }


def _save_model(contents: Contents, folder: Path) -> None:
    """Writes the model's folder; where that fails, another one in its place. Raises SavingError, which names it."""
    try:
        _write(contents, folder)
    except OSError as error:
        first = error
    else:
        if SKIPPED not in contents:
            with suppress(OSError):
                (folder / SKIPPED).unlink(missing_ok=True)  # an earlier run's
        return
    problem = f"--output.dir {folder}: the trained model cannot be saved there: {_reason(first)}"
    tried = []
    for place in _other_places(folder):
        try:
            rescued = _write_new(contents, place, f"{folder.name}-")
        except OSError as error:
            tried.append(f"nor in {place}: {_reason(error)}")
            continue
        source, target = shlex.quote(str(rescued)), shlex.quote(str(folder))
        raise SavingError(
            f"{problem}\nit is saved whole in {rescued}\n"
            f"fix: {_fix(first)}, and copy it: mkdir -p {target} && cp {source}/* {target}; or use it where it is: "
            f"submillion predict YOUR_FILE --model {source}"
        ) from None
    raise SavingError("\n".join([problem, *tried, f"fix: {_fix(first)}, and train again"])) from None


def _other_places(folder: Path) -> Iterator[Path]:
    """Yields where a model is saved that `folder` does not take: beside it, with the temporary files, at home."""
    yield folder.absolute().parent
    try:
        yield Path(tempfile.gettempdir())
        yield Path.home()
    except (OSError, RuntimeError):  # no such folder is writable; this user has no home
        return


def _write_new(contents: Contents, place: Path, prefix: str) -> Path:
    """Writes all files into a new folder in `place` and returns it. Leaves nothing there where it raises OSError."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        _write(contents, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _write(contents: Contents, folder: Path) -> None:
    write_together({folder / name: content for name, content in contents.items()})


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _fix(error: OSError) -> str:
    return _FIXES.get(error.errno or 0, "make it a folder that can be written")
