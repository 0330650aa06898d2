"""Preset: a model's size together with the training settings it was made for."""

from typing import Any

import msgspec

__all__ = ["Preset"]


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
