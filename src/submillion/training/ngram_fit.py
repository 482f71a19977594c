"""Fits the bag of n-grams, and finds how much it weighs beside the encoder's logits."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from submillion.model.ngrams import Ngrams, hashed_ngrams
from submillion.runtime.forward import compute_ngrams
from submillion.text.tokenizer import Tokens
from submillion.training.rows import TokenRows
from submillion.training.run import Run, Say

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# scikit-learn's C, its default: from 0.3 to 3 the mixture moves by a twentieth of a point, on AG News and on BBC News.
INVERSE_PENALTY = 1.0
# On AG News, with 8 rows a class and their names, n-grams cost 2 points; with 16 rows a class, 0.5 (three draws).
LEAST_LEARNED = 100  # rows, for n-grams to learn from, or to choose between methods by
LATENT = 200  # dimensions that n-grams are summed up in
MOST_NGRAMS = 20_000_000  # learned from, 56 bytes each at the peak; if there are more, from rows at equal distances


def add_ngrams(run: Run, learned: TokenRows, say: Say) -> float | None:
    """Fits the n-grams, if the network has any, to the rows that it learned from.

    Returns their weight relative to the trained encoder's logits. Returns None without n-grams, and for fewer rows than
    LEAST_LEARNED, for which the n-grams stay zero.
    """
    network, validation = run.network, run.validation
    if network.ngrams is None:
        return None
    if len(learned) < LEAST_LEARNED:
        say("n-grams", f"stay zero: {len(learned)} rows, fewer than {LEAST_LEARNED}")
        return None
    weight = torch.ones(1, dtype=torch.float64)
    chooses = len(validation) >= LEAST_LEARNED
    if chooses:
        logits = run.logits("validation", validation.tokens)  # the table is still zero
    if run.world.is_first:
        fit_ngrams(network.ngrams, learned, run.config.train.class_weights == "balanced")
        if chooses:
            weight.fill_(ngram_weight(logits, compute_ngrams(network, validation.tokens), validation.targets))
        network.ngrams.scale(weight.item())
    # The first process fits, and the others take over its result: different machines may round differently.
    run.world.from_first(network.ngrams.weight.data)
    return run.world.from_first(weight).item()


def fit_ngrams(ngrams: Ngrams, train: TokenRows, balanced: bool = False) -> None:
    """Fills the table in place, by multinomial logistic regression on the rows' n-grams.

    The penalty holds a rare n-gram's weight down less than a common one's: the counts are multiplied by the inverse
    document frequency, as scikit-learn smooths it, and the factor is then part of the table. balanced: all labels weigh
    the same. A label without rows keeps logits of 0. The rows must have two labels or more, and tokens with content.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    content = train.tokens.content
    assert content is not None
    share = min(1.0, MOST_NGRAMS / max(1, 2 * int(content.lengths.sum())))
    rows = np.linspace(0, len(train) - 1, round(share * len(train))).round().astype(np.int64)
    labels = train.targets[rows]
    counts = count_ngrams(content.take(rows), len(ngrams.weight))
    idf = TfidfTransformer(norm=None).fit(counts).idf_
    sizes = np.sqrt(np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1))
    features = counts.multiply(1 / sizes[:, None]).multiply(idf[None, :]).tocsr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations do not move a label
        # No intercept: the head has one, and a row without n-grams adds nothing.
        model = LogisticRegression(
            C=INVERSE_PENALTY, fit_intercept=False, max_iter=300, class_weight="balanced" if balanced else None
        )
        model.fit(features, labels)
    table = model.coef_ if len(model.coef_) > 1 else np.concatenate([-model.coef_, model.coef_]) / 2
    with torch.no_grad():
        ngrams.weight[:, torch.from_numpy(model.classes_)] = torch.from_numpy((table * idf).T).to(ngrams.weight)


def count_ngrams(content: Tokens, buckets: int) -> "csr_matrix":
    """Counts how often each row has an n-gram of each bucket: fp64 [rows, buckets]."""
    from scipy.sparse import csr_matrix

    total = csr_matrix((len(content), buckets))
    for hashed, per_row in hashed_ngrams(content, buckets):
        ends = np.concatenate([[0], np.cumsum(per_row)])
        total = total + csr_matrix((np.ones(len(hashed)), hashed, ends), shape=total.shape)
    return total


def latent_ngrams(known: Tokens, others: Tokens, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a vector of length 1 for the n-grams of each known row and each other row: fp64 [rows, LATENT at most].

    This is latent semantic analysis (Deerwester et al., 1990), fitted to the known rows: the directions in which their
    n-grams, weighted by the inverse document frequency, differ most. Both must have their content. A row without
    n-grams gets zeros.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    assert known.content is not None and others.content is not None
    svd = TruncatedSVD(min(LATENT, len(known), buckets), random_state=0)
    found = make_pipeline(TfidfTransformer(sublinear_tf=True), svd, Normalizer(copy=False))
    of_known = found.fit_transform(count_ngrams(known.content, buckets))
    return of_known, found.transform(count_ngrams(others.content, buckets)) if len(others) else of_known[:0]


def ngram_weight(logits: np.ndarray, ngram_logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the weight w, from 0 to 20, at which logits + w * ngram_logits have the lowest cross-entropy.

    For each w, the sum is divided by its best temperature before the softmax. logits, ngram_logits: float
    [rows, labels], of validation rows. labels: int64 [rows]. With a factor for each of the two, this is a convex
    problem (stacking, Wolpert, 1992).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    both, rows = np.stack([logits, ngram_logits]).astype(np.float64), np.arange(len(labels))

    def cross_entropy(factors: np.ndarray) -> float:
        return float(-log_softmax(np.tensordot(factors, both, axes=1), axis=1)[rows, labels].mean())

    found = minimize(cross_entropy, [1.0, 0.5], bounds=[(0.05, 20.0), (0.0, 20.0)], method="L-BFGS-B").x
    return float(min(found[1] / found[0], 20.0))
