"""What is reported of a set of predictions."""

import numpy as np

from submillion.tasks.decoding import most_probable


def classification_metrics(
    logits: np.ndarray, labels: np.ndarray, label_names: tuple[str, ...], overlap: np.ndarray | None = None
) -> dict:
    """Returns accuracy, macro_f1, loss, rows, per_label and confusion.

    logits: fp32 [rows, labels]. labels: int64 [rows].
    loss is the mean cross-entropy, in nats.
    macro_f1 is the mean over all of label_names; a label without rows or predictions counts as 0.
    confusion[i][j] counts the rows of label i that were predicted as j.
    without_rows, if some labels have no rows: {"labels": their names, "macro_f1_of_others": the mean over the others}.
    overlap: bool [rows], True for near duplicates of training rows. If there are any, the key "overlap" has their rows
    and accuracy, and accuracy_of_others, which is None if there are no other rows.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted = most_probable(logits)
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
