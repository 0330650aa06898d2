"""Sections on labelled texts: labels and lengths, the confusion matrix, the texts that cost most."""

from typing import Any

import numpy as np

from seqlib.bundle import Bundle
from seqlib.decode.classify import probabilities
from seqlib.decode.load import from_bundle
from seqlib.train.config import RunConfig
from seqlib.train.label_scores import losses
from seqlib.train.report.charts import heat_map
from seqlib.train.report.page import Section, compared, paragraph, table
from seqlib.train.report.samples import length_section

_WORST = 12
_LABELS = 40  # a confusion matrix and a table have room for
_TEXT = 600  # characters of a text that are shown


def sections(saved: Bundle | None, data: Any, config: RunConfig) -> list[Section]:
    """Labels and lengths of train; once there is a model, where it errs on dev."""
    labels, targets = data.spec.labels, data.targets("train")
    found = [_labels(labels, targets), length_section(config, data)]
    if saved is None or "dev" not in data.stores or not len(data.store("dev")):
        return found
    classifier, store, truth = from_bundle(saved), data.store("dev"), data.targets("dev")
    logits = classifier.logits([store.pair(number) for number in range(len(store))])
    outputs = probabilities(logits, labels)
    if labels.kind == "multi_class":
        found.append(_confusion(labels, truth, outputs.argmax(1)))
    found.append(_worst(labels, data.texts("dev"), truth, outputs, losses(logits, truth, labels)))
    return found


def _labels(labels: Any, targets: np.ndarray) -> Section:
    if labels.kind == "regression":
        text = (
            f"{len(targets):,} texts; labels from {targets.min():.4g} to {targets.max():.4g}, mean {targets.mean():.4g}"
        )
        return Section("Labels", paragraph(text))
    one = labels.kind == "multi_class"
    counts = np.bincount(targets, minlength=len(labels.names)) if one else targets.sum(0).astype(int)
    order = np.argsort(-counts, kind="stable")[:_LABELS]
    rows = [(labels.names[n], f"{counts[n]:,}", f"{100 * counts[n] / len(targets):.1f} %") for n in order]
    note = f"{len(targets):,} texts of train, {len(labels.names)} labels."
    return Section("Labels", paragraph(note) + table(("label", "texts", "share"), rows, (1, 2)))


def _confusion(labels: Any, truth: np.ndarray, chosen: np.ndarray) -> Section:
    names = list(labels.names)
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, chosen), 1)
    wrong = [(counts[i, j], names[i], names[j]) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    rows = [(one, other, f"{count:,}") for count, one, other in sorted(wrong, key=lambda row: -row[0])[:_WORST]]
    body = paragraph("Rows are the labels of dev, columns what the model said; darker is a larger share of the row.")
    if len(names) <= _LABELS:
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        body += f'<div class="scroll">{heat_map(shares, names, names)}</div>'
    return Section("Confusion matrix", body + table(("label", "taken for", "texts"), rows, (2,)))


def _worst(
    labels: Any, texts: tuple[list[str], list[str]], truth: np.ndarray, outputs: np.ndarray, cost: np.ndarray
) -> Section:
    body = paragraph("The texts of dev that cost most.")
    for n in np.argsort(-cost, kind="stable")[:_WORST]:
        if labels.kind == "multi_class":
            best = int(outputs[n].argmax())
            known, said = labels.names[truth[n]], f"{labels.names[best]} ({outputs[n, best]:.2f})"
        elif labels.kind == "regression":
            known, said = f"{truth[n]:.4g}", f"{outputs[n, 0]:.4g}"
        else:
            known, said = (
                ", ".join(name for name, value in zip(labels.names, row, strict=True) if value >= 0.5) or "(none)"
                for row in (truth[n], outputs[n])
            )
        text = " ‖ ".join(_short(side[n]) for side in texts if side[n])
        body += compared((f"loss {cost[n]:.2f}", text), ("label", known), ("model", said))
    return Section("Worst dev texts", body)


def _short(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
