"""Batches: every row once, rows of like length together, little padding, and the seed decides the order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import as_tokens

from submillion.runtime.batches import (
    LENGTH_MULTIPLE,
    evaluation_batches,
    pad_batch,
    parts_of_batch,
    training_batches,
)
from submillion.text.tokenizer import Tokens

lengths_of_rows = st.lists(st.integers(1, 200), min_size=1, max_size=300).map(np.array)
batch_sizes = st.integers(1, 40)


def news_like(rows: int = 20_000) -> np.ndarray:
    """Lengths as AG News has them: most rows of 35 to 65 tokens, a tail up to the cut at 128."""
    return np.clip(np.random.default_rng(0).lognormal(np.log(50), 0.35, rows), 8, 128).astype(np.int64)


def padded(batches: list[np.ndarray], lengths: np.ndarray) -> int:
    return sum(len(rows) * -(-int(lengths[rows].max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE for rows in batches)


@given(lengths_of_rows, batch_sizes)
def test_training_takes_every_row_once(lengths: np.ndarray, batch_size: int) -> None:
    batches = training_batches(lengths, batch_size, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert len(batches) == -(-len(lengths) // batch_size) and set(sizes[1:]) <= {batch_size} and sizes[0] <= batch_size


@given(lengths_of_rows, batch_sizes)
def test_evaluation_takes_every_row_once_longest_first(lengths: np.ndarray, batch_size: int) -> None:
    batches = list(evaluation_batches(lengths, batch_size))
    order = np.concatenate(batches)
    assert sorted(order) == list(range(len(lengths))) and (np.diff(lengths[order]) <= 0).all()
    assert all(len(rows) == batch_size for rows in batches[:-1])


def test_many_rows_keep_their_batch_size_but_for_one() -> None:
    sizes = [len(rows) for rows in training_batches(news_like(5_003), 32, np.random.default_rng(0))]
    assert sorted(sizes)[0] == 5_003 % 32 and sorted(sizes)[1] == 32


def test_little_of_a_batch_is_padding() -> None:
    lengths = news_like()
    bucketed = padded(training_batches(lengths, 32, np.random.default_rng(0)), lengths)
    shuffled = padded(np.array_split(np.random.default_rng(0).permutation(len(lengths)), len(lengths) // 32), lengths)
    assert bucketed < 1.12 * lengths.sum() and shuffled > 1.7 * lengths.sum()


def test_epochs_differ_and_seeds_repeat() -> None:
    lengths = news_like(1_000)
    rng = np.random.default_rng(3)
    first, second = (np.concatenate(training_batches(lengths, 32, rng)) for _ in range(2))
    again = np.concatenate(training_batches(lengths, 32, np.random.default_rng(3)))
    other = np.concatenate(training_batches(lengths, 32, np.random.default_rng(4)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


def test_rows_of_equal_length_are_mixed_anew_each_epoch() -> None:
    rng = np.random.default_rng(0)
    first, second = ({frozenset(rows) for rows in training_batches(np.full(320, 9), 32, rng)} for _ in range(2))
    assert not first & second


def test_long_and_short_batches_are_mixed() -> None:
    lengths = np.arange(1, 1_601)
    means = [lengths[rows].mean() for rows in training_batches(lengths, 32, np.random.default_rng(0))]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_pad_batch_puts_every_token_in_its_place() -> None:
    tokens = as_tokens([[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], []])
    input_ids, mask = pad_batch(tokens, np.array([2, 0, 1]), pad_id=1, limit=128)
    assert input_ids.dtype == mask.dtype == torch.int64
    assert input_ids.shape == mask.shape == (3, 10)
    assert input_ids[0].tolist() == [*range(9, 18), 1]
    assert input_ids[1].tolist() == [5, 6, 7, *[1] * 7]
    assert input_ids[2].tolist() == [8, *[1] * 9]
    assert mask.sum(dim=1).tolist() == [9, 3, 1] and mask[0].tolist() == [1] * 9 + [0]


@pytest.mark.parametrize(
    ("longest", "limit", "length"),
    [(1, 128, 2), (8, 128, 8), (9, 128, 10), (125, 125, 125), (125, 126, 126), (126, 126, 126), (9, 5, 9)],
)
def test_padded_lengths_are_rounded_up_to_the_limit_and_cut_no_token(longest: int, limit: int, length: int) -> None:
    tokens = as_tokens([[2] * longest, [2]])
    assert pad_batch(tokens, np.array([0, 1]), pad_id=0, limit=limit)[0].shape == (2, length)


def test_lengths_are_padded_to_the_multiple_asked_for() -> None:
    tokens = as_tokens([[2] * 9, [2]])
    assert [pad_batch(tokens, np.array([0, 1]), 0, limit, multiple=8)[0].shape[1] for limit in (128, 12)] == [16, 12]


def test_evaluation_batches_of_short_rows_hold_more_of_them() -> None:
    lengths = np.array([4, 16, 4, 4, 8, 4, 4])
    batches = [rows.tolist() for rows in evaluation_batches(lengths, 1, full_length=16)]
    assert batches == [[1], [4, 0], [2, 3, 5, 6]]
    assert [len(rows) for rows in evaluation_batches(lengths, 3, full_length=8)] == [3, 4]
    assert [len(rows) for rows in evaluation_batches(lengths, 1, full_length=1)] == [1] * 7
    assert [len(rows) for rows in evaluation_batches(lengths, 3)] == [3, 3, 1]


def test_there_are_few_distinct_padded_lengths() -> None:
    tokens = as_tokens([[2] * length for length in range(1, 129)])
    shapes = {pad_batch(tokens, np.array([row]), 0, 128)[0].shape[1] for row in range(128)}
    assert len(shapes) == 128 // LENGTH_MULTIPLE


@given(lengths_of_rows, st.integers(1, 4000))
def test_parts_hold_every_row_once_in_order_and_few_tokens(lengths: np.ndarray, tokens: int) -> None:
    rows = np.random.default_rng(0).permutation(len(lengths))
    parts = parts_of_batch(lengths, rows, tokens)
    assert np.array_equal(np.concatenate(parts), rows)
    assert all(len(part) and (len(part) == 1 or len(part) * lengths[rows].max() <= tokens) for part in parts)


def test_a_batch_that_fits_stays_whole() -> None:
    (part,) = parts_of_batch(np.full(32, 80), np.arange(32), 2560)
    assert len(part) == 32
    assert [len(part) for part in parts_of_batch(np.full(32, 81), np.arange(32), 2560)] == [16, 16]


def test_joined_tokens_are_the_rows_of_each_part_in_turn() -> None:
    first, second = as_tokens([[5, 6, 7], [8]]), as_tokens([[1], [2, 3], [4]]).take(np.array([2, 1]))
    joined = Tokens.joined([first, second])
    assert [joined.row(index).tolist() for index in range(len(joined))] == [[5, 6, 7], [8], [4], [2, 3]]
