import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from submillion.data import splits
from submillion.data.splits import near_duplicate_groups, near_duplicates, stratified_group_split
from submillion.seeds import numpy_generator

STORY = "oil prices climbed on monday as ministers met in vienna to talk about supply"


def test_equal_near_equal_and_other_texts():
    texts = [
        STORY,
        "Stocks fell for a third day as investors waited for the jobs report on friday",
        STORY.upper() + "!",  # other case and signs, same words
        "UPDATE: " + STORY + ", officials said",
        "Oil prices climbed on monday as a storm closed ports from texas to the florida coast",  # shares two shingles
    ]
    assert near_duplicate_groups(texts).tolist() == [0, 1, 0, 0, 2]


def test_half_of_the_smaller_ones_shingles_is_the_border():
    # 9 words have 5 shingles, 8 have 4; texts that share the first 7 words share 3, 6 words 2, 5 words 1.
    for length, shared, alike in ((9, 7, True), (9, 6, False), (8, 6, True), (8, 5, False)):
        words = [f"w{number}" for number in range(length)]
        other = [*words[:shared], *(f"x{number}" for number in range(length - shared))]
        groups = near_duplicate_groups([" ".join(words), " ".join(other)])
        assert (groups[0] == groups[1]) == alike, (length, shared)


def test_a_short_text_needs_equal_words():
    assert near_duplicate_groups(["Oil climbs", "oil  climbs!", "oil falls", "?", "!", "?"]).tolist() == [
        0,
        0,
        1,
        2,
        3,
        2,
    ]


def test_groups_are_transitive():
    words = [f"w{number}" for number in range(40)]
    chain = [" ".join(words[start : start + 20]) for start in (0, 7, 14, 20)]
    assert near_duplicate_groups(chain).tolist() == [0, 0, 0, 0]
    assert near_duplicate_groups([chain[0], chain[3]]).tolist() == [0, 1]


def test_a_text_repeated_very_often_is_still_one_group(monkeypatch):
    monkeypatch.setattr(splits, "COMMON_ROWS", 3)
    assert set(near_duplicate_groups([STORY] * 10)) == {0}
    # The cap: five different texts that share boilerplate alone stay apart.
    tails = [f"t{number}" for number in range(5)]
    assert len(set(near_duplicate_groups([f"{STORY} {tail}" for tail in tails]))) == 5
    assert len(set(near_duplicate_groups([f"{STORY} {tail}" for tail in tails[:3]]))) == 1


def test_no_texts():
    assert near_duplicate_groups([]).tolist() == []


@settings(max_examples=60)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=12))
def test_groups_equal_a_direct_comparison_of_all_pairs(texts):
    def shingles(text):
        words = text.split()
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    def alike(left, right):
        a, b = shingles(left), shingles(right)
        return left == right or bool(a and b and 2 * len(a & b) >= min(len(a), len(b)))

    expected = list(range(len(texts)))
    for _ in texts:
        for i, left in enumerate(texts):
            for j, right in enumerate(texts):
                if alike(left, right):
                    expected[i] = expected[j] = min(expected[i], expected[j])
    groups = near_duplicate_groups(texts)
    assert groups.dtype == np.int64
    seen: dict[int, int] = {}
    assert groups.tolist() == [seen.setdefault(first, len(seen)) for first in expected]


def test_texts_that_others_hold_nearly():
    near = "UPDATE: " + STORY.upper() + ", officials said"
    texts = [STORY, near, "Stocks fell for a third day as investors waited for jobs", "?", "Oil  climbs", STORY]
    found = near_duplicates(texts, [STORY + "!", "oil climbs!", "!"])
    assert found.dtype == bool and found.tolist() == [True, True, False, False, True, True]
    assert near_duplicates([], [STORY]).tolist() == [] and near_duplicates([STORY], []).tolist() == [False]


def test_boilerplate_makes_no_near_duplicate(monkeypatch):
    monkeypatch.setattr(splits, "COMMON_ROWS", 3)
    tails = [f"{STORY} t{number}" for number in range(4)]
    assert near_duplicates(tails[:1], tails[1:3]).all()
    assert not near_duplicates(tails[:1], tails[1:]).any()
    assert near_duplicates(tails[:1], tails[:1] * 9).all()


@settings(max_examples=60)
@given(*[st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=8)] * 2)
def test_two_texts_are_near_duplicates_where_they_are_one_group(texts, others):
    expected = [any(np.ptp(near_duplicate_groups([text, other])) == 0 for other in others) for text in texts]
    assert near_duplicates(texts, others).tolist() == expected


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=120)


@settings(max_examples=200)
@given(rows=rows, fraction=st.floats(0, 0.9), seed=st.integers(0, 5))
def test_a_cut_is_a_partition_by_group_near_the_fraction(rows, fraction, seed):
    labels, groups = np.array(rows, dtype=np.int64).T
    rest, cut = stratified_group_split(labels, groups, fraction, np.random.default_rng(seed))
    assert rest.dtype == cut.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([rest, cut])), np.arange(len(labels)))
    assert np.array_equal(rest, np.sort(rest)) and np.array_equal(cut, np.sort(cut))
    assert not set(groups[rest]) & set(groups[cut])
    again = stratified_group_split(labels, groups, fraction, np.random.default_rng(seed))
    assert np.array_equal(again[0], rest) and np.array_equal(again[1], cut)
    largest = np.bincount(groups).max()
    for label in set(labels.tolist()):
        assert label in labels[rest]
        assert (labels[cut] == label).sum() <= max(np.rint(fraction * (labels == label).sum()), 1) + largest


@settings(max_examples=100)
@given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=4), fraction=st.floats(0.01, 0.9))
def test_without_groups_every_label_has_its_exact_share_and_both_sides(counts, fraction):
    labels = np.repeat(np.arange(len(counts)), counts)
    _, cut = stratified_group_split(labels, np.arange(len(labels)), fraction, np.random.default_rng(0))
    shares = np.clip(np.rint(fraction * np.array(counts)), 1, np.array(counts) - 1)
    assert np.bincount(labels[cut], minlength=len(counts)).tolist() == shares.tolist()


def test_a_label_that_lies_in_large_groups_only_gets_its_smallest_group():
    labels = np.array([0] * 40 + [1] * 9)
    groups = np.array([*range(40), 50, 50, 50, 50, 51, 51, 51, 52, 52])
    rest, cut = stratified_group_split(labels, groups, 0.1, np.random.default_rng(0))
    assert (labels[cut] == 0).sum() == 4
    assert set(groups[cut][labels[cut] == 1]) == {52}
    assert set(groups[rest][labels[rest] == 1]) == {50, 51}


def test_a_label_in_a_single_group_stays_in_the_rest():
    labels = np.array([0] * 10 + [1] * 5)
    groups = np.array([*range(10), *[20] * 5])
    _, cut = stratified_group_split(labels, groups, 0.3, np.random.default_rng(0))
    assert set(labels[cut]) == {0}


def dense_split(labels, groups, fraction, rng):
    """The cut by its definition, with the count of every label for every group."""
    count = int(labels.max()) + 1
    totals = np.bincount(labels, minlength=count)
    wanted = np.clip(np.rint(fraction * totals).astype(np.int64), 1, np.maximum(totals - 1, 0)).clip(max=totals)
    names = np.unique(groups)
    held = [np.bincount(labels[groups == name], minlength=count) for name in names]
    taken, in_cut = np.zeros(count, dtype=np.int64), np.zeros(len(names), dtype=bool)
    shuffled = rng.permutation(len(names))
    for group in shuffled:
        if (taken + held[group] <= wanted).all():
            in_cut[group] = True
            taken += held[group]
    for label in range(count):
        fitting = [
            group
            for group in shuffled
            if held[group][label] and not in_cut[group] and ((taken + held[group] < totals) | (held[group] == 0)).all()
        ]
        if not taken[label] and wanted[label] and fitting:
            smallest = min(fitting, key=lambda group: int(held[group].sum()))
            in_cut[smallest] = True
            taken += held[smallest]
    return np.flatnonzero(np.isin(groups, names[in_cut]))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("labels_of", [3, 40])
def test_the_cut_is_the_one_of_the_definition(labels_of, seed):
    rng = np.random.default_rng(seed)
    # Groups of many sizes, with one label and with several: some labels come into the cut by the second pass alone.
    groups = rng.permutation(np.minimum(rng.geometric(0.02, 300), 200))
    labels = np.where(rng.random(300) < 0.7, groups % labels_of, rng.integers(labels_of, size=300))
    for fraction in (0.02, 0.1, 0.5):
        _, cut = stratified_group_split(labels, groups, fraction, np.random.default_rng(seed))
        np.testing.assert_array_equal(cut, dense_split(labels, groups, fraction, np.random.default_rng(seed)))


def test_memory_does_not_grow_with_rows_times_labels():
    labels = np.arange(5_000) % 2_000  # a count of each label for each row would be 80 MB
    tracemalloc.start()
    try:
        _, cut = stratified_group_split(labels, np.arange(5_000), 0.2, np.random.default_rng(0))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert len(cut) == 2_000


def test_fraction_0_cuts_nothing_and_seeds_differ():
    labels = np.arange(100) % 2
    assert len(stratified_group_split(labels, np.arange(100), 0.0, numpy_generator(0, "split"))[1]) == 0
    cuts = [
        stratified_group_split(labels, np.arange(100), 0.2, numpy_generator(seed, "split"))[1].tolist()
        for seed in (0, 0, 1)
    ]
    assert cuts[0] == cuts[1] != cuts[2]


@pytest.mark.parametrize("fraction", [0.05, 0.2])
def test_agnews_is_grouped_in_seconds(agnews, fraction):
    import time

    import pyarrow.parquet as pq

    table = pq.read_table(agnews / "train.parquet").slice(0, 20_000).to_pydict()
    started = time.perf_counter()
    groups = near_duplicate_groups(table["text"])
    assert time.perf_counter() - started < 10
    assert 18_000 < len(set(groups)) < 20_000
    labels = np.array(table["label"])
    _, cut = stratified_group_split(labels, groups, fraction, numpy_generator(0, "split"))
    shares = np.bincount(labels[cut]) / np.bincount(labels)
    assert np.allclose(shares, fraction, atol=1e-3)
