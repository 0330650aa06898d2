"""Preset: a model's size together with the training settings it was made for."""

import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
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


def presets(module: str, config: type[Any], *names: str) -> list[Callable[[], Preset]]:
    """The functions of these names for a `module` of the library whose models have a `config`; see presets.toml."""
    return [_preset(module, config, name) for name in names]


def _preset(module: str, config: type[Any], name: str) -> Callable[[], Preset]:
    section = _section(f"{module.rpartition('.')[2]}_{name}")

    def preset() -> Preset:
        optim, batch = dict(section["optim"]), dict(section["batch"])
        optim["betas"] = tuple(optim["betas"])
        return Preset(model=config(**section["model"]), optim=optim, batch=batch, about=section["about"])

    preset.__module__, preset.__name__, preset.__qualname__, preset.__doc__ = module, name, name, section["doc"]
    return preset


def _section(name: str) -> dict[str, Any]:
    """A section of presets.toml over that which it is `like`."""
    own = _library()[name]
    below = _section(own["like"]) if "like" in own else {}
    return below | own | {part: below.get(part, {}) | own.get(part, {}) for part in ("model", "optim", "batch")}


@cache
def _library() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
