"""Sections that the run's own files tell: curves, time, scores, records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from seqlib.bundle import Bundle
from seqlib.train.config import RunConfig
from seqlib.train.report.charts import Series, line_chart, share_bar
from seqlib.train.report.page import Section, facts, folded, paragraph, table
from seqlib.train.runlog import duration

Records = list[dict[str, Any]]


def read_log(path: Path) -> Records:
    """The records of `log.jsonl`; a last line that a kill cut short is left out. [] without a file."""
    if not path.exists():
        return []
    found: Records = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(line, type=dict[str, Any]))
        except msgspec.DecodeError:
            continue
    return found


def curves(log: Records) -> Section:
    """Loss, dev scores, learning rate and speed over the steps."""
    rates = _points(log, "rate", "rate") or _points(log, "train", "rate")
    charts = [
        line_chart(
            [Series("training", _points(log, "train", "loss")), Series("dev", _points(log, "dev", "loss"), True)],
            "Loss",
            "nats a target token; the training loss contains label smoothing",
        ),
        line_chart(
            [Series("BLEU", _points(log, "dev", "bleu"), True), Series("chrF", _points(log, "dev", "chrf"), True)],
            "Dev scores",
            "cased, detokenised",
        ),
        line_chart([Series("learning rate", rates)], "Learning rate"),
        line_chart(
            [Series("target tokens a second", _points(log, "train", "target_tokens_per_second"))],
            "Speed",
            "target tokens a second, padding not counted",
        ),
    ]
    shown = "".join(chart for chart in charts if chart)
    body = f'<div class="grid2">{shown}</div>' if shown else paragraph("The run was too short for a log line.")
    return Section("Curves", body)


def time_section(log: Records, seconds: float, by_op: Sequence[tuple[str, int, float]], why: str) -> Section:
    """Where the run's time went, and where one training step's did: (op, launches, seconds), slowest first."""
    steps, before = 0.0, 0
    for record in log:
        if record["kind"] == "train":
            steps += record["seconds_per_step"] * (record["step"] - before)
            before = record["step"]
    dev = sum(record["seconds"] for record in log if record["kind"] == "dev")
    built = sum(record["seconds"] for record in log if record["kind"] == "program")
    parts = [
        ("training steps", steps),
        ("building programs", built),
        ("evaluating on dev", dev),
        ("checkpoints, data and the rest", max(0.0, seconds - steps - built - dev)),
    ]
    body = paragraph(f"{duration(seconds)} of wall time.") + share_bar(parts)
    if by_op:
        whole = sum(one[2] for one in by_op)
        rows = [
            (op, f"{count:,}", f"{1e3 * taken:,.2f}", f"{100 * taken / whole:.1f} %") for op, count, taken in by_op[:12]
        ]
        text = f"One training step of {1e3 * whole:,.0f} ms, by op"
        body += folded(text, table(("op", "launches", "ms", "share"), rows, (1, 2, 3)))
    else:
        body += paragraph(f"The ops of a step are not shown: {why}.")
    return Section("Where time went", body)


def score_section(saved: Bundle | None, loss_unit: str) -> Section:
    """Scores with their signatures; what the weights are."""
    if saved is None:
        return Section("Scores", paragraph("The run has not ended: there is no finished model to score."))
    rows: list[tuple[str, str, str, str]] = []
    for split, metrics in saved.metrics.items():
        for name, value in metrics.items():
            if isinstance(value, dict):
                rows.append((split, name, f"{value['score']:.2f}", value["signature"]))
            elif isinstance(value, float):
                rows.append((split, name, f"{value:.4f}", loss_unit if name == "loss" else ""))
    weights = paragraph(f"Weights: {saved.record['training']['weights']}.")
    return Section("Scores", weights + table(("split", "metric", "score", "signature"), rows, (2,)))


def record_section(config: RunConfig, saved: Bundle | None, environment: dict[str, str]) -> Section:
    """Configuration, environment and digests."""
    body = folded("Configuration", facts(msgspec.to_builtins(config))) + folded("Environment", facts(environment))
    if saved is not None:
        digests = {name: entry["sha256"] for name, entry in saved.record["files"].items()}
        known = {"data": saved.record["training"]["data_digest"], "tokenizer": saved.record["tokenizer_digest"]}
        body += folded("Digests (sha256)", facts(known | digests))
    return Section("Record", body)


def _points(log: Records, kind: str, name: str) -> list[tuple[float, float]]:
    return [
        (record["step"], record[name])
        for record in log
        if record["kind"] == kind and isinstance(record.get(name), (int, float))
    ]
