"""Fitting the n-grams, and how much they weigh."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from tiny import CPU, TASK, as_tokens, learnable_rows, scatter, tiny_classifier

from submillion.config.schema import TrainConfig
from submillion.model.ngrams import Ngrams
from submillion.model.spec import NetworkSpec
from submillion.runtime.forward import compute_logits, compute_ngrams
from submillion.text.tokenizer import Tokens
from submillion.training import ngram_fit as module
from submillion.training.loop import fit
from submillion.training.ngram_fit import INVERSE_PENALTY, count_ngrams, fit_ngrams, latent_ngrams, ngram_weight
from submillion.training.rows import TokenRows


def with_content(rows: TokenRows) -> TokenRows:
    tokens = rows.tokens
    return TokenRows(Tokens(tokens.flat, tokens.lengths, tokens.starts, tokens), rows.targets)


def fitted(rows: TokenRows, balanced: bool = False, num_labels: int = 3, buckets: int = 512) -> Ngrams:
    made = Ngrams(buckets, num_labels)
    fit_ngrams(made, with_content(rows), balanced)
    return made


def right(ngrams: Ngrams, rows: TokenRows) -> float:
    with torch.no_grad():
        return float((ngrams(rows.tokens).argmax(dim=1).numpy() == rows.targets).mean())


def test_they_learn_what_tokens_say() -> None:
    train, test = learnable_rows(), learnable_rows(200, seed=1)
    assert right(fitted(train), test) > 0.9
    assert right(fitted(learnable_rows(shuffle_labels=True)), test) < 0.6


def test_order_alone_is_enough() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=400)
    rows = [[10, 11, 10][label : label + 2] + rng.integers(20, 60, 3).tolist() for label in labels]
    train = TokenRows(as_tokens(rows), labels)
    assert right(fitted(train, num_labels=2), train) > 0.95  # 10 11 or 11 10: the same tokens


def test_the_table_gives_the_logits_of_the_regression_that_it_was_fitted_by() -> None:
    train = learnable_rows(200)
    found = fitted(train)
    counts = count_ngrams(train.tokens, 512)
    assert counts.sum() == (2 * train.tokens.lengths - 1).sum()
    idf = TfidfTransformer(norm=None).fit(counts).idf_
    features = counts.toarray() * idf / np.sqrt(counts.toarray().sum(axis=1, keepdims=True))
    expected = LogisticRegression(C=INVERSE_PENALTY, fit_intercept=False, max_iter=300).fit(features, train.targets)
    with torch.no_grad():
        logits = found(train.tokens).double().numpy()
    assert np.abs(log_softmax(logits, axis=1) - expected.predict_log_proba(features)).max() < 2e-3


def test_two_labels_balanced_labels_and_labels_without_rows() -> None:
    train = learnable_rows(num_labels=2)
    assert right(fitted(train, num_labels=2), train) > 0.9
    missing = fitted(train, num_labels=4)
    assert missing.weight.shape == (512, 4) and torch.equal(missing.weight[:, 2:], torch.zeros(512, 2))
    rare = TokenRows(train.tokens, np.where(np.arange(len(train)) % 10 == 0, train.targets, 0))
    shares = []
    for balanced in (False, True):
        made = fitted(rare, balanced, num_labels=2)
        with torch.no_grad():
            shares.append(float((made(rare.tokens).argmax(dim=1) == 1).float().mean()))
    assert shares[0] < shares[1]


def test_of_very_many_rows_some_at_equal_distances_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = learnable_rows(600), learnable_rows(200, seed=1)
    order = np.argsort(train.targets, kind="stable")
    ordered = TokenRows(train.tokens.take(order), train.targets[order])  # a file is often sorted by its labels
    monkeypatch.setattr(module, "MOST_NGRAMS", int(train.tokens.lengths.sum()))
    rows = np.linspace(0, 599, 300).round().astype(int)
    half = TokenRows(ordered.tokens.take(rows), ordered.targets[rows])
    found = fitted(ordered)
    monkeypatch.undo()
    assert torch.equal(found.weight, fitted(half).weight) and right(found, test) > 0.9


def test_the_weight_is_the_one_of_the_lowest_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=2000)
    truth = 2.0 * np.eye(3)[labels]
    logits, ngrams = (truth + rng.normal(0, std, truth.shape) for std in (1.0, 2.0))
    found = ngram_weight(4 * logits, ngrams, labels)
    assert found == pytest.approx(1.0, rel=0.2)  # a quarter as sure, four times too sure

    def best(weight: float) -> float:
        rows = np.arange(len(labels))
        mixed = 4 * logits + weight * ngrams
        return min(-log_softmax(mixed / t, axis=1)[rows, labels].mean() for t in np.geomspace(0.5, 20, 400))

    assert best(found) < min(best(0.7 * found), best(1.4 * found))


def test_n_grams_that_say_nothing_weigh_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=2000)
    logits = 3 * np.eye(3)[labels] + rng.normal(0, 1, (2000, 3))
    assert ngram_weight(logits, rng.normal(0, 1, (2000, 3)), labels) < 0.1
    assert ngram_weight(logits, -logits, labels) == 0


def test_training_leaves_the_table_alone_and_the_logits_hold_both() -> None:
    model = tiny_classifier(network=NetworkSpec(ngram_buckets=64, dropout=0.0))
    rows = with_content(learnable_rows(64))
    scatter([model.ngrams.weight])  # type: ignore[union-attr]
    before = model.ngrams.weight.detach().clone()  # type: ignore[union-attr]
    fit(model, TASK, rows, rows, TrainConfig(learning_rate=1e-3), 0, CPU)
    assert torch.equal(model.ngrams.weight, before)  # type: ignore[union-attr]
    both = compute_logits(model, TASK, rows.tokens, 16, CPU)
    added = compute_ngrams(model, rows.tokens)
    model.ngrams.scale(0.0)  # type: ignore[union-attr]
    assert (
        np.allclose(both, compute_logits(model, TASK, rows.tokens, 16, CPU) + added, atol=1e-6)
        and np.abs(added).max() > 0.1
    )


def test_tokens_without_their_content_are_no_input() -> None:
    model = tiny_classifier(network=NetworkSpec(ngram_buckets=64))
    tokens = learnable_rows(4).tokens
    assert np.array_equal(compute_ngrams(model, tokens), np.zeros((4, 3)))  # before anything is fitted nothing is read
    scatter([model.ngrams.weight])  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="whole texts"):
        compute_logits(model, TASK, tokens, 4, CPU)


def test_latent_n_grams_are_near_where_rows_speak_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of three kinds, each of five of the ten words of its own, so that two of a kind may share no word at all."""
    monkeypatch.setattr(module, "LATENT", 3)
    rng = np.random.default_rng(0)
    kinds = np.arange(300) % 3
    rows = with_content(TokenRows(as_tokens([10 * kind + rng.permutation(10)[:5] for kind in kinds]), kinds)).tokens
    known, others = rows.take(np.arange(240)), rows.take(np.arange(240, 300))
    of_known, of_others = latent_ngrams(known, others, 512)
    assert of_known.shape == (240, 3) and of_others.shape == (60, 3) and of_known.dtype == np.float64
    for found in (of_known, of_others):
        assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    cosines, same = of_others @ of_known.T, kinds[240:, None] == kinds[:240]
    assert cosines[same].min() > 0.9 and cosines[~same].max() < 0.5
    again = latent_ngrams(known, others.take(np.arange(3)), 512)[1]
    assert again == pytest.approx(of_others[:3], abs=1e-12), "fitted to the known alone"
    assert latent_ngrams(known, others.take(np.arange(0)), 512)[1].shape == (0, 3)


def test_few_rows_and_empty_ones_have_latent_n_grams() -> None:
    tokens = with_content(TokenRows(as_tokens([[1, 2], [], [3]]), np.zeros(3))).tokens
    found, _ = latent_ngrams(tokens, tokens, 512)
    assert found.shape == (3, 3) and (found[1] == 0).all() and np.isfinite(found).all()
    many = with_content(TokenRows(as_tokens([[row, row + 1] for row in range(50)]), np.zeros(50))).tokens
    assert latent_ngrams(many, many, 8)[0].shape == (50, 8), "fewer buckets than dimensions"
