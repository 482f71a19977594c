"""The budget: the seed's numbers, the counts of built models, and advice that holds when it is followed."""

import shlex
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny import FAMILIES, tiny_shape

from submillion.config.schema import TARGETS
from submillion.errors import BudgetError, ConfigError
from submillion.model.budget import (
    TARGET_SETS,
    adapted_layers,
    check_budget,
    count,
    head_parameters,
    largest_rank,
    rank_table,
    target_names,
    ways_to_fit,
)
from submillion.model.classifier import TextClassifier
from submillion.model.shape import KNOWN_SHAPES, EncoderShape
from submillion.model.spec import AdapterSpec, NetworkSpec

ROBERTA = KNOWN_SHAPES["roberta-base"]
MILLION = 1_000_000


@st.composite
def shapes(draw: st.DrawFn) -> EncoderShape:
    heads = draw(st.integers(1, 3))
    return tiny_shape(
        draw(st.sampled_from(FAMILIES)),
        vocab_size=draw(st.integers(4, 20)),
        num_heads=heads,
        hidden_size=heads * draw(st.integers(1, 6)),
        num_layers=draw(st.integers(1, 4)),
        intermediate_size=draw(st.integers(1, 30)),
    )


targets = st.one_of(
    st.just(("all-linear",)), st.lists(st.sampled_from(TARGETS), min_size=1, max_size=6, unique=True).map(tuple)
)
models = st.builds(
    NetworkSpec,
    head=st.sampled_from(["stock", "linear"]),
    unfreeze_layers=st.integers(0, 5),
    ngram_buckets=st.sampled_from([0, 1, 50]),
)


@st.composite
def settings_of_a_run(draw: st.DrawFn, largest: int = 9) -> tuple[EncoderShape, NetworkSpec, AdapterSpec, int]:
    shape = draw(shapes())
    some = st.lists(st.integers(0, shape.num_layers - 1), min_size=1, unique=True).map(tuple)
    layers: Any = draw(st.one_of(st.just("all"), some))
    lora = AdapterSpec(rank=draw(st.integers(0, largest)), targets=draw(targets), layers=layers)
    return shape, draw(models), lora, draw(st.integers(2, 7))


def test_the_numbers_of_the_seed_system() -> None:
    plan = count(ROBERTA, NetworkSpec(), AdapterSpec(rank=2, targets=("query", "value")), num_outputs=4)
    assert sum(plan.head.values()) == 593_668
    assert sum(plan.adapters.values()) == 73_728
    assert plan.trainable == 667_396
    assert plan.total == 124_648_708
    assert plan.total_with_adapters == 124_648_708 + 73_728


@pytest.mark.parametrize(
    ("head", "ranks"), [("stock", (11, 5, 2)), ("linear", (27, 13, 6))]
)  # fmt: skip
def test_the_rank_table_of_roberta_base(head: str, ranks: tuple[int, ...]) -> None:
    assert rank_table(ROBERTA, AdapterSpec(), 4, MILLION)[head] == dict(zip(TARGET_SETS, ranks, strict=True))


def test_two_unfrozen_layers_of_roberta_base_are_refused() -> None:
    with pytest.raises(BudgetError, match=r"unfrozen layers 14,175,744"):
        check_budget(ROBERTA, NetworkSpec(unfreeze_layers=2), AdapterSpec(), 4, MILLION)


@given(settings_of_a_run())
@settings(max_examples=60)
def test_the_count_is_that_of_the_built_model(run: tuple[EncoderShape, NetworkSpec, AdapterSpec, int]) -> None:
    shape, model, lora, num_labels = run
    plan = count(shape, model, lora, num_labels)
    network = TextClassifier(shape, model, lora, num_labels)
    names = network.trainable()
    assert plan.trainable == sum(p.numel() for p in names.values())
    assert sum(plan.adapters.values()) == sum(p.numel() for name, p in names.items() if ".lora_" in name)
    assert sum(plan.head.values()) == sum(p.numel() for p in network.head.parameters())
    assert plan.ngrams == sum(p.numel() for name, p in names.items() if name.startswith("ngrams."))
    assert plan.encoder == sum(tensor.numel() for tensor in network.encoder.published_tensors().values())


@given(settings_of_a_run(), st.integers(1, 4000))
@settings(max_examples=100)
def test_the_largest_rank_fits_and_the_next_does_not(
    run: tuple[EncoderShape, NetworkSpec, AdapterSpec, int], budget: int
) -> None:
    shape, model, lora, num_labels = run
    try:
        rank = largest_rank(shape, model, lora, num_labels, budget)
    except BudgetError:
        rank = 0
    if rank:
        assert count(shape, model, replace(lora, rank=rank), num_labels).trainable <= budget
    if rank < shape.hidden_size:
        assert count(shape, model, replace(lora, rank=rank + 1), num_labels).trainable > budget


def follow(flags: str, model: NetworkSpec, lora: AdapterSpec) -> tuple[NetworkSpec, AdapterSpec]:
    """The configuration after a user has added these flags to a command."""
    for flag in flags.removeprefix("--").split(" --"):
        name, *values = shlex.split(flag)
        room, field = name.replace("-", "_").split(".")
        value: Any = tuple(values) if field == "targets" else values[0] if field == "head" else int(values[0])
        if room == "model":
            model = replace(model, **{field: value})
        else:
            lora = replace(lora, **{field: value})
    return model, lora


@given(settings_of_a_run(largest=40), st.integers(1, 3000))
@settings(max_examples=150)
def test_every_way_to_fit_fits_as_it_says(run: tuple[EncoderShape, NetworkSpec, AdapterSpec, int], budget: int) -> None:
    shape, model, lora, num_labels = run
    assume(count(shape, model, lora, num_labels).trainable > budget)
    ways = ways_to_fit(shape, model, lora, num_labels, budget)
    assert len(ways) <= 3 and len({flags for flags, _ in ways}) == len(ways)
    for flags, trainable in ways:
        assert count(shape, *follow(flags, model, lora), num_labels).trainable == trainable <= budget
    smallest = sum(head_parameters("linear", shape.hidden_size, num_labels).values())
    assert bool(ways) == (smallest <= budget)


@given(settings_of_a_run())
@settings(max_examples=30)
def test_what_fits_is_not_refused(run: tuple[EncoderShape, NetworkSpec, AdapterSpec, int]) -> None:
    plan = count(*run)
    assert check_budget(*run, budget=plan.trainable) == plan
    with pytest.raises(BudgetError):
        check_budget(*run, budget=plan.trainable - 1)


def test_a_refusal_says_how_much_of_what_and_how_to_fit() -> None:
    lora = AdapterSpec(rank=16, targets=("query", "value"))
    with pytest.raises(BudgetError) as caught:
        check_budget(ROBERTA, NetworkSpec(), lora, 4, MILLION)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "1,183,492 trainable parameters (adapters 589,824, head 593,668) exceed the budget of 1,000,000 by 183,492."
    )
    assert lines[1:3] == ["The cheapest ways to fit:", "  --lora.rank 11   (999,172 trainable)"]
    assert lines[-1] == "  --budget 1183492   (raises the limit to what this run needs)" and len(lines) == 6


def test_advice_keeps_the_adapters_where_it_can() -> None:
    ways = ways_to_fit(ROBERTA, NetworkSpec(), AdapterSpec(rank=16, targets=("query", "value")), 4, MILLION)
    assert [flags for flags, _ in ways] == ["--lora.rank 11", "--model.head linear", "--lora.rank 0"]


def test_advice_changes_no_more_than_it_must() -> None:
    flags = [way for way, _ in ways_to_fit(ROBERTA, NetworkSpec(unfreeze_layers=2), AdapterSpec(), 4, MILLION)]
    assert flags[0] == "--model.unfreeze-layers 0" and not any("--lora" in way for way in flags)


def test_n_grams_count_and_give_way() -> None:
    model = NetworkSpec(head="linear", ngram_buckets=250_000)
    with pytest.raises(BudgetError, match=r"\(adapters 73,728, head 3,076, n-grams 1,000,000\)") as caught:
        check_budget(ROBERTA, model, AdapterSpec(), 4, MILLION)
    assert "--model.ngram-buckets 230799   (1,000,000 trainable)" in str(caught.value)
    plan = count(ROBERTA, replace(model, ngram_buckets=1000), AdapterSpec(), 4)
    assert plan.ngrams == 4000 and plan.total == ROBERTA.parameters + 3_076 + 4000
    assert rank_table(ROBERTA, AdapterSpec(), 4, MILLION, 200_000)["linear"]["query value"] == 5


def test_a_refusal_says_when_nothing_fits() -> None:
    with pytest.raises(BudgetError, match="Nothing smaller fits either"):
        check_budget(ROBERTA, NetworkSpec(), AdapterSpec(), 4, 3_075)


def test_the_largest_rank_does_not_depend_on_the_rank_that_is_set() -> None:
    for rank in (0, 2, 99):
        assert largest_rank(ROBERTA, NetworkSpec(), AdapterSpec(rank=rank), 4, MILLION) == 11


def test_no_room_for_rank_1_is_refused_with_ways_to_fit() -> None:
    with pytest.raises(BudgetError, match=r"(?s)no rank fits: at rank 1, .*--model\.head linear"):
        largest_rank(ROBERTA, NetworkSpec(), AdapterSpec(), 4, 600_000)


@pytest.mark.parametrize(
    ("given_targets", "expected"),
    [
        (("value", "query"), ("query", "value")),
        (("all-linear",), TARGETS),
        (("output", "intermediate", "key"), ("key", "intermediate", "output")),
    ],
)
def test_targets_are_in_the_encoder_s_order(given_targets: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert target_names(given_targets) == expected


def test_layers_that_do_not_exist_are_named() -> None:
    with pytest.raises(ConfigError, match=r"\[12, 40\].*layers 0 to 11"):
        adapted_layers(AdapterSpec(layers=(3, 12, 40)), 12)


def test_layers_are_sorted() -> None:
    assert adapted_layers(AdapterSpec(layers=(5, 0, 3)), 6) == (0, 3, 5)


def test_counting_needs_no_torch_and_no_weights() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from submillion.model.budget import *; "
        "from submillion.model.shape import known_shape; "
        "print(count(known_shape('roberta-base'), NetworkSpec(), AdapterSpec(), 4).trainable, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["667396", "False"]


def test_the_model_of_the_seed_has_the_seed_s_parameters() -> None:
    with torch.device("meta"):
        network = TextClassifier(ROBERTA, NetworkSpec(), AdapterSpec(), num_outputs=4)
    assert sum(p.numel() for p in network.parameters()) == 667_396
