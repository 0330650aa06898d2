"""Cheap models to hold a trained one against: the most frequent class, and n-grams with a linear model."""

import time
from itertools import islice
from typing import Any

import numpy as np

from seqlib.problems.spec import Labels
from seqlib.train.label_scores import defined, label_scores, sklearn_available
from seqlib.util.log import get_logger

MAJORITY = "majority class"
LINEAR = "TF-IDF n-grams, linear"
_MOST = 200_000  # training texts that are read


def label_baselines(problem: Any, split: str) -> dict[str, dict[str, float]]:
    """Scores on a split, after training on "train" (its first 200,000 texts), by the name of the baseline, each with
    its `seconds`: the most frequent class, labels at their frequency, or the mean; TF-IDF of words and pairs of words
    with logistic regression (ridge regression for numbers). The second is left out, and that is logged, without
    scikit-learn.
    """
    labels: Labels = problem.labels
    texts, targets = _read(problem, "train")
    wanted, truth = _read(problem, split)
    if not texts or not wanted:
        return {}
    began = time.perf_counter()
    constant = np.tile(_constant(targets, labels), (len(truth), 1))
    found = {MAJORITY: label_scores(truth, constant, labels) | {"seconds": round(time.perf_counter() - began, 2)}}
    if not sklearn_available():
        get_logger().warning("no n-gram baseline: scikit-learn is not installed (extra `eval`)")
        return found
    began = time.perf_counter()
    outputs = _linear(texts, targets, wanted, labels)
    found[LINEAR] = label_scores(truth, outputs, labels) | {"seconds": round(time.perf_counter() - began, 2)}
    return {name: defined(scores) for name, scores in found.items()}


def _read(problem: Any, split: str) -> tuple[list[str], np.ndarray]:
    records = [record for record in islice(problem.records(split), _MOST) if not record.problem]
    records = [record for record in records if record.source.strip()]
    texts = [f"{record.source}\n{record.target}" if record.target else record.source for record in records]
    return texts, problem.targets([record.label for record in records])


def _constant(targets: np.ndarray, labels: Labels) -> np.ndarray:
    """[L]: what is given to every text."""
    if labels.kind == "multi_class":
        return np.bincount(targets, minlength=len(labels.names)) / len(targets)
    return np.atleast_1d(targets.mean(0))


def _linear(texts: list[str], targets: np.ndarray, wanted: list[str], labels: Labels) -> np.ndarray:
    """[n, L] for the wanted texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    words: Any = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1, token_pattern=r"\w+|[^\w\s]")
    known, asked = words.fit_transform(texts), words.transform(wanted)
    if labels.kind == "regression":
        return Ridge().fit(known, targets).predict(asked)[:, None]
    if labels.kind == "multi_label":
        columns = [_fitted(LogisticRegression, known, column.astype(int), asked, 2)[:, 1] for column in targets.T]
        return np.stack(columns, 1)
    return _fitted(LogisticRegression, known, targets, asked, len(labels.names))


def _fitted(kind: Any, known: Any, targets: np.ndarray, asked: Any, classes: int) -> np.ndarray:
    """Probabilities [n, classes] of a model fitted to class numbers, of which some may not occur."""
    found = np.zeros((asked.shape[0], classes))
    present = np.unique(targets)
    if len(present) == 1:
        found[:, present] = 1
        return found
    found[:, present] = kind(C=10.0, max_iter=1000).fit(known, targets).predict_proba(asked)
    return found
