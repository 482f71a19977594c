"""Fits the bag of n-grams, and finds how much it weighs beside the encoder's logits."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from submillion.config import TrainConfig
from submillion.data.tokenizer import Tokens
from submillion.model.ngrams import Ngrams, hashed_ngrams
from submillion.training.loop import TokenRows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# scikit-learn's C, its default: from 0.3 to 3 the mixture moves by a twentieth of a point, on AG News and on BBC News.
INVERSE_PENALTY = 1.0
LATENT = 200  # dimensions that n-grams are summed up in
MOST_NGRAMS = 20_000_000  # that are learned from, 56 bytes each at the peak; of more, rows at equal distances


def fit_ngrams(ngrams: Ngrams, train: TokenRows, config: TrainConfig) -> None:
    """Fills the table in place, by multinomial logistic regression on the rows' n-grams.

    A rare n-gram's weight is held down less than a common one's: the counts are multiplied by the inverse document
    frequency, as scikit-learn smooths it, which the table then takes in. With config.class_weights balanced, each label
    weighs alike. A label without rows keeps logits of 0. The rows have two labels or more, and their content.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    content = train.tokens.content
    assert content is not None
    share = min(1.0, MOST_NGRAMS / max(1, 2 * int(content.lengths.sum())))
    rows = np.linspace(0, len(train) - 1, round(share * len(train))).round().astype(np.int64)
    labels = train.labels[rows]
    counts = count_ngrams(content.take(rows), len(ngrams.weight))
    idf = TfidfTransformer(norm=None).fit(counts).idf_
    sizes = np.sqrt(np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1))
    features = counts.multiply(1 / sizes[:, None]).multiply(idf[None, :]).tocsr()
    balanced = "balanced" if config.class_weights == "balanced" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations do not move a label
        # No intercept: the head has one, and a row without n-grams adds nothing.
        model = LogisticRegression(C=INVERSE_PENALTY, fit_intercept=False, max_iter=300, class_weight=balanced)
        model.fit(features, labels)
    table = model.coef_ if len(model.coef_) > 1 else np.concatenate([-model.coef_, model.coef_]) / 2
    with torch.no_grad():
        ngrams.weight[:, torch.from_numpy(model.classes_)] = torch.from_numpy((table * idf).T).to(ngrams.weight)


def count_ngrams(content: Tokens, buckets: int) -> "csr_matrix":
    """How often each row has an n-gram of each bucket: fp64 [rows, buckets]."""
    from scipy.sparse import csr_matrix

    total = csr_matrix((len(content), buckets))
    for hashed, per_row in hashed_ngrams(content, buckets):
        ends = np.concatenate([[0], np.cumsum(per_row)])
        total = total + csr_matrix((np.ones(len(hashed)), hashed, ends), shape=total.shape)
    return total


def latent_ngrams(known: Tokens, others: Tokens, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """What a row's n-grams are about, of length 1: fp64 [rows, LATENT at most] of the known rows and of others.

    Latent semantic analysis (Deerwester et al., 1990), fitted to the known rows: the directions in which their n-grams,
    weighed by the inverse document frequency, differ most. Both have their content; a row without n-grams gets zeros.
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
    """The weight w at which softmax((logits + w * ngram_logits) / temperature), at its own best temperature, has the
    lowest cross-entropy: both [rows, labels], of validation rows with these labels, int64 [rows]. 0 to 20.

    In the factors of both it is a convex problem (stacking, Wolpert, 1992).
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    both, rows = np.stack([logits, ngram_logits]).astype(np.float64), np.arange(len(labels))

    def cross_entropy(factors: np.ndarray) -> float:
        return float(-log_softmax(np.tensordot(factors, both, axes=1), axis=1)[rows, labels].mean())

    found = minimize(cross_entropy, [1.0, 0.5], bounds=[(0.05, 20.0), (0.0, 20.0)], method="L-BFGS-B").x
    return float(min(found[1] / found[0], 20.0))
