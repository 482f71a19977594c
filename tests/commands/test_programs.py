"""train.py and predict.py at the root, and the command quickstart: whole runs as a newcomer starts them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from news import LABELS, news_rows, read_csv, write_csv
from runs import files_below, metrics_file

from submillion.cli import main
from submillion.commands import quickstart as quickstart_module
from submillion.commands import train as train_module
from submillion.commands.train import TrainResult
from submillion.config.resolve import find_recipe, resolve
from submillion.config.schema import Config

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [text for text, _ in news_rows(10, seed=2)]
PLOTS = ("loss.png", "accuracy.png")


def run_program(name: str, folder: Path, *flags: str) -> None:
    """Runs a program at the root in this folder. Raises CalledProcessError if it fails."""
    subprocess.run([sys.executable, str(ROOT / f"{name}.py"), *flags], cwd=folder, check=True, capture_output=True)


def test_train_py_takes_the_recipe_seed_and_copies_the_plots_to_assets(
    tiny_base: Path, news_csv: Path, tmp_path: Path
) -> None:
    run_program("train", tmp_path, "--model.base", str(tiny_base), "--data.source", str(news_csv))
    saved, seed = (resolve(recipe=path).config for path in (tmp_path / "best_model" / "config.toml", "seed"))
    assert (saved.model.base, saved.data.source) == (str(tiny_base), str(news_csv))
    assert (saved.lora, saved.train, saved.output.dir) == (seed.lora, seed.train, "best_model")
    assert files_below(tmp_path / "assets") == set(PLOTS)
    for name in PLOTS:
        assert (tmp_path / "assets" / name).read_bytes() == (tmp_path / "best_model" / name).read_bytes()


def test_train_py_takes_another_recipe(tiny_base: Path, news_csv: Path, tmp_path: Path) -> None:
    run_program(
        "train", tmp_path, "--recipe", "quickstart", "--model.base", str(tiny_base), "--data.source", str(news_csv)
    )
    saved = resolve(recipe=tmp_path / "best_model" / "config.toml").config
    assert saved.train == resolve(recipe="quickstart").config.train != resolve(recipe="seed").config.train
    assert files_below(tmp_path / "assets") == set(PLOTS)


def test_the_command_train_has_no_recipe_and_no_second_folder(
    tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--model.base", str(tiny_base), "--data.source", str(news_csv)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"best_model"}
    assert resolve(recipe=tmp_path / "best_model" / "config.toml").config.train == Config().train


def test_training_without_rows_is_refused_and_leaves_nothing(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    assert main(["train", "--model.base", str(tiny_base), "--output.dir", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "--data.source is required" in error and "fix: --data.source news.csv" in error
    assert "Traceback" not in error and not folder.exists()


def test_predict_py_writes_integers_unless_told_otherwise(trained: TrainResult, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [[text] for text in TEXTS], ["text"])
    names = trained.classifier.predict(TEXTS)
    expected = {(): [str(LABELS.index(name)) for name in names], ("--labels", "names"): names}
    for flags, labels in expected.items():
        run_program("predict", tmp_path, str(path), "--model", str(trained.folder), *flags)
        header, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
        assert header == "ID,Label" and rows == [f"{index},{label}" for index, label in enumerate(labels)]


# The quickstart


@pytest.fixture
def times_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The source of each reading of a corpus."""
    sources: list[str] = []

    def counted(load: Callable) -> Callable:
        return lambda config, *rest: sources.append(config.source) or load(config, *rest)

    for module in (quickstart_module, train_module):
        monkeypatch.setattr(module, "load_corpus", counted(module.load_corpus))
    return sources


def test_the_quickstart_reads_once_and_predicts_the_rows_that_it_held_out(
    tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times_read: list[str], capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quickstart").is_file()
    assert main(["quickstart", "--model.base", str(tiny_base), "--data.source", str(news_csv)]) == 0
    assert times_read == [str(news_csv)]
    assert {path.name for path in tmp_path.iterdir()} == {"best_model", "predictions.csv"}
    label_of = dict(news_rows())
    texts = [text for (text,) in read_csv(Path("best_model/test_unlabelled.csv"))[1:]]
    answers = [label for _, label in read_csv(Path("predictions.csv"))[1:]]
    right = sum(label_of[text] == answer for text, answer in zip(texts, answers, strict=True))
    metrics = metrics_file(Path("best_model"))
    assert len(texts) == metrics["test"]["rows"] == 72
    assert right / len(texts) == metrics["test"]["accuracy"] > 0.5
    printed = capsys.readouterr().out
    assert printed.count("test accuracy") == 1 and printed.count("72 rows of best_model/test_unlabelled.csv") == 1


def test_the_quickstart_needs_rows_to_predict(
    tiny_base: Path, news_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--model.base", str(tiny_base), "--data.source", str(news_csv), "--data.test-fraction", "0"]
    assert main(["quickstart", *words]) == 2
    assert "leave out --data.test-fraction 0" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
