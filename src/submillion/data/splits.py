"""Which rows belong together, and cuts that keep them together and the labels in proportion."""

import re
from collections.abc import Sequence

import numpy as np

SHINGLE_WORDS = 5
COMMON_ROWS = 1000  # a shingle of more texts than this is boilerplate; counting it would cost rows squared
BLOCK_ROWS = 8192


def near_duplicate_groups(texts: Sequence[str]) -> np.ndarray:
    """int64 [rows]: rows with the same id are near duplicates of each other, directly or through others.

    Two texts are near duplicates where they share half or more of the five-word shingles of the one that has fewer;
    words are runs of letters and digits, lower-cased. Texts of fewer than five words need to be equal word by word.
    Ids count from 0 in order of first appearance. Exact but for one cap: a shingle found in more than 1,000 different
    texts does not count as shared, so texts that are alike only in such boilerplate stay apart.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    # Equal texts are one from here on, so that a text repeated a thousand times is not taken for boilerplate.
    first_with: dict[str, int] = {}
    unique = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        # A text without any word (only signs) stands for itself.
        unique[row] = first_with.setdefault(" ".join(re.findall(r"\w+", text.lower())) or text, len(first_with))
    count = len(first_with)
    left, right = _alike(list(first_with))
    graph = csr_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return _in_order_of_appearance(component[unique])


def _alike(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (left, right), as two int64 arrays, of normalised texts that share half of the smaller one's shingles."""
    from scipy.sparse import csr_matrix

    shingle_ids: dict[str, int] = {}
    columns: list[int] = []
    sizes = np.zeros(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        words = text.split(" ")
        shingles = {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}
        sizes[row] = len(shingles)
        columns += [shingle_ids.setdefault(shingle, len(shingle_ids)) for shingle in shingles]
    rows = np.repeat(np.arange(len(texts)), sizes)
    column = np.asarray(columns, dtype=np.int64)
    rows_with = np.bincount(column, minlength=1)[column]
    counted = (rows_with > 1) & (rows_with <= COMMON_ROWS)
    kept_ids, column = np.unique(column[counted], return_inverse=True)
    ones = np.ones(len(column), dtype=np.int32)
    held = csr_matrix((ones, (rows[counted], column)), shape=(len(texts), len(kept_ids)))
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for start in range(0, len(texts), BLOCK_ROWS):  # block by block: the product of all rows need not fit in memory
        shared = (held[start : start + BLOCK_ROWS] @ held.T).tocoo()
        left, right = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        alike = (left < right) & (2 * shared.data >= np.minimum(sizes[left], sizes[right]))
        pairs.append(np.stack([left[alike], right[alike]]))
    left, right = np.concatenate(pairs, axis=1)
    return left, right


def _in_order_of_appearance(ids: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse].astype(np.int64)


def stratified_group_split(
    labels: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted int64 indices of the rest and of the cut, which has about fraction of every label's rows.

    A group lies on one side whole. Each label of two rows or more gets at least one row on each side where the groups
    allow that. Groups are taken in random order and fill the cut up to each label's rounded share; one that would
    overfill it stays in the rest. So the cut has no more of a label than its share, but for a group that brings a
    label which would otherwise be missing from the cut.
    """
    count = int(labels.max()) + 1 if len(labels) else 0
    totals = np.bincount(labels, minlength=count)
    if fraction <= 0 or not len(labels):
        return np.arange(len(labels)), np.empty(0, dtype=np.int64)
    wanted = np.clip(np.rint(fraction * totals).astype(np.int64), 1, np.maximum(totals - 1, 0)).clip(max=totals)
    group_of_row = np.unique(groups, return_inverse=True)[1]  # counted from 0
    held = _labels_of(group_of_row, labels, count)
    taken = np.zeros(count, dtype=np.int64)
    in_cut = np.zeros(len(held), dtype=bool)
    shuffled = rng.permutation(len(held))
    for group in shuffled:
        own, rows = held[group]
        if (taken[own] + rows <= wanted[own]).all():
            in_cut[group] = True
            taken[own] += rows
    _give_each_label_one(shuffled, held, in_cut, taken, wanted, totals)
    cut = in_cut[group_of_row]
    return np.flatnonzero(~cut), np.flatnonzero(cut)


def _labels_of(groups: np.ndarray, labels: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each group, counted from 0: its labels, and how many rows of each it has. No table of groups by labels."""
    met, rows = np.unique(groups * count + labels, return_counts=True)
    starts = np.searchsorted(met, np.arange(1, groups.max() + 1) * count)
    return list(zip(np.split(met % count, starts), np.split(rows, starts), strict=True))


def _give_each_label_one(
    shuffled: np.ndarray,
    held: list[tuple[np.ndarray, np.ndarray]],
    in_cut: np.ndarray,
    taken: np.ndarray,
    wanted: np.ndarray,
    totals: np.ndarray,
) -> None:
    """Move into the cut, for each label that has no row there, its smallest group that leaves every label a row.

    held: as `_labels_of` returns it.
    """
    missing = np.flatnonzero((taken == 0) & (wanted > 0))
    groups_of: dict[int, list[int]] = {label: [] for label in missing.tolist()}
    for group in shuffled.tolist():
        for label in held[group][0].tolist():
            if label in groups_of:
                groups_of[label].append(group)
    for label, groups in groups_of.items():
        if taken[label]:
            continue  # came along with another label's group
        fitting = []
        for group in groups:
            own, rows = held[group]
            if not in_cut[group] and (taken[own] + rows < totals[own]).all():
                fitting.append(group)
        if fitting:
            smallest = min(fitting, key=lambda group: int(held[group][1].sum()))
            own, rows = held[smallest]
            in_cut[smallest] = True
            taken[own] += rows
