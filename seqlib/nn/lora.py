"""Low-rank adapters (Hu et al. 2022, "LoRA"): W + s · B A in the place of a matrix W that stays as it is.

W [out, in], A [r, in], B [out, r], r the rank, s = alpha / r.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.op import Meta
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.nn import init
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.nn.weights import FixedWeight
from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_file
from seqlib.util.errors import DataError, UsageError, unknown

TARGETS = ("*_proj",)
"""The layers that get adapters unless others are named: all of attention and of feed-forward blocks."""
_KEY = "seqlib.lora"


class LoRALinear(Linear):
    """A `base` layer with any number of adapters by name, none at first. Its own parameters keep their names; adapter
    n has `a.n` [r, in], drawn from N(0, 1/in), and `b.n` [out, r], which is 0 at first.

    What counts is W + Σ gate · s · B A over the adapters; a gate is 1 or 0, see `use_adapter`.
    """

    derived = ("gates",)

    def __init__(self, base: Linear):
        self.weight = base.weight.restored() if isinstance(base.weight, FixedWeight) else base.weight
        self.bias = base.bias
        self.a: dict[str, Parameter] = {}
        self.b: dict[str, Parameter] = {}
        self.alphas: dict[str, float] = {}
        self.gates: dict[str, Variable] = {}

    def add(self, name: str, rank: int, alpha: float) -> None:
        """One more adapter, which counts from now on."""
        out, features = self.weight.shape
        self.a[name] = Parameter(init.normal((rank, features), std=features**-0.5))
        self.b[name] = Parameter(init.zeros((out, rank)))
        self.gates[name] = Variable(np.float32(1), name="gate")
        self.alphas[name] = alpha
        if not isinstance(self.weight.data, Meta):
            for part in (self.a[name], self.b[name], self.gates[name]):
                part.to(self.weight.device)

    def effective(self, dtype: Any) -> Tensor:
        weight = self.weight.as_dtype(dtype)
        for name, a in self.a.items():
            gate = self.gates[name] * (self.alphas[name] / a.shape[0])
            weight = weight + ops.matmul((self.b[name] * gate).astype(dtype), a.as_dtype(dtype))
        return weight


def add_lora(
    model: Module, rank: int, alpha: float = 0.0, targets: Sequence[str] = TARGETS, name: str = "default"
) -> list[str]:
    """Give every linear layer whose path fits one of `targets` (globs) an adapter of a `rank`, with `alpha` (0: twice
    the rank), and freeze all else but the `head` of the model (globs of parameters, an attribute of its class). Returns
    the layers' paths.

    Raises UsageError for a rank below 1, or where no linear layer fits.
    """
    if rank < 1:
        raise UsageError(f"lora: expected a rank of at least 1, got {rank}")
    linear = {path: layer for path, layer in model.named_modules().items() if isinstance(layer, Linear)}
    chosen = [path for path in linear if any(fnmatchcase(path, target) for target in targets)]
    if not chosen:
        there = ", ".join(dict.fromkeys(re.sub(r"\.\d+", ".*", path) for path in linear)) or "none at all"
        raise UsageError(f"lora: no linear layer fits {', '.join(targets)}; this model has {there}")
    for path in chosen:
        _adapted(model, path).add(name, rank, alpha or 2.0 * rank)
    head = getattr(model, "head", ())
    for path, parameter in model.named_parameters().items():
        parameter.frozen = not (path.endswith((f".a.{name}", f".b.{name}")) or _fits(path, head))
    return chosen


def use_adapter(model: Module, *names: str) -> None:
    """Let the adapters `names` of `model` count and no others; without names it is what it was before any. Raises
    UsageError for a name that it does not have."""
    layers = list(_layers(model))
    known = {name for _, layer in layers for name in layer.a}
    for name in names:
        if name not in known:
            raise unknown("adapter", name, known)
    for _, layer in layers:
        for name, gate in layer.gates.items():
            gate.assign(np.float32(name in names))


@contextmanager
def using(model: Any, adapter: str | None) -> Iterator[None]:
    """A block in which `adapter` counts alone ("": none); afterwards those that did before. None changes nothing.
    Raises UsageError for a name that `model` does not have."""
    before = (
        []
        if adapter is None
        else [(gate, gate.numpy()) for _, layer in _layers(model) for gate in layer.gates.values()]
    )
    if adapter is not None:
        use_adapter(model, *filter(None, [adapter]))
    try:
        yield
    finally:
        for gate, value in before:
            gate.assign(value)


def merged_state(model: Module) -> dict[str, np.ndarray]:
    """The `state_dict` of `model` with the adapters that count inside the matrices they adapt, under their names."""
    found = model.state_dict()
    for path, layer in _layers(model):
        for name in layer.a:
            del found[f"{path}.a.{name}"], found[f"{path}.b.{name}"]
        found[f"{path}.weight"] = layer.effective(layer.weight.dtype).numpy()
    return found


def merge_lora(model: Module) -> None:
    """Put the adapters of `model` that count into the matrices for good, and plain layers in their places; all is
    trainable again."""
    weights = merged_state(model)
    for path, layer in list(_layers(model)):
        plain = Linear(1, 1)
        plain.weight, plain.bias = layer.weight, layer.bias
        model.replace(path, plain)
    model.load(weights)
    model.freeze("*", False)


def save_adapter(model: Module, path: str | os.PathLike[str], name: str = "default") -> None:
    """Write the adapter `name` of `model` alone to the file `path` (safetensors): its matrices, and the model's `head`,
    which was trained with it. Raises UsageError for a name that the model does not have."""
    suffixes, head = (f".a.{name}", f".b.{name}"), getattr(model, "head", ())
    layers = {place: layer for place, layer in _layers(model) if name in layer.a}
    if not layers:
        raise unknown("adapter", name, {each for _, layer in _layers(model) for each in layer.a})
    found = {key: value for key, value in model.state_dict().items() if key.endswith(suffixes) or _fits(key, head)}
    arrays = {key.removesuffix(f".{name}") if key.endswith(suffixes) else key: value for key, value in found.items()}
    alphas = {place: layer.alphas[name] for place, layer in layers.items()}
    with atomic_file(path) as aside:
        write_arrays(aside, arrays, {_KEY: json.dumps(alphas)})


def load_adapter(model: Any, path: str | os.PathLike[str], name: str = "default") -> None:
    """Add what `save_adapter` wrote to the file `path` as adapter `name` of `model`, let it alone count, and take over
    its head.

    Raises DataError, naming the file, when it is none, damaged, or of another model; the model is unchanged then.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            alphas: Mapping[str, float] = json.loads((file.metadata() or {})[_KEY])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: is no adapter, or damaged: {error}") from None
    known, parameters = model.named_modules(), model.named_parameters()
    head = {key: value for key, value in arrays.items() if key.rpartition(".")[0] not in alphas}
    for place in alphas:
        layer, a, b = known.get(place), arrays.get(f"{place}.a"), arrays.get(f"{place}.b")
        if not isinstance(layer, Linear) or a is None or b is None or (len(b), a.shape[1]) != layer.weight.shape:
            raise DataError(f"{path}: is of another model: layer {place} does not fit")
    for key, value in head.items():
        if key not in parameters or parameters[key].shape != value.shape:
            raise DataError(f"{path}: is of another model: {key} does not fit")
    for place, alpha in alphas.items():
        layer = _adapted(model, place)
        layer.add(name, len(arrays[f"{place}.a"]), alpha)
        layer.a[name].assign(arrays[f"{place}.a"])
        layer.b[name].assign(arrays[f"{place}.b"])
    for key, value in head.items():
        parameters[key].assign(value)
    use_adapter(model, name)


def _layers(model: Module) -> Iterator[tuple[str, LoRALinear]]:
    return ((path, layer) for path, layer in model.named_modules().items() if isinstance(layer, LoRALinear))


def _adapted(model: Module, path: str) -> LoRALinear:
    """The layer at `path` as one that takes adapters."""
    layer: Any = model.named_modules()[path]
    if not isinstance(layer, LoRALinear):
        model.replace(path, layer := LoRALinear(layer))
    return layer


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
