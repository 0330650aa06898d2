"""Preset: a model's size together with the training settings it was made for."""

from typing import Any

import msgspec


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`model` is the model's configuration; `optim` and `batch` are settings of a training run by their names there.

    `about` is one line for listings. ``overrides()`` gives the settings by full path, as flags and files name them.
    """

    model: Any
    optim: dict[str, Any]
    batch: dict[str, Any]
    about: str

    def overrides(self) -> dict[str, Any]:
        """``{"optim.lr": …, "batch.tokens": …}``."""
        groups = {"optim": self.optim, "batch": self.batch}
        return {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}


def adamw(
    lr: float,
    warmup: int,
    betas: tuple[float, float],
    decay: str = "cosine_decay",
    *,
    clip_norm: float = 1.0,
    smoothing: float = 0.0,
    eps: float = 1e-9,
    weight_decay: float = 0.0,
) -> dict[str, Any]:
    """The `optim` of a preset: a rate that rises linearly for `warmup` steps and then goes by the factors `decay`."""
    return {
        "lr": lr,
        "schedule": "*".join(["constant", "linear_warmup", *decay.split()]),
        "warmup": warmup,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "clip_norm": clip_norm,
        "smoothing": smoothing,
    }


def classifier(model: Any, about: str, lr: float, warmup: int, **optim: Any) -> Preset:
    """A preset of a text classifier: AdamW without label smoothing, batches of 2,048 tokens."""
    optim = {"lr": lr, "warmup": warmup, "smoothing": 0.0, "betas": (0.9, 0.99), "eps": 1e-8} | optim
    batch = {"tokens": 2048, "max_length": model.max_length, "shapes": 6}
    return Preset(model=model, optim=optim, batch=batch, about=about)
