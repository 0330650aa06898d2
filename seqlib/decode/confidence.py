"""Confidence: how a translation compares with the translations of the development set.

Each feature measures one way of being strange: an unusual source, hesitating output, an odd length. A feature's value
becomes a tail probability under its own distribution on dev, the tail probabilities are combined by Fisher's sum of
-log p, and the sum's own distribution on dev turns it into the confidence: the share of dev sentences that are at
least as strange. Nothing but in-domain text is needed, and a threshold of 0.5 % flags 0.5 % of dev by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqlib.decode.source_model import SourceModel
from seqlib.util.errors import DataError

SOURCE_FILE = "confidence.npz"
"""Name of the source model's file in a bundle."""

_FORMAT = 1
_TAIL = 0.1  # above the 90 % quantile the tail is taken as exponential
_GRID = 128
_TRIM = 0.3  # share of the most surprising words that the robust source feature leaves out
_MOST = 60.0  # -log p stops here
_LEAST_DEV = 50


def features(
    source_text: str, source_length: int, token_log_probs: np.ndarray, source: SourceModel | None
) -> dict[str, float]:
    """What the confidence of one translation is made of; higher is stranger, except `length_ratio`.

    `source_length` counts source tokens, `token_log_probs` float [n] are those of the output's tokens, its end token
    included. The first three need `source`; surprises and losses are in nats.

    source_surprise   mean surprise of the words
    source_core       the same without the most surprising 30 %, so that a few invented names don't count
    source_novelty    sum of the surprises of unknown words (see SourceModel)
    output_loss       mean -log p of an output token
    output_worst      largest -log p of an output token
    length_ratio      log((n + 2) / (source_length + 2))
    """
    losses = -np.asarray(token_log_probs, np.float64)
    found = {
        "output_loss": float(losses.mean()) if losses.size else 0.0,
        "output_worst": float(losses.max(initial=0.0)),
        "length_ratio": float(np.log((losses.size + 2.0) / (source_length + 2.0))),
    }
    if source is not None:
        surprise, unknown = source.surprise(source_text)
        found["source_novelty"] = float(surprise[unknown].sum())
        surprise = np.sort(surprise)
        core = surprise[: max(1, int(np.ceil(len(surprise) * (1.0 - _TRIM))))]
        found["source_surprise"] = float(surprise.mean())
        found["source_core"] = float(core.mean())
    return found


@dataclass(frozen=True)
class TailCurve:
    """-log of the share of dev values at least as large as x, continuous in x.

    Up to the 90 % quantile the share below x is interpolated between `points` (float64, rising) that have `shares` of
    dev below them; from the last point on, the share above falls as exp(-(x - point) / scale), scale the mean excess
    on dev.
    """

    points: np.ndarray
    shares: np.ndarray
    scale: float

    @classmethod
    def fit(cls, values: np.ndarray) -> TailCurve:
        """The curve of the values on dev, float64 [n], n ≥ 1."""
        levels = np.linspace(0.0, 1.0 - _TAIL, _GRID)
        points, first = np.unique(np.quantile(values, levels), return_index=True)
        excess = values[values > points[-1]] - points[-1]
        floor = 1e-3 * (float(np.abs(points).max()) + 1e-3)  # a constant feature must not judge by rounding
        return cls(points, levels[first], max(float(excess.mean()) if excess.size else 0.0, floor))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x float64 [n] → -log p float64 [n], rising with x, at most 60."""
        beyond = np.maximum(x - self.points[-1], 0.0) / self.scale
        return np.minimum(beyond - np.log(1.0 - np.interp(x, self.points, self.shares)), _MOST)

    def to_dict(self) -> dict[str, Any]:
        """The curve as plain numbers, for JSON."""
        return {"points": self.points.tolist(), "shares": self.shares.tolist(), "scale": self.scale}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TailCurve:
        """What ``to_dict`` gave. Raises KeyError, TypeError or ValueError for other data."""
        points, shares = np.array(data["points"], np.float64), np.array(data["shares"], np.float64)
        if points.ndim != 1 or points.shape != shares.shape or not points.size:
            raise ValueError("points and shares of a curve differ in length")
        return cls(points, shares, float(data["scale"]))


@dataclass(frozen=True)
class Calibration:
    """Turns features into a confidence in [0, 1], and says below which `threshold` a translation is flagged.

    `curves` give each feature's tail probability on dev, `combined` that of their sum; `centre` is the median length
    ratio, `dev_sentences` how many sentences it was made from, `source` the source model (None: without it). Made by
    `fit`.
    """

    curves: dict[str, TailCurve]
    combined: TailCurve
    centre: float
    threshold: float
    dev_sentences: int
    source: SourceModel | None = None

    def confidence(self, items: Sequence[Mapping[str, float]]) -> np.ndarray:
        """float64 [n]: for each set of features the share of dev sentences that are at least as strange.

        Raises DataError when a feature that the calibration was made with is missing.
        """
        if not items:
            return np.zeros(0)
        return np.exp(-self.combined(_strangeness(_columns(items, list(self.curves)), self.curves, self.centre)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: everything but the source model, whose bytes `files` gives."""
        return {
            "format": _FORMAT,
            "threshold": self.threshold,
            "how": "share of dev sentences at least as strange; tail probabilities combined by Fisher's sum",
            "dev_sentences": self.dev_sentences,
            "centre": self.centre,
            "features": {name: curve.to_dict() for name, curve in self.curves.items()},
            "combined": self.combined.to_dict(),
            "source_model": None if self.source is None else SOURCE_FILE,
        }

    def files(self) -> dict[str, bytes]:
        """The files that go into a bundle beside the JSON: name → content."""
        return {} if self.source is None else {SOURCE_FILE: self.source.to_bytes()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], files: Mapping[str, bytes], where: str = "confidence") -> Calibration:
        """What `to_dict` and `files` gave. Raises DataError naming `where` on damage or another format."""
        if data.get("format") != _FORMAT:
            raise DataError(f"{where}: calibration format {data.get('format')!r}, expected {_FORMAT}")
        try:
            name = data["source_model"]
            return cls(
                {key: TailCurve.from_dict(value) for key, value in data["features"].items()},
                TailCurve.from_dict(data["combined"]),
                float(data["centre"]),
                float(data["threshold"]),
                int(data["dev_sentences"]),
                None if name is None else SourceModel.from_bytes(files[name], f"{where}: {name}"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: the calibration is damaged: {error!r}") from error


def fit(
    dev_features: Sequence[Mapping[str, float]], source: SourceModel | None = None, *, false_alarms: float = 0.005
) -> Calibration:
    """A calibration from `dev_features`, the features of dev translations, and the `source` model they came from, that
    flags the share `false_alarms` of such text.

    Raises DataError for fewer than 50 sentences or features that are not finite numbers.
    """
    if len(dev_features) < _LEAST_DEV:
        raise DataError(f"confidence: needs at least {_LEAST_DEV} dev sentences to calibrate, got {len(dev_features)}")
    if not 0.0 < false_alarms < 1.0:
        raise ValueError(f"false_alarms: expected a share between 0 and 1, got {false_alarms}")
    columns = _columns(dev_features, list(dev_features[0]))
    centre = float(np.median(columns["length_ratio"]))
    curves = {name: TailCurve.fit(_oriented(name, values, centre)) for name, values in columns.items()}
    combined = TailCurve.fit(_strangeness(columns, curves, centre))
    return Calibration(curves, combined, centre, false_alarms, len(dev_features), source)


def _columns(items: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, np.ndarray]:
    missing = [name for name in names if any(name not in item for item in items)]
    if missing:
        raise DataError(f"confidence: features missing: {', '.join(missing)}")
    columns = {name: np.array([item[name] for item in items], np.float64) for name in names}
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise DataError(f"confidence: feature {name} is not finite for some sentences")
    return columns


def _oriented(name: str, values: np.ndarray, centre: float) -> np.ndarray:
    return np.abs(values - centre) if name == "length_ratio" else values


def _strangeness(columns: Mapping[str, np.ndarray], curves: Mapping[str, TailCurve], centre: float) -> np.ndarray:
    """Fisher's statistic: the sum over features of -log p, float64 [n]."""
    parts = [curve(_oriented(name, columns[name], centre)) for name, curve in curves.items()]
    return np.sum(parts, axis=0)
