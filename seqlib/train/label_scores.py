"""Scores of labels: accuracy by itself, the others by scikit-learn (extra `eval`). n texts, L labels."""

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqlib.problems.spec import Labels

_NONE: Any = 0  # the F1 of a label that neither occurs nor is given


def sklearn_available() -> bool:
    """True when scikit-learn is installed (the `eval` extra)."""
    return importlib.util.find_spec("sklearn") is not None


def score_names(labels: Labels) -> tuple[str, ...]:
    """What `label_scores` gives for such labels."""
    if labels.kind == "regression":
        return ("spearman", "pearson", "mean_squared_error") if sklearn_available() else ("mean_squared_error",)
    if not sklearn_available():
        return ("accuracy",)
    if labels.kind == "multi_label":
        return ("accuracy", "micro_f1", "macro_f1")
    return ("accuracy", "macro_f1", "mcc", *(("f1", "auc") if len(labels.names) == 2 else ()))


def label_scores(targets: np.ndarray, outputs: np.ndarray, labels: Labels) -> dict[str, float]:
    """Scores of `outputs` [n, L], what `decode.classify.probabilities` gives, against `targets` as in `LabelledBatch`.

    Classes: accuracy; with scikit-learn macro F1 and Matthews' correlation, of two classes also the F1 and the area
    under the ROC curve of the second one (NaN where there is but one in the targets). Several labels: accuracy (all
    right), micro and macro F1 at a probability of 1/2. Numbers: mean squared error; Spearman's and Pearson's
    correlation. Without scikit-learn the first of each.
    """
    full = sklearn_available()
    if labels.kind == "regression":
        found = {"mean_squared_error": float(np.mean((outputs[:, 0] - targets) ** 2))}
        return (_correlations(targets, outputs[:, 0]) if full else {}) | found
    if labels.kind == "multi_label":
        held = outputs >= 0.5
        found = {"accuracy": float((held == (targets > 0.5)).all(1).mean())}
        return found | (_several(targets > 0.5, held) if full else {})
    chosen = outputs.argmax(1)
    found = {"accuracy": float((chosen == targets).mean())}
    return found | (_classes(targets, chosen, outputs, labels) if full else {})


def defined(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores to four digits, without those that are NaN: a correlation of constants, the AUC of one class."""
    return {name: round(value, 4) for name, value in scores.items() if not math.isnan(value)}


def losses(logits: np.ndarray, targets: np.ndarray, labels: Labels) -> np.ndarray:
    """float64 [n]: what each text costs, as `nn.classifier.TextClassifier.loss` without smoothing."""
    wide = logits.astype(np.float64)
    if labels.kind == "regression":
        middle, half = (labels.low + labels.high) / 2, (labels.high - labels.low) / 2
        return (wide[:, 0] - (targets - middle) / half) ** 2
    if labels.kind == "multi_label":
        return (np.logaddexp(0, wide) - targets * wide).mean(1)
    top = wide.max(1)
    return np.log(np.exp(wide - top[:, None]).sum(1)) + top - wide[np.arange(len(wide)), targets]


def _classes(targets: np.ndarray, chosen: np.ndarray, outputs: np.ndarray, labels: Labels) -> dict[str, float]:
    from sklearn import metrics

    every: Any = range(len(labels.names))
    found = {
        "macro_f1": float(metrics.f1_score(targets, chosen, labels=every, average="macro", zero_division=_NONE)),
        "mcc": float(metrics.matthews_corrcoef(targets, chosen)) if len({*targets, *chosen}) > 1 else float("nan"),
    }
    if len(labels.names) == 2:
        both = len(np.unique(targets)) == 2
        found["f1"] = float(metrics.f1_score(targets, chosen, zero_division=_NONE))
        found["auc"] = float(metrics.roc_auc_score(targets, outputs[:, 1])) if both else float("nan")
    return found


def _several(targets: np.ndarray, held: np.ndarray) -> dict[str, float]:
    from sklearn import metrics

    return {
        f"{kind}_f1": float(metrics.f1_score(targets, held, average=kind, zero_division=_NONE))
        for kind in ("micro", "macro")
    }


def _correlations(targets: np.ndarray, values: np.ndarray) -> dict[str, float]:
    from scipy import stats  # scikit-learn brings it

    if np.ptp(values) == 0 or np.ptp(targets) == 0:
        return {"spearman": float("nan"), "pearson": float("nan")}
    found = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}
    return {name: float(function(targets, values).statistic) for name, function in found.items()}
