"""Which rows belong together, and cuts that keep them together and the labels in proportion."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SHINGLE_WORDS = 5
COMMON_ROWS = 1000  # a shingle of more texts than this is boilerplate; counting it would cost rows squared
BLOCK_ROWS = 8192


def near_duplicate_groups(texts: Sequence[str]) -> np.ndarray:
    """Returns int64 [rows]: rows with the same id are near duplicates of each other, directly or through others.

    Two texts are near duplicates if they share half or more of the five-word shingles of the one that has fewer. Words
    are runs of letters and digits, lower-cased. Texts of fewer than five words need to be equal word by word. Ids count
    from 0 in order of first appearance. The result is exact but for one cap: a shingle found in more than 1,000
    different texts does not count as shared, so texts that are alike only in such boilerplate stay apart.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    texts, place = _each_once(texts)
    left, right = _alike(texts)
    graph = csr_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(texts), len(texts)))
    _, component = connected_components(graph, directed=False)
    return _in_order_of_appearance(component[place])


def near_duplicates(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Returns bool [texts]: whether a text is directly a near duplicate of one of the others.

    Near duplicates are those of `near_duplicate_groups`. Only the shingles of `texts` are held in memory, so there may
    be many more others than texts.
    """
    texts, place = _each_once(texts)
    others, _ = _each_once(others)
    ids: dict[str, int] = {}
    own, sizes = _incidence(texts, lambda shingle: ids.setdefault(shingle, len(ids)))
    theirs, their_sizes = _incidence(others, ids.get)
    holders, their_holders = (np.bincount(held[1], minlength=len(ids)) for held in (own, theirs))
    counted = (their_holders > 0) & (holders + their_holders <= COMMON_ROWS)
    left, _ = _pairs(_matrix(own, counted, len(texts)), _matrix(theirs, counted, len(others)), sizes, their_sizes)
    equal = set(others)
    found = np.array([text in equal for text in texts], dtype=bool)
    found[left] = True
    return found[place]


def _each_once(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the distinct texts, as words with one space between them, and each text's place in them, int64 [texts].

    Equal texts are one, so that a text repeated a thousand times is not taken for boilerplate.
    """
    first_with: dict[str, int] = {}
    # A text without any word (only signs) stands for itself.
    places = [
        first_with.setdefault(" ".join(re.findall(r"\w+", text.lower())) or text, len(first_with)) for text in texts
    ]
    return list(first_with), np.array(places, dtype=np.int64)


def _alike(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of normalised texts that share half of the smaller one's shingles.

    They are two int64 arrays, left and right, with left below right.
    """
    ids: dict[str, int] = {}
    held, sizes = _incidence(texts, lambda shingle: ids.setdefault(shingle, len(ids)))
    holders = np.bincount(held[1], minlength=len(ids))
    matrix = _matrix(held, (holders > 1) & (holders <= COMMON_ROWS), len(texts))
    left, right = _pairs(matrix, matrix, sizes, sizes)
    return left[left < right], right[left < right]


def _incidence(texts: list[str], id_of: Callable[[str], int | None]) -> tuple[np.ndarray, np.ndarray]:
    """Returns which text holds which shingle, int64 [2, pairs], and each text's number of shingles, int64 [texts].

    A pair is the text's place and the shingle's id. Shingles without an id are in no pair, but they are in the numbers.
    """
    columns: list[int] = []
    sizes, known = np.zeros((2, len(texts)), dtype=np.int64)
    for row, text in enumerate(texts):
        words = text.split(" ")
        shingles = {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}
        own = [found for shingle in shingles if (found := id_of(shingle)) is not None]
        sizes[row], known[row] = len(shingles), len(own)
        columns += own
    return np.stack([np.repeat(np.arange(len(texts)), known), np.array(columns, dtype=np.int64)]), sizes


def _matrix(held: np.ndarray, counted: np.ndarray, rows: int) -> "csr_matrix":
    """Returns the pairs of `_incidence` as ones of a sparse matrix, int32 [rows, shingles].

    counted: bool, for each id, whether its shingle has a column.
    """
    from scipy.sparse import csr_matrix

    row, column = held[:, counted[held[1]]]
    column = (np.cumsum(counted) - 1)[column]
    return csr_matrix((np.ones(len(row), dtype=np.int32), (row, column)), shape=(rows, int(counted.sum())))


def _pairs(
    own: "csr_matrix", theirs: "csr_matrix", sizes: np.ndarray, their_sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the two matrices that are alike, pair by pair: two int64 arrays.

    Two rows are alike if they share half of the shingles of the one that has fewer. sizes, their_sizes: each row's
    number of shingles.
    """
    found, turned = [np.empty((2, 0), dtype=np.int64)], theirs.T.tocsr()
    for start in range(0, own.shape[0], BLOCK_ROWS):  # block by block: the product of all rows need not fit in memory
        shared = (own[start : start + BLOCK_ROWS] @ turned).tocoo()
        left, right = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        alike = 2 * shared.data >= np.minimum(sizes[left], their_sizes[right])
        found.append(np.stack([left[alike], right[alike]]))
    left, right = np.concatenate(found, axis=1)
    return left, right


def _in_order_of_appearance(ids: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse].astype(np.int64)


def stratified_group_split(
    labels: np.ndarray, groups: np.ndarray, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sorted int64 indices of the rest and of the cut, which has about `fraction` of every label's rows.

    A group lies on one side whole. Each label of two rows or more gets at least one row on each side if the groups
    allow that. Groups are taken in random order and fill the cut up to each label's rounded share. A group that would
    overfill it stays in the rest. So the cut has no more of a label than its share, with one exception: a group may
    bring a label that would otherwise be missing from the cut.
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
    """Returns for each group, counted from 0, its labels and how many rows of each it has.

    It makes no table of all groups by all labels, which would be large.
    """
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
    """Moves a group into the cut for each label that has no row there.

    It is the label's smallest group that leaves every label a row in the rest. held: as `_labels_of` returns it. in_cut
    and taken are changed in place.
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
