"""The model card: metadata that the hub's own library reads, the figures that were measured, names escaped."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard
from made_runs import FROM_THE_HUB, made_run
from markdown_it import MarkdownIt
from news import LABELS, TEST_ROWS, news_rows, run_of, write_csv
from scipy.stats import binomtest

from submillion.cli import main
from submillion.commands.evaluate import evaluate_source
from submillion.commands.train import TrainResult, train, train_resolved
from submillion.config.resolve import resolve
from submillion.config.schema import Config, DataConfig, LoraConfig, ModelConfig, RobustConfig
from submillion.data.short_names import short_name
from submillion.report.card import render_card
from submillion.report.card_file import BEGIN, END, refresh_card
from submillion.report.sentences import wilson_interval
from submillion.runtime.int8 import Int8Trial
from submillion.training.result import SelfLabelled

HUB_BASE = {"name": "someone/encoder", "revision": "0123abc", "weights_sha256": "f" * 64}
HOSTILE = (
    "a: b",
    "| c |",
    "**bold** __and__ _so_",
    "new\nline\n---\n# heading",
    "\"quoted\" 'twice'",
    "<img src=x onerror=alert(1)>",
    f"{END} <!-- & &amp;",
    "[link](javascript:x) ![p](q)",
    "`code` ``` ~~~",
    "back\\slash \\| $x$ @y",
    "- yes",
    "\x00\x1b[31m\u2028end",
)


def made(
    names: tuple[str, ...] = ("x", "y"),
    splits: tuple[str, ...] = ("validation", "test"),
    config: Config = FROM_THE_HUB,
    base: dict[str, str] = HUB_BASE,
    result: dict[str, Any] | None = None,
    **corpus_fields: Any,
) -> str:
    """A card without a training run."""
    run, found = made_run(names, splits, config, **corpus_fields)
    return render_card(run, replace(found, **(result or {})), base, ["loss.png"])


def tables(card: str) -> Iterator[list[list[str]]]:
    """The tables as a reader sees them: rows of cells, each as its text without markup."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(ModelCard(card).text)
    for place, token in enumerate(tokens):
        if token.type == "table_open":
            found: list[list[str]] = []
        elif token.type == "tr_open":
            found.append([])
        elif token.type in ("th_open", "td_open"):
            children = tokens[place + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special"}
            found[-1].append("".join(child.content for child in children))
        elif token.type == "table_close":
            yield found


def table_of(card: str, first: str) -> list[list[str]]:
    return next(found for found in tables(card) if found[0][0] == first)


def html(card: str) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).render(ModelCard(card).text)


# What the hub reads


def test_the_hub_s_library_reads_the_measured_figures(trained: TrainResult, news_csv: Path) -> None:
    data = ModelCard.load(trained.folder / "README.md").data
    of = {
        "task_type": "text-classification",
        "task_name": "Text Classification",
        "dataset_type": "custom",
        "dataset_name": f"{news_csv.name} (test rows held out)",
    }
    found = trained.metrics["test"]
    accuracy = EvalResult(**of, metric_type="accuracy", metric_name="accuracy", metric_value=found["accuracy"])
    f1 = EvalResult(
        **of, metric_type="f1", metric_name="macro-F1", metric_value=found["macro_f1"], metric_args={"average": "macro"}
    )
    assert data.eval_results == [accuracy, f1]
    assert (data.library_name, data.pipeline_tag, data.metrics) == (
        "submillion",
        "text-classification",
        ["accuracy", "f1"],
    )
    # Neither is a repository of the hub, and nobody said what language or licence it is.
    assert (data.base_model, data.datasets, data.language, data.license) == (None, None, None, None)


def test_the_card_is_valid_for_the_hub_as_it_is_written(trained: TrainResult) -> None:
    written = (trained.folder / "README.md").read_text(encoding="utf-8")
    assert str(ModelCard(written)) == written  # its own library would write the same


def test_what_is_on_the_hub_is_linked_in_the_metadata() -> None:
    card = made(hub_id="someone/texts", config=Config(data=DataConfig(source="someone/texts@v2")))
    data = ModelCard(card).data
    assert (data.base_model, data.base_model_relation, data.datasets) == (
        "someone/encoder",
        "adapter",
        ["someone/texts"],
    )
    [result, _] = data.eval_results or []
    assert (result.dataset_type, result.dataset_split, result.dataset_revision) == ("someone/texts", "test", "v2")
    assert "revision 0123abc" in card and "(https://huggingface.co/datasets/someone/texts)" in card


def test_rows_that_were_cut_are_not_called_a_split_of_the_data_set() -> None:
    card = made(hub_id="someone/texts", cut=("test", "validation"))
    [result, _] = ModelCard(card).data.eval_results or []
    assert result.dataset_split is None and result.dataset_name == "someone/texts (test rows held out)"
    assert "The test and validation rows were cut from its training rows" in card


def test_without_test_rows_the_validation_rows_speak_and_it_is_said() -> None:
    card = made(splits=("validation",))
    [result, _] = ModelCard(card).data.eval_results or []
    assert result.dataset_split == "validation" and result.metric_value == 5 / 6
    assert "There were no test rows" in card and "There were no test rows" not in made()


def test_where_nothing_was_measured_nothing_is_claimed() -> None:
    card = made(splits=())
    data = ModelCard(card).data
    assert (data.eval_results, data.metrics, data.get("model-index"), data.model_name) == (None, None, None, None)
    assert "Nothing was measured: no rows were held out." in card and "%" not in card.partition("## Results")[2]


# What a person reads


def test_the_rows_are_counted_by_label(trained: TrainResult) -> None:
    counts = table_of((trained.folder / "README.md").read_text(encoding="utf-8"), "rows")
    assert counts[:2] == [["rows", "training", "validation", "test"], ["all labels", "252", "36", "72"]]
    assert counts[2:] == [[name, "84", "12", "24"] for name in LABELS]


def test_the_parameters_by_part_are_all_that_trains(trained: TrainResult) -> None:
    parts = table_of((trained.folder / "README.md").read_text(encoding="utf-8"), "part")
    sizes = {part: int(number.replace(",", "")) for part, number, _ in parts[1:]}
    own = [number for part, number in sizes.items() if part.startswith(("LoRA", "head"))]
    assert len(own) == 3 and sum(own) == sizes["trainable"] == trained.metrics["parameters"]["trainable"]


def test_the_results_are_those_of_the_run_with_their_n(trained: TrainResult) -> None:
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    tested = trained.metrics["test"]
    results = next(found for found in tables(card) if found[0][:2] == ["rows", "n"])
    assert results[1][:3] == ["test", str(TEST_ROWS), f"{tested['accuracy']:.2%}"]
    by_label = {row[0]: row[1:] for row in table_of(card, "label")[1:]}
    assert by_label == {
        name: [str(found["rows"]), *(f"{found[key]:.3f}" for key in ("precision", "recall", "f1"))]
        for name, found in tested["per_label"].items()
    }


def test_settings_that_were_chosen_come_before_the_defaults(trained: TrainResult) -> None:
    settings = table_of((trained.folder / "README.md").read_text(encoding="utf-8"), "setting")[1:]
    values = dict(settings)
    assert (values["train.learning_rate"], values["lora.rank"]) == ("0.02", "2 (default)")
    defaults = [value.endswith("(default)") for _, value in settings]
    assert any(defaults) and defaults == sorted(defaults)
    assert not {"model.base", "data.source", "output.dir"} & set(values)


def test_a_training_that_ended_before_its_schedule_says_so() -> None:
    assert "Step 3 of 4 was kept, the one of the lowest validation loss." in made()
    early = made(result={"planned_steps": 9})
    assert "of the lowest validation loss; the schedule was made for 9 steps." in early


def test_adapters_that_were_scaled_are_told() -> None:
    scaled = Config(robust=RobustConfig(adapter_scale=0.8))
    assert "validation loss; its adapters were then multiplied by 0.8." in made(config=scaled)
    assert "multiplied" not in made(config=replace(scaled, lora=LoraConfig(rank=0)))


def test_layers_that_trained_in_full_are_told() -> None:
    def opening(**model: Any) -> str:
        card = made(config=Config(model=ModelConfig(**model), lora=LoraConfig(rank=0)))
        return card.partition("trained parameters: ")[2].partition("\n")[0]

    assert opening(unfreeze_layers=2) == "a head and the last 2 encoder layers in full."
    assert opening(unfreeze_layers=1) == "a head and the last encoder layer in full."
    assert opening(unfreeze_layers=0) == "a head."


def test_figures_that_are_of_int8_say_so() -> None:
    told = "within 0.081 of each other, 2.5% of those compared, are computed again in bf16"
    assert told in made(result={"int8": Int8Trial(0.0812, 0.025)}) and "int8" not in made()


def test_what_a_temperature_takes_is_told_whole() -> None:
    told = (
        "a temperature takes 50 validation rows to fit, 500 unlabelled texts, or cross-validation "
        "(`train.few_labels`) of 8 rows."
    )
    assert told in made() and told in made(splits=())


def test_the_most_frequent_mistakes_are_named() -> None:
    assert "The most frequent mistakes, of 1 in all: x called y (1)." in made(("x", "y", "z"))


def test_what_the_card_tells_to_do_works(trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    shutil.copytree(trained.folder, tmp_path / trained.folder.name)
    write_csv(tmp_path / "texts.csv", [["oil prices"], ["the match"]], ["text"])
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["model"].label_names == LABELS
    [command] = re.findall(r"```bash\nsubmillion (.*?)\n```", card)
    assert main(shlex.split(command)) == 0 and (tmp_path / "predictions.csv").is_file()


def test_every_link_leads_to_a_file_beside_the_card(trained: TrainResult) -> None:
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]*)\)", card) if not link.startswith("https://")]
    assert set(links) == {"config.toml", "loss.png", "accuracy.png"}
    assert all((trained.folder / link).is_file() for link in links)


def test_the_plots_are_in_a_second_folder_too_if_one_is_asked_for(tiny_base: Path, tmp_path: Path) -> None:
    resolved = resolve(overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    folder = train_resolved(resolved, news_rows(20), assets=tmp_path / "assets").folder
    assert {path.name for path in (tmp_path / "assets").iterdir()} == {"loss.png", "accuracy.png"}
    for name in ("loss.png", "accuracy.png"):
        assert (folder / name).read_bytes() == (tmp_path / "assets" / name).read_bytes()


def test_the_plots_of_a_run_lie_in_its_folder_alone(tiny_base: Path, tmp_path: Path) -> None:
    train(data=news_rows(20), overrides=run_of(tiny_base, tmp_path, train__epochs=1))
    assert (tmp_path / "best_model" / "loss.png").is_file() and [path.name for path in tmp_path.iterdir()] == [
        "best_model"
    ]


def test_what_auto_came_to_is_shown() -> None:
    config = Config(lora=LoraConfig(rank="auto"), model=ModelConfig(head="linear"))
    settings = dict(table_of(card := made(config=config, result={"rank": 7}), "setting")[1:])
    assert settings["lora.rank"] == "auto: 7" and settings["train.precision"] == "auto: fp32 (default)"
    assert "The head reads the mean over all tokens." in card and "The head reads the first token." in made()


# Names that a user gave


def test_no_folder_of_this_machine_is_told(trained: TrainResult, tiny_base: Path, news_csv: Path) -> None:
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    assert tiny_base.name in card and news_csv.name in card
    assert str(tiny_base.parent) not in card and str(news_csv.parent) not in card


def test_a_path_is_told_by_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret (1)" / "news").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in ("secret (1)/news", "./secret (1)/news", str(tmp_path / "secret (1)" / "news"), "~/gone/news"):
        assert short_name(path) == "news"
    assert short_name("package:corpus/news") == "corpus/news" and short_name("someone/news") == "someone/news"


def test_hostile_names_stay_in_their_cells() -> None:
    source = "/x/" + re.sub("[/\\x00]", "", "".join(HOSTILE))
    config = Config(data=DataConfig(source=source), model=ModelConfig(base="~/a|b`c"))
    card = made(HOSTILE, config=config, base=HUB_BASE | {"name": "~/a|b`c", "revision": ""}, notice="".join(HOSTILE))
    one_line = [" ".join(re.sub(r"[\x00\x1b]", " ", name).split()) for name in HOSTILE]
    assert [row[0] for row in table_of(card, "rows")[2:]] == one_line
    assert [row[0] for row in table_of(card, "label")[1:]] == one_line
    for found in tables(card):
        assert {len(row) for row in found} == {len(found[0])}
    shown = html(card)
    assert "<img src=x" not in shown and 'javascript:x"' not in shown and "<strong>bold" not in shown
    assert re.findall(r"<h\d>(.*?)</h", shown)[1:] == [
        "Use", "Data", "Recipe", "Parameters", "Results", "Robustness", "Limits",
    ]  # fmt: skip
    body = ModelCard(card).text
    assert (body.count(BEGIN), body.count(END)) == (1, 1)
    assert len(ModelCard(card).data.eval_results or []) == 2 and ModelCard(card).data.library_name == "submillion"


def test_a_thousand_labels_do_not_fill_the_card() -> None:
    card = made(tuple(f"label {number}" for number in range(1000)))
    assert all(len(found) < 60 for found in tables(card)) and "and 950 more" in card


def test_nor_do_the_proportions_in_which_texts_got_them() -> None:
    shares = {f"label {number}": (number + 1) / 78 for number in range(12)}
    card = made(result={"self_labelled": SelfLabelled(9, proportions=shares)})
    told = "than its training rows have: label 11 15%, label 10 14%, label 9 13%, "
    assert told in card and ", label 2 4% and 2 labels more." in card


# Robustness


@pytest.fixture(scope="module")
def measured(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A copy of the model whose card its owner has edited, measured."""
    folder = tmp_path_factory.mktemp("measured")
    model = Path(shutil.copytree(trained.folder, folder / "best_model"))
    card = (model / "README.md").read_text(encoding="utf-8")
    before = card.replace("library_name", "language: en\nlibrary_name").replace("## Limits", "## Limits\n\nMy own.")
    (model / "README.md").write_text(before, encoding="utf-8")
    source = write_csv(folder / "fresh.csv", news_rows(10, seed=7))
    flags = ["--model", str(model), "--data.source", str(source), "--assets", str(folder / "plots")]
    flags += ["--output", str(folder / "m.json"), "--robustness", "--robustness-rows", "10"]
    assert main(["evaluate", *flags]) == 0
    return SimpleNamespace(model=model, before=before, flags=flags, output=folder / "m.json", source=source)


def test_measuring_robustness_fills_its_part_and_no_other(measured: SimpleNamespace) -> None:
    after = (measured.model / "README.md").read_text(encoding="utf-8")
    outside = [re.sub(f"{BEGIN}.*{END}", "", card, flags=re.DOTALL) for card in (measured.before, after)]
    assert outside[0] == outside[1] and "My own." in after and ModelCard(after).data.language == "en"
    assert "Not measured." in measured.before and "Not measured." not in after
    for name in ("reliability.png", "coverage.png", "noise.png"):
        assert f"]({name})" in after and (measured.model / name).is_file()


def test_the_table_holds_what_was_measured(measured: SimpleNamespace) -> None:
    found = json.loads(measured.output.read_text(encoding="utf-8"))["robustness"]
    card = (measured.model / "README.md").read_text(encoding="utf-8")
    lines = {row[0]: row[1:] for row in table_of(card, "measure")[1:]}
    assert lines["clean"] == ["10", f"{found['clean']:.1%}"]
    assert lines["16 kinds of noise at high strength, mean"] == ["10", f"{found['noise']['mean']['high']:.1%}"]
    assert lines["rewritten by rule as a post"] == ["10", f"{found['style']['post']:.1%}"]
    assert [values for name, values in lines.items() if "attack" in name] == [
        ["10", f"{found['attack']['accuracy']:.1%}"]
    ]
    assert "10 of 30 rows" in card and "Rows of another kind were not measured." in card


def test_measuring_again_writes_the_same_card(measured: SimpleNamespace) -> None:
    after = (measured.model / "README.md").read_bytes()
    assert main(["evaluate", *measured.flags]) == 0 and (measured.model / "README.md").read_bytes() == after


def test_a_name_like_a_mark_is_none(tmp_path: Path) -> None:
    source = f"/x/{BEGIN}{END}"
    (tmp_path / "README.md").write_text(made(config=Config(data=DataConfig(source=source))), encoding="utf-8")
    assert refresh_card(tmp_path, "what was found", []) == tmp_path / "README.md"
    after = ModelCard.load(tmp_path / "README.md")
    assert f"## Robustness\n\n{BEGIN}\n\nwhat was found\n\n{END}\n\n## Limits" in after.text
    assert len(after.data.eval_results or []) == 2 and BEGIN in (after.data.model_name or "")


@pytest.mark.parametrize("card", ["# Mine\n", f"{BEGIN} cut", f"{END} before {BEGIN}", None])
def test_a_card_without_both_marks_is_left_alone(card: str | None, tmp_path: Path) -> None:
    if card:
        (tmp_path / "README.md").write_text(card)
    assert refresh_card(tmp_path, "section", [tmp_path / "noise.png"]) is None
    assert [path.read_text() for path in tmp_path.iterdir()] == ([card] if card else [])


def test_a_card_that_cannot_be_written_is_no_error(
    measured: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied", "README.md")

    monkeypatch.setattr("submillion.report.card_file.write_atomically", refuse)
    assert main(["evaluate", *measured.flags]) == 0
    assert "card: not refreshed" in capsys.readouterr().out


def test_plain_evaluation_leaves_the_card_alone(measured: SimpleNamespace) -> None:
    before = (measured.model / "README.md").read_bytes()
    evaluate_source(measured.model, str(measured.source))
    assert (measured.model / "README.md").read_bytes() == before


@pytest.mark.parametrize(("right", "rows"), [(433, 444), (0, 10), (10, 10), (1, 2)])
def test_the_interval_is_wilson_s(right: int, rows: int) -> None:
    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert wilson_interval(right / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_run_without_adapters_does_not_speak_of_them() -> None:
    assert "LoRA" not in made(config=Config(lora=LoraConfig(rank=0))).partition("## Use")[0].partition("\n# ")[2]
