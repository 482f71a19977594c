"""Every measure of robustness of one classifier on one set of rows, as a plain dict."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from submillion.robustness.attack import attack
from submillion.robustness.noise import CORRUPTIONS, STRENGTHS, STYLES, corrupt, random_corruption, restyle

DRAWS = 20  # of worst-of-20

# (what is computed, for a progress bar; texts) -> probabilities, float [rows, labels]
Probabilities = Callable[[str, Sequence[str]], np.ndarray]


def measure(probabilities_of: Probabilities, texts: Sequence[str], labels: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """labels int64 [rows]. Returns {"rows", "seed", "clean", "noise", "worst_of_20", "style", "attack"}; shares of 1.

    noise: {"each": {corruption: {strength: accuracy}}, "mean": {strength: accuracy}, "worst": {strength: {"name",
    "accuracy"}}}.
    worst_of_20: the share of rows that are right under all of 20 corruptions of medium strength, drawn for each row.
    """
    right: dict[str, bool] = {}  # many corruptions leave many texts as they are, and a text is computed once

    def are_right(title: str, changed: Sequence[str]) -> np.ndarray:
        keys = [f"{label} {text}" for text, label in zip(changed, labels, strict=True)]
        new = {key: place for place, key in enumerate(keys) if key not in right}
        if new:
            places = list(new.values())
            predicted = probabilities_of(title, [changed[place] for place in places]).argmax(axis=1)
            right.update(zip(new, (predicted == labels[places]).tolist(), strict=True))
        return np.array([right[key] for key in keys])

    clean = are_right("clean", texts)
    each = {
        name: {
            strength: float(
                are_right(f"{name}, {strength}", [corrupt(text, name, strength, seed) for text in texts]).mean()
            )
            for strength in STRENGTHS
        }
        for name in CORRUPTIONS
    }
    always = clean.copy()
    for draw in range(DRAWS):
        always &= are_right(f"draw {draw + 1} of {DRAWS}", [random_corruption(text, draw, seed) for text in texts])
    style = {name: float(are_right(name, [restyle(text, name, seed) for text in texts]).mean()) for name in STYLES}
    attacked = attack(lambda changed: probabilities_of("attack", changed), texts, labels, seed)
    worst = {strength: min(each, key=lambda name: each[name][strength]) for strength in STRENGTHS}
    return {
        "rows": len(texts),
        "seed": seed,
        "clean": float(clean.mean()),
        "noise": {
            "each": each,
            "mean": {key: float(np.mean([found[key] for found in each.values()])) for key in STRENGTHS},
            "worst": {key: {"name": worst[key], "accuracy": each[worst[key]][key]} for key in STRENGTHS},
        },
        "worst_of_20": float(always.mean()),
        "style": style,
        "attack": asdict(attacked),
    }
