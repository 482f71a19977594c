"""Checkpoints: one file or shards, safetensors or pickles, of any float type, read as transformers reads them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hub import Hub
from safetensors.torch import load_file
from tiny import ragged_batch, tiny_shape, transformers_classifier

from submillion.config.resolve import resolve
from submillion.errors import BaseModelError
from submillion.model.base import Base, find_base
from submillion.model.checkpoint import read_checkpoint
from submillion.model.config_json import read_shape
from submillion.model.encoder import Encoder
from submillion.training.planning import base_shape

SAFE_INDEX, BINARY_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"


def save_sharded(folder: Path) -> list[str]:
    """A checkpoint in shards, as transformers writes one; the shards' names."""
    transformers_classifier(tiny_shape("bert")).save_pretrained(folder, max_shard_size="20KB")
    names = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(names) > 2 and not (folder / "model.safetensors").exists()
    return names


def as_binary(folder: Path) -> None:
    """The same shards as pickles, as earlier versions of transformers wrote them."""
    index = json.loads((folder / SAFE_INDEX).read_text())
    for name in sorted(set(index["weight_map"].values())):
        binary = name.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        torch.save(load_file(folder / name), folder / binary)
        (folder / name).unlink()
        index["weight_map"] = {key: binary if own == name else own for key, own in index["weight_map"].items()}
    (folder / SAFE_INDEX).unlink()
    (folder / BINARY_INDEX).write_text(json.dumps(index))


def assert_equal_states(folder: Path) -> None:
    from transformers import AutoModel

    encoder = Encoder(read_shape(folder))
    encoder.load(read_checkpoint(folder))
    input_ids, mask = ragged_batch(encoder.shape, [5, 17, 2])
    theirs = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(input_ids=input_ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(encoder(input_ids, mask)[mask == 1], expected[mask == 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_read_as_transformers_reads_them(kind: str, tmp_path: Path) -> None:
    save_sharded(tmp_path)
    if kind == "bin":
        as_binary(tmp_path)
    assert_equal_states(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_half_precision_is_read_into_fp32(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    transformers_classifier(tiny_shape("roberta")).to(dtype).save_pretrained(tmp_path)
    if kind == "bin":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    assert {tensor.dtype for tensor in read_checkpoint(tmp_path).values()} == {dtype}
    assert_equal_states(tmp_path)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_missing_shard_is_named(kind: str, tmp_path: Path) -> None:
    save_sharded(tmp_path)
    if kind == "bin":
        as_binary(tmp_path)
    shard = sorted(tmp_path.glob(f"*-00002-of-*.{kind}"))[0]
    shard.unlink()
    with pytest.raises(BaseModelError) as caught:
        read_checkpoint(tmp_path)
    assert shard.name in str(caught.value) and "00001" not in str(caught.value)
    with pytest.raises(BaseModelError, match=shard.name):
        find_base(str(tmp_path)).weights_hash()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    shard = tmp_path / save_sharded(tmp_path)[1]
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(BaseModelError, match=f"{shard.name} cannot be read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": ["a"]}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": {"a": "x", "b": 1}}',
    ],
)
def test_an_index_that_names_no_shards_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / SAFE_INDEX).write_text(content)
    with pytest.raises(BaseModelError, match="expected weight_map"):
        read_checkpoint(tmp_path)


def test_the_hash_is_of_every_shard(tmp_path: Path) -> None:
    names = save_sharded(tmp_path)
    before = find_base(str(tmp_path)).weights_hash()
    assert before == find_base(str(tmp_path)).weights_hash()
    content = bytearray((tmp_path / names[-1]).read_bytes())
    content[-1] ^= 1
    (tmp_path / names[-1]).write_bytes(content)
    assert find_base(str(tmp_path)).weights_hash() != before


# From the hub


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_downloaded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_sharded(tmp_path)
    if kind == "bin":
        as_binary(tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"not wanted")
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copy(tmp_path / "config.json", cache)  # as an earlier, interrupted download left it
    repository = tmp_path / "repository"
    shutil.copytree(tmp_path, repository, ignore=shutil.ignore_patterns("cache", "repository"))
    hub = Hub(repository, cache, monkeypatch)
    assert find_base("someone/sharded") == Base("someone/sharded", "cache", cache)
    assert read_checkpoint(cache) and not (cache / "tf_model.h5").exists()
    next(cache.glob("*-00002-of-*")).unlink()
    find_base("someone/sharded")
    assert read_checkpoint(cache).keys() == read_checkpoint(repository).keys()
    monkeypatch.setattr(hub, "repository", tmp_path / "gone")  # what is whole in the cache needs no network
    assert find_base("someone/sharded").folder == cache


def test_one_set_of_weights_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    transformers_classifier(tiny_shape("bert")).save_pretrained(repository)
    (repository / "pytorch_model.bin").write_bytes(b"the same again")
    Hub(repository, tmp_path / "cache", monkeypatch)
    folder = find_base("someone/both").folder
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_plan_downloads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    transformers_classifier(tiny_shape("bert")).save_pretrained(repository)
    Hub(repository, tmp_path / "cache", monkeypatch)
    config = resolve(overrides={"model.base": "someone/unknown"}).config
    assert base_shape(config) == read_shape(repository)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["config.json"]
    assert (find_base("someone/unknown").folder / "model.safetensors").is_file(), "training finds the rest"


def test_tokens_that_were_added_later_are_downloaded(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tiny_base, repository)
    (repository / "added_tokens.json").write_text("{}")
    Hub(repository, tmp_path / "cache", monkeypatch)
    assert (find_base("someone/added").folder / "added_tokens.json").is_file()
