"""The table that a run ends with: every line is a fact of the result."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run
from rich.console import Console

from submillion.config.schema import Config, DataConfig, OutputConfig, RobustConfig
from submillion.report.summary import print_summary
from submillion.runtime.int8 import Int8Trial
from submillion.training.result import CrossValidated, LabelNames, SelfLabelled, Temperature


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "model.pt").write_bytes(bytes(1_250_000))
    return Config(
        data=DataConfig(source="someone/texts", validation_fraction=0), output=OutputConfig(dir=str(tmp_path))
    )


def summary(
    config: Config, splits: tuple[str, ...] = ("validation", "test"), predictions: Path | None = None, **result: Any
) -> dict[str, str]:
    """{heading: text} of the printed table."""
    run, found = made_run(splits=splits, config=config)
    console = Console(width=250, file=io.StringIO())
    print_summary(replace(found, **result), run, console, predictions)
    lines: dict[str, str] = {}
    last = ""  # a text of several lines has its heading beside the first
    for line in console.file.getvalue().splitlines():  # type: ignore[attr-defined]
        if line.startswith("│"):
            heading, text = (cell.strip() for cell in line.strip("│").split("│"))
            last = heading or last
            lines[last] = f"{lines[last]}\n{text}" if last in lines else text
    return lines


def test_a_plain_run(config: Config, tmp_path: Path) -> None:
    lines = summary(config, predictions=Path("answers.csv"))
    assert lines["test accuracy"] == lines["validation accuracy"] == "83.33% of 6 rows"
    assert lines["test macro-F1"] == "0.8286" and lines["training"] == "12 s, 34 rows/s"
    assert lines["kept"] == "step 3 of 4, the lowest validation loss"
    assert lines["model"] == f"{tmp_path / 'model.pt'} (1.2 MB)"
    assert lines["plots"] == f"{tmp_path / 'loss.png'}\n{tmp_path / 'accuracy.png'}"
    assert lines["predictions"] == "answers.csv" and lines["next"].startswith("submillion predict YOUR_FILE --model ")
    assert not {"calibration", "calibration error", "n-grams", "prediction", "skipped"} & set(lines)


def test_splits_without_rows_say_why(config: Config) -> None:
    lines = summary(config, splits=())
    assert lines["validation rows"].startswith("none: --data.validation-fraction is 0")
    assert lines["test rows"].startswith("none: no row could be cut")
    assert lines["kept"] == "step 3 of 4, the last: there are no validation rows"


@pytest.mark.parametrize(
    ("fitted_to", "line"),
    [
        ("validation", "10.00% (test; 20.00% before temperature 1.50)"),
        ("neighbours", "10.00% (test; 20.00% before temperature 1.50, by 100 texts held back)"),
        ("folds", "10.00% (test; 20.00% before temperature 1.50, by cross-validation)"),
    ],
)
def test_what_the_temperature_was_fitted_to(fitted_to: str, line: str, config: Config) -> None:
    texts = SelfLabelled(500, held_back=100)
    assert summary(config, temperature=Temperature(1.5, fitted_to), self_labelled=texts)["calibration error"] == line


def test_a_temperature_without_rows_to_measure_it_on(config: Config) -> None:
    crossed = CrossValidated(5, {"accuracy": 0.8, "rows": 20})
    lines = summary(config, splits=(), temperature=Temperature(1.5, "folds"), cross_validation=crossed)
    assert lines["calibration"] == "temperature 1.50, by cross-validation"
    assert lines["cross-validation"].startswith("80.0% of 20 rows, by 5 models that had not learned from them (58% to")


def test_what_else_the_run_did(config: Config, tmp_path: Path) -> None:
    scaled = replace(config, robust=RobustConfig(adapter_scale=0.8))
    lines = summary(
        scaled,
        planned_steps=9,
        int8=Int8Trial(0.1, 0.025),
        label_names=LabelNames(0.5, read=True),
        self_labelled=SelfLabelled(1_234),
        ngram_weight=0.5,
        skipped={"train": 2, "test": 1},
    )
    assert lines["kept"].endswith("; the schedule was made for 9 steps; its adapters were then multiplied by 0.8")
    assert lines["prediction"] == "in int8, and in bf16 for rows close between two labels (2.5%)"
    assert lines["label names"] == "trained it too, as texts"
    assert lines["self-labelled"] == "1,234 unlabelled texts trained it too"
    assert lines["n-grams"] == "weight 0.50 beside 1 for the encoder's logits, chosen on the validation rows"
    assert lines["skipped"] == f"3 rows, listed in {tmp_path / 'skipped.csv'}"
