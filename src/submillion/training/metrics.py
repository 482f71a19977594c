"""What is reported of a set of predictions."""

import numpy as np


def classification_metrics(
    logits: np.ndarray, labels: np.ndarray, label_names: tuple[str, ...], overlap: np.ndarray | None = None
) -> dict:
    """logits fp32 [rows, labels], labels int64 [rows] -> accuracy, macro_f1, loss, rows, per_label, confusion.

    loss is the mean cross-entropy, in nats.
    macro_f1 is the mean over all labels of the list, a label without rows or predictions counting as 0.
    confusion[i][j] counts the rows of label i that were called j.
    without_rows: where some labels have none, {"labels": their names, "macro_f1_of_others": of the labels with rows}.
    overlap: bool [rows], near duplicates of training rows. Where there are any, the key of that name has rows and
    accuracy of these and accuracy_of_others, None where there are no others.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted = logits.argmax(axis=1)
    names = range(len(label_names))
    precision, recall, f1, rows = precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0.0)
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    right = predicted == labels
    found = {
        "accuracy": float(right.mean()),
        "macro_f1": float(f1.mean()),
        "loss": float(losses.mean()),
        "rows": len(labels),
        "per_label": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
            for name, p, r, f, n in zip(label_names, precision, recall, f1, rows, strict=True)
        },
        "confusion": confusion_matrix(labels, predicted, labels=names).tolist(),
    }
    if not rows.all():
        missing = [name for name, count in zip(label_names, rows, strict=True) if not count]
        found["without_rows"] = {"labels": missing, "macro_f1_of_others": float(f1[rows > 0].mean())}
    if overlap is not None and overlap.any():
        others = None if overlap.all() else float(right[~overlap].mean())
        own = {"rows": int(overlap.sum()), "accuracy": float(right[overlap].mean())}
        found["overlap"] = own | {"accuracy_of_others": others}
    return found
