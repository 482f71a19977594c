"""The bag of n-grams: which buckets a row reads, and what it adds to the logits."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import as_tokens, scatter

from submillion.model import ngrams as module
from submillion.model.ngrams import FIRST, PRIME, SECOND, Ngrams, hashed_ngrams

ROWS = st.lists(st.lists(st.integers(0, 300_000), max_size=9), max_size=6)


def filled(buckets: int = 97, num_labels: int = 3) -> Ngrams:
    made = Ngrams(buckets, num_labels)
    scatter(list(made.parameters()), seed=4)
    return made


def by_hand(ngrams: Ngrams, row: list[int]) -> torch.Tensor:
    """Python's whole numbers, which do not overflow, and sums in fp64."""
    grams = [(token + 1, 0) for token in row] + [(a + 1, b + 1) for a, b in pairwise(row)]
    buckets = [(FIRST * a + SECOND * b) % PRIME % len(ngrams.weight) for a, b in grams]
    table = ngrams.weight.detach().double()
    total = sum((table[bucket] for bucket in buckets), torch.zeros(table.shape[1], dtype=torch.float64))
    return total / math.sqrt(max(1, len(grams)))


@given(ROWS)
def test_a_row_s_logits_are_the_sum_of_its_tokens_and_pairs_over_the_root_of_their_number(
    rows: list[list[int]],
) -> None:
    ngrams = filled()
    found = ngrams(as_tokens(rows)).detach()
    assert found.shape == (len(rows), 3) and found.dtype == torch.float32
    for row, logits in zip(rows, found, strict=True):
        assert torch.allclose(logits.double(), by_hand(ngrams, row), atol=1e-6)


@given(ROWS, st.randoms(use_true_random=False))
def test_a_row_s_logits_do_not_depend_on_the_others(rows: list[list[int]], random: object) -> None:
    ngrams, tokens = filled(), as_tokens([*rows, [5, 6, 7]])
    order = np.random.default_rng(0).permutation(len(tokens))
    together = ngrams(tokens).detach()
    assert torch.equal(ngrams(tokens.take(order)).detach(), together[torch.from_numpy(order)])
    assert torch.equal(ngrams(tokens.take(np.array([len(rows)]))).detach()[0], together[-1])


def test_many_rows_go_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    ngrams, tokens = filled(), as_tokens([[row, row + 1] for row in range(10)])
    expected = ngrams(tokens).detach()
    monkeypatch.setattr(module, "_TOKENS", 5)
    assert torch.equal(ngrams(tokens).detach(), expected)
    long = as_tokens([[1, 2], list(range(40)), [], [3]])
    together = ngrams(long).detach()
    assert torch.equal(together, torch.cat([ngrams(long.take(np.array([row]))).detach() for row in range(4)]))


def test_a_pair_is_not_its_reverse_and_no_pair_spans_two_rows() -> None:
    (_, _), (pairs, per_row) = hashed_ngrams(as_tokens([[1, 2], [2, 1], [3]]), 2**31 - 1)
    assert per_row.tolist() == [1, 1, 0] and len(pairs) == 2 and pairs[0] != pairs[1]


def test_the_hash_spreads_tokens_and_pairs_evenly() -> None:
    tokens = as_tokens([np.random.default_rng(0).permutation(30_000)[:8000].tolist()])
    for hashed, _ in hashed_ngrams(tokens, 4096):
        counts = np.bincount(hashed, minlength=4096)  # 8,000 over 4,096; by chance 85.8 % of the buckets get one
        assert counts.max() <= 12 and (counts > 0).mean() > 0.83


def test_an_empty_row_adds_nothing_and_so_does_a_table_that_nothing_was_fitted_to() -> None:
    assert torch.equal(filled()(as_tokens([[], []])), torch.zeros(2, 3))
    assert torch.equal(Ngrams(8, 3)(as_tokens([[1, 2, 3]])), torch.zeros(1, 3))
