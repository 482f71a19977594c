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
from submillion.config.mapping import to_mapping, to_toml
from submillion.data.corpus import Corpus
from submillion.data.skipping import FILE_NAME as SKIPPED
from submillion.data.skipping import skipped_csv
from submillion.errors import ConfigError, SavingError
from submillion.inference.artefact import FILE_NAME as MODEL
from submillion.inference.artefact import Artefact, base_record, network_record
from submillion.report.card import render_card, run_title
from submillion.report.card_file import FILE_NAME as CARD
from submillion.report.plots import plot_history
from submillion.tasks.saved import task_record
from submillion.training.result import RunResult
from submillion.training.run import Run

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


def check_room(run: Run, assets: Path | None) -> None:
    """Checks that the disks of output.dir and of assets have room for what the run will write.

    Both folders are there already. The model counts twice, for what an estimate does not know. Raises ConfigError if a
    disk has less room.
    """
    spelling = run.tokenizer.spelling
    words = sum(len(word.encode()) + 1 for word in spelling.words) if spelling else 0
    model = 4 * run.plan.trainable + len(run.tokenizer.to_str().encode()) + words
    counts = 8 * len(run.task.label_names) ** 2  # confusion matrices in metrics.json
    skipped = len(skipped_csv(run.corpus.skipped))
    output = Path(run.config.output.dir)
    sizes = {output: 2 * model + counts + skipped + _TEXTS_BYTES + _PLOTS_BYTES}
    if assets:
        sizes[assets] = sizes.get(assets, 0) + _PLOTS_BYTES
    by_disk: dict[int, list[Path]] = {}
    for folder in sizes:
        by_disk.setdefault(folder.stat().st_dev, []).append(folder)
    for folders in by_disk.values():
        size, disk = sum(sizes[folder] for folder in folders), shutil.disk_usage(folders[0])
        if disk.total and disk.free < size:  # a network file system may report 0 of 0
            places = " and ".join(f"--output.dir {folder}" if folder == output else str(folder) for folder in folders)
            elsewhere = ", or name a folder on another disk with --output.dir" if output in folders else ""
            raise ConfigError(
                f"{places}: expected {size / 1e6:,.1f} MB free on this disk for what the run writes, "
                f"found {disk.free / 1e6:,.1f} MB\nfix: free some space there{elsewhere}"
            )


def save_run(run: Run, result: RunResult, history: list[dict[str, Any]], assets: Path | None) -> None:
    """Writes everything a run leaves into output.dir, and then the plots into assets too.

    history: the records of history.jsonl. assets: None for no second copy of the plots. Raises SavingError if a file
    cannot be written. The trained model is whole on disk even then, in the place that the error names, unless no place
    takes it.
    """
    output = run.config.output.dir
    title = f"{run_title(run.config)}\n{result.parameters['trainable']:,} trainable parameters"
    plots = plot_history(history, result.best_step, title)
    _save_model(_contents(run, result, history, plots), Path(output))
    if not assets:
        return
    try:
        _write(plots, assets)
    except OSError as error:
        raise SavingError(
            f"{assets}: the plots cannot be written there: {_reason(error)}\n"
            f"the model is saved, and the same plots with it, in {output}\nfix: {_fix(error)}, and copy them"
        ) from None


def trained_rows(corpus: Corpus) -> dict[str, Any]:
    """Returns what `evaluate` will know the training rows by: `Artefact.rows`."""
    return {"sha256": corpus.sha256, "test_cut": "test" in corpus.cut, "first_label": corpus.first_label}


def _contents(run: Run, result: RunResult, history: list[dict[str, Any]], plots: Contents) -> Contents:
    """Returns the files of the model's folder. model.pt comes last: that it is there means the rest is."""
    corpus, tokenizer, metrics = run.corpus, run.tokenizer, result.to_mapping()
    calibration = {"temperature": result.temperature.value}
    if result.int8:
        calibration["int8_margin"] = result.int8.margin
    artefact = Artefact(
        tensors=dict(run.network.trainable()),
        task=task_record(run.task),
        base=base_record(run.base, run.network.encoder.shape),
        tokenizer=tokenizer.to_str(),
        tokenizer_sha256=tokenizer.fingerprint,
        config=to_mapping(run.config),
        network=network_record(run.spec, run.adapters),
        precision=result.precision,
        parameters=dict(result.parameters),
        metrics={name: metrics[name] for name in RECORDED if name in metrics},
        calibration=calibration,
        words=list(tokenizer.spelling.words) if tokenizer.spelling else [],
        rows=trained_rows(corpus),
        columns=asdict(corpus.columns) if corpus.columns.text else {},
    )
    return {
        **plots,
        "history.jsonl": "".join(json.dumps(record) + "\n" for record in history),
        "metrics.json": json.dumps(metrics, indent=2) + "\n",
        "config.toml": to_toml(run.config),
        **({SKIPPED: skipped_csv(corpus.skipped)} if corpus.skipped else {}),
        CARD: render_card(run, result, artefact.base, list(plots)),
        MODEL: artefact.content(),
    }


def _save_model(contents: Contents, folder: Path) -> None:
    """Writes the model's folder; if that fails, another one in its place. Raises SavingError, which names it."""
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
    """Yields other places for a model that `folder` does not take: beside it, with the temporary files, at home."""
    yield folder.absolute().parent
    try:
        yield Path(tempfile.gettempdir())
        yield Path.home()
    except (OSError, RuntimeError):  # no such folder is writable; this user has no home
        return


def _write_new(contents: Contents, place: Path, prefix: str) -> Path:
    """Writes all files into a new folder in `place` and returns it. Leaves nothing there if it raises OSError."""
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
