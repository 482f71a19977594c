"""Every measure of robustness of one classifier on one set of rows, as a plain dict."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from submillion.evaluation.attack import attack
from submillion.tasks.task import Task
from submillion.text.noise import CORRUPTIONS, STRENGTHS, STYLES, corrupt, random_corruption, restyle

DRAWS = 20  # random corruptions of each row, for the share of rows that are right under all of them

# (what is computed, for a progress bar; texts) -> probabilities, float [rows, outputs]
Probabilities = Callable[[str, Sequence[str]], np.ndarray]
# (what is computed; a changed text for each row) -> whether each answer is right, bool [rows]
AreRight = Callable[[str, Sequence[str]], np.ndarray]


def measure(
    task: Task, probabilities_of: Probabilities, texts: Sequence[str], targets: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Measures noise, style and attack on rows. targets: the task's, one for each text.

    Returns {"rows", "seed", "clean", "noise", "worst_of_20", "style", "attack"}; shares are of 1.
    noise: {"each": {corruption: {strength: accuracy}}, "mean": {strength: accuracy}, "worst": {strength: {"name",
    "accuracy"}}}. worst_of_20: the share of rows that are right under all of 20 corruptions of medium strength, drawn
    for each row. attack: the fields of `Attacked`.
    """
    are_right = _remembering(task, probabilities_of, targets)
    clean = are_right("clean", texts)
    noise = _measure_noise(are_right, texts, seed)
    always = clean.copy()
    for draw in range(DRAWS):
        always &= are_right(f"draw {draw + 1} of {DRAWS}", [random_corruption(text, draw, seed) for text in texts])
    style = {name: float(are_right(name, [restyle(text, name, seed) for text in texts]).mean()) for name in STYLES}
    attacked = attack(task, lambda changed: probabilities_of("attack", changed), texts, targets, seed)
    return {
        "rows": len(texts),
        "seed": seed,
        "clean": float(clean.mean()),
        "noise": noise,
        "worst_of_20": float(always.mean()),
        "style": style,
        "attack": asdict(attacked),
    }


def _remembering(task: Task, probabilities_of: Probabilities, targets: np.ndarray) -> AreRight:
    """Returns a function that computes each text once: many corruptions leave many texts as they are."""
    known: dict[str, bool] = {}

    def are_right(title: str, texts: Sequence[str]) -> np.ndarray:
        keys = [f"{target} {text}" for text, target in zip(texts, targets.tolist(), strict=True)]
        new = {key: place for place, key in enumerate(keys) if key not in known}
        if new:
            places = list(new.values())
            probabilities = probabilities_of(title, [texts[place] for place in places])
            known.update(zip(new, task.is_right(probabilities, targets[places]).tolist(), strict=True))
        return np.array([known[key] for key in keys])

    return are_right


def _measure_noise(are_right: AreRight, texts: Sequence[str], seed: int) -> dict[str, Any]:
    each = {
        name: {
            strength: float(
                are_right(f"{name}, {strength}", [corrupt(text, name, strength, seed) for text in texts]).mean()
            )
            for strength in STRENGTHS
        }
        for name in CORRUPTIONS
    }
    worst = {strength: min(each, key=lambda name: each[name][strength]) for strength in STRENGTHS}
    return {
        "each": each,
        "mean": {key: float(np.mean([accuracies[key] for accuracies in each.values()])) for key in STRENGTHS},
        "worst": {key: {"name": worst[key], "accuracy": each[worst[key]][key]} for key in STRENGTHS},
    }
