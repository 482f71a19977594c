"""Where an adapter and its base are found: folders, the hub and its cache, revisions; and what is said where not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import as_binary, change, save_adapter
from hub import Hub, HubCache, hub_cache  # noqa: F401
from saved import LABELS, saved_model
from test_exports import TEXTS, assert_equal, checkpoints, their_logits  # noqa: F401
from tiny import scatter

from submillion.cli import main
from submillion.inference.artefact import Artefact
from submillion.inference.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
FIRST, SECOND = "1" * 40, "2" * 40
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def adapter(checkpoints: dict[str, Path], tmp_path: Path) -> Path:  # noqa: F811
    """On BERT, with BERT's folder as its base."""
    save_adapter(checkpoints["bert"], tmp_path / "adapter", target_modules=["query"])
    return tmp_path / "adapter"


@pytest.fixture
def two_commits(checkpoints: dict[str, Path], tmp_path: Path, hub_cache: HubCache) -> HubCache:  # noqa: F811
    """someone/base in the hub's cache: the tag v1 is BERT, the main branch another BERT."""
    from transformers import AutoModelForSequenceClassification

    other = shutil.copytree(checkpoints["bert"], tmp_path / "other")
    model = AutoModelForSequenceClassification.from_pretrained(other)
    scatter(list(model.parameters()), seed=5)
    model.save_pretrained(other)
    hub_cache.put("someone/base", checkpoints["bert"], FIRST, "v1")
    hub_cache.put("someone/base", other, SECOND, "main")
    return hub_cache


def take(name: object, output: Path, *flags: str) -> int:
    return main(["import", str(name), "--output.dir", str(output), *flags])


# The base and its revision


@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize(("revision", "commit"), [("v1", FIRST), (FIRST, FIRST), (None, SECOND)])
def test_the_revision_that_the_adapter_names_is_taken(
    merging: bool,
    revision: str | None,
    commit: str,
    adapter: Path,
    two_commits: HubCache,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from peft import AutoPeftModelForSequenceClassification

    change(adapter, base_model_name_or_path="someone/base", revision=revision)
    assert take(adapter, tmp_path / "ours", *["--merge"] * merging) == 0
    assert "names revision" not in capsys.readouterr().out
    ours = Classifier.from_pretrained(tmp_path / "ours") if merging else Classifier.load(tmp_path / "ours")
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(adapter, num_labels=len(LABELS))
    assert_equal(ours.logits(TEXTS), their_logits(theirs, ours))
    if not merging:
        artefact = Artefact.load(tmp_path / "ours")
        assert artefact.base["name"] == "someone/base" and artefact.base["revision"] == commit
        assert artefact.configuration().model.base == f"someone/base@{commit}"


def test_two_revisions_have_other_logits(adapter: Path, two_commits: HubCache, tmp_path: Path) -> None:
    logits = []
    for revision in ("v1", "main"):
        change(adapter, base_model_name_or_path="someone/base", revision=revision)
        assert take(adapter, tmp_path / revision) == 0
        logits.append(Classifier.load(tmp_path / revision).logits(TEXTS))
    assert np.abs(logits[0] - logits[1]).max() > 0.1


def test_a_revision_that_cannot_be_had_is_refused_by_its_name(
    adapter: Path, two_commits: HubCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(adapter, base_model_name_or_path="someone/base", revision="v2")
    assert take(adapter, tmp_path / "ours") == 2
    message = capsys.readouterr().err
    assert "'someone/base' at revision 'v2' is no local folder" in message and "import: --base DIR" in message
    assert not (tmp_path / "ours").exists()


def test_a_revision_of_a_wrong_kind_is_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(adapter, revision=1)
    assert take(adapter, tmp_path / "ours") == 2
    assert "expected revision to be a text, found 1" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["someone/base", "a folder"])
@pytest.mark.parametrize("given", ["a folder", "someone/other", ""])
def test_a_revision_that_was_not_checked_is_noted(
    named: str,
    given: str,
    adapter: Path,
    checkpoints: dict[str, Path],  # noqa: F811
    two_commits: HubCache,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two_commits.put("someone/other", checkpoints["bert"], FIRST, "main")
    named, given = (name.replace("a folder", str(checkpoints["bert"])) for name in (named, given))
    change(adapter, base_model_name_or_path=named, revision="v1")
    assert take(adapter, tmp_path / "ours", *(["--base", given] if given else [])) == 0
    out = capsys.readouterr().out
    if (named, given) == ("someone/base", ""):
        assert "names revision" not in out
    else:
        assert f"note: the adapter names revision v1 of {named}; whether {given or named} is that one" in out


def test_our_own_export_names_the_commit_and_the_import_takes_it(
    checkpoints: dict[str, Path],  # noqa: F811
    two_commits: HubCache,
    tmp_path: Path,
) -> None:
    model = saved_model(checkpoints["bert"], tmp_path)
    artefact = Artefact.load(model)
    replace(artefact, base=artefact.base | {"name": "someone/base", "revision": FIRST}).save(model)
    assert main(["export", str(model), "--to", "peft", str(tmp_path / "exported")]) == 0
    assert json.loads((tmp_path / "exported" / "adapter_config.json").read_text())["revision"] == FIRST
    assert take(tmp_path / "exported", tmp_path / "ours", "--max-length", "40") == 0
    assert Artefact.load(tmp_path / "ours").base == Artefact.load(model).base
    assert_equal(Classifier.load(tmp_path / "ours").logits(TEXTS), Classifier.load(model).logits(TEXTS))


@pytest.mark.parametrize("named", [None, "", " ", 5, "missing"])
@pytest.mark.parametrize("flags", [[], ["--merge"]])
def test_an_adapter_that_names_no_base_does_not_take_the_current_folder(
    named: Any,
    flags: list[str],
    adapter: Path,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkpoints["bert"])
    change(adapter, base_model_name_or_path=named)
    if named == "missing":
        path = adapter / "adapter_config.json"
        settings = json.loads(path.read_text())
        del settings["base_model_name_or_path"]
        path.write_text(json.dumps(settings))
    assert take(adapter, tmp_path / "ours", *flags) == 2
    message = capsys.readouterr().err
    assert "the adapter names no base" in message and "fix: --base with the model it was trained on" in message
    assert not (tmp_path / "ours").exists()
    assert take(adapter, tmp_path / "ours", *flags, "--base", str(checkpoints["bert"])) == 0


# The adapter


@pytest.mark.parametrize("flags", [[], ["--merge"]])
def test_an_adapter_is_taken_from_the_hub_s_cache(
    flags: list[str],
    adapter: Path,
    checkpoints: dict[str, Path],  # noqa: F811
    hub_cache: HubCache,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(checkpoints["bert"] / "tokenizer.json", adapter)
    hub_cache.put("someone/adapter", adapter, FIRST, "main")
    assert take("someone/adapter", tmp_path / "ours", *flags) == 0
    out = capsys.readouterr().out
    assert out.startswith("someone/adapter -> ") and "without a tokenizer" not in out
    assert take(adapter, tmp_path / "same", *flags) == 0
    for name in {path.name for path in (tmp_path / "same").iterdir()}:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


def test_an_adapter_whose_tokenizer_cannot_be_looked_for_is_noted(
    adapter: Path,
    hub_cache: HubCache,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub_cache.put("someone/adapter", adapter, FIRST, "main")
    assert take("someone/adapter", tmp_path / "ours") == 0
    assert "note: someone/adapter is in the hub's cache without a tokenizer" in capsys.readouterr().out


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_is_downloaded_with_its_tokenizer(
    weights: str,
    adapter: Path,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if weights.endswith(".bin"):
        as_binary(adapter)
    shutil.copy(checkpoints["bert"] / "tokenizer.json", adapter)
    (adapter / "optimizer.pt").write_bytes(b"not wanted")
    Hub(adapter, tmp_path / "cache", monkeypatch)
    assert take("someone/adapter", tmp_path / "ours") == 0
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names == {"adapter_config.json", weights, "tokenizer.json"}
    assert Classifier.load(tmp_path / "ours").predict(TEXTS)


def test_no_answer_of_the_hub_says_so(
    hub_cache: HubCache,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert take("someone/adapter", tmp_path / "ours") == 2
    message = capsys.readouterr().err
    assert "the adapter 'someone/adapter' is no local folder, is not in the hub's cache, and the hub does" in message
    assert "fix: copy its files into a folder, and give that" in message and not (tmp_path / "ours").exists()


@pytest.mark.parametrize("name", ["", " ", "nothing", "./some/adapter", "/no/such/folder", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], adapter: Path
) -> None:
    monkeypatch.chdir(adapter)  # an empty name is not the current folder
    assert take(name, tmp_path / "ours") == 2
    assert f"expected a PEFT adapter, found no folder {name!r}\nfix: " in capsys.readouterr().err


def test_a_folder_without_an_adapter_is_named(
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert take(checkpoints["bert"], tmp_path / "ours") == 2
    assert "with adapter_config.json, found none in" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_in_the_adapter_is_named(
    name: str, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / name).write_bytes(POINTER)
    for flags in ([], ["--merge"]):
        assert take(adapter, tmp_path / "ours", *flags) == 2
        assert f"found Git LFS pointers in place of {name}\n" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()


def test_a_pointer_beside_the_weights_that_are_read_does_no_harm(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(POINTER)
    assert take(adapter, tmp_path / "ours") == 0


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_git_lfs_pointer_in_the_base_is_named(
    name: str,
    adapter: Path,
    checkpoints: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = shutil.copytree(checkpoints["bert"], tmp_path / "base")
    (base / name).write_bytes(POINTER)
    assert take(adapter, tmp_path / "ours", "--base", str(base)) == 2
    assert "git lfs pull" in capsys.readouterr().err and not (tmp_path / "ours").exists()
