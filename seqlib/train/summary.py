"""A model on one page: its layers with shapes, parameters and FLOPs, and what a training step takes. Nothing is run."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import ops, tree
from seqlib.core.dtypes import is_float
from seqlib.core.program import Program
from seqlib.core.rng import Generator
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.data.batch import Batch, PackedBatch
from seqlib.nn.module import Module, watching_calls
from seqlib.optim import AdamW, Optimizer
from seqlib.train.memory import held_bytes
from seqlib.train.step import CompiledStep, compiled_loss
from seqlib.util.memory import size_text
from seqlib.util.table import text_table

_Shapes = dict[int, dict[tuple[int, ...], None]]  # of the results of a module's calls, by its id; each once


class Layer(NamedTuple):
    """A module and all below it. `outputs` are the shapes that its calls gave, each once; FLOPs are of one batch,
    `flops` forward and `step_flops` forward and backward."""

    name: str
    kind: str
    outputs: tuple[tuple[int, ...], ...]
    parameters: int
    trainable: int
    flops: int
    step_flops: int


class Pass(NamedTuple):
    """A program: its kernel calls, the bytes planned for its tensors and its FLOPs; `times` it runs a step."""

    name: str
    launches: int
    planned_bytes: int
    flops: int
    times: int = 1


class Summary:
    """What `summary` found; `str()` is the page, `to_dict()` the same for programs.

    `layers` are all modules by their paths, the model itself first, under "". `forward` is the evaluation of a batch,
    `step` the programs of a training step (empty when every parameter is frozen). `tokens` are the batch's target
    places, 0 for other inputs. `sizes` are those of the batch, `held` the bytes of weights and optimizer, with its
    name.
    """

    def __init__(
        self, layers: list[Layer], sizes: dict[str, int], forward: Pass, step: list[Pass], held: tuple[int, int, str]
    ) -> None:
        self.layers, self.sizes, self.forward, self.step = layers, sizes, forward, step
        self.weights_bytes, self.optimizer_bytes, self.optimizer = held
        self.tokens = sizes.get("rows", 1) * sizes.get("target_tokens", 0)

    @property
    def parameters(self) -> int:
        return self.layers[0].parameters

    @property
    def trainable(self) -> int:
        return self.layers[0].trainable

    @property
    def step_flops(self) -> int:
        """FLOPs of a training step, forward and backward."""
        return sum(part.flops * part.times for part in self.step)

    @property
    def activations_bytes(self) -> int:
        """Planned memory of a training step, gradients included; of the evaluation where there is none."""
        return max((part.planned_bytes for part in self.step), default=self.forward.planned_bytes)

    def to_dict(self) -> dict[str, Any]:
        """The page as numbers."""
        return {
            "model": self.layers[0].kind,
            "batch": self.sizes,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "forward_flops": self.forward.flops,
            "forward_flops_per_token": self.forward.flops / self.tokens if self.tokens else None,
            "step_flops": self.step_flops,
            "weights_bytes": self.weights_bytes,
            "optimizer": self.optimizer,
            "optimizer_bytes": self.optimizer_bytes,
            "activations_bytes": self.activations_bytes,
            "forward": self.forward._asdict(),
            "step": [part._asdict() for part in self.step],
            "layers": [layer._asdict() for layer in self.layers],
        }

    def text(self, depth: int | None = None) -> str:
        """The page, with layers down to `depth` below the model (None: all)."""
        rows = [self._row(layer, "  " * above + layer.name) for above, layer in self._shown(depth)]
        own = self._own()
        if rows and (own.parameters or own.flops):
            rows.append(self._row(own, "(outside of its layers)"))
        rows.append(self._row(self.layers[0], "in all"))
        head = ("layer", "type", "output", "parameters", "share", "FLOPs forward", "")
        words = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.sizes.items())
        lines = [text_table(head, rows, right=(3, 4, 5)), ""]
        if words:
            lines.append(f"batch          {words}")
        lines.append(f"parameters     {self.parameters:,}, {self.trainable:,} of them trained")
        each = f", {flops_text(self.forward.flops / self.tokens)} a target token" if self.tokens else ""
        lines.append(f"FLOPs          forward {flops_text(self.forward.flops)}{each}")
        if self.step:
            lines[-1] += f"; forward and backward {flops_text(self.step_flops)}"
        planned = "activations and gradients" if self.step else "activations"
        lines.append(
            f"memory         weights {size_text(self.weights_bytes)}, {self.optimizer} "
            f"{size_text(self.optimizer_bytes)}, {planned} {size_text(self.activations_bytes)}"
        )
        for part in (self.forward, *self.step):
            times = f"{part.times} times " if part.times > 1 else ""
            lines.append(
                f"{part.name:<14} {times}{part.launches:,} launches, {size_text(part.planned_bytes)} planned, "
                f"{flops_text(part.flops)}"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _shown(self, depth: int | None) -> Iterator[tuple[int, Layer]]:
        """Layers that hold parameters or take FLOPs, with the number of modules between them and the model."""
        names = {layer.name for layer in self.layers if layer.name}
        for layer in self.layers[1:]:
            parts = layer.name.split(".")
            above = sum(".".join(parts[:n]) in names for n in range(1, len(parts)))
            if (layer.parameters or layer.flops) and (depth is None or above < depth):
                yield above, layer

    def _own(self) -> Layer:
        """What the model holds and does outside of its layers: an output matrix, say."""
        whole, names = self.layers[0], {layer.name for layer in self.layers}
        top = [one for one in self.layers[1:] if _nearest(one.name.rpartition(".")[0], names) == ""]
        sums = [getattr(whole, field) - sum(getattr(one, field) for one in top) for field in Layer._fields[3:]]
        return Layer("", whole.kind, (), *sums)

    def _row(self, layer: Layer, name: str) -> tuple[str, ...]:
        share = f"{100 * layer.parameters / self.parameters:.1f} %" if layer.parameters else ""
        state = "" if layer.trainable == layer.parameters else "frozen" if not layer.trainable else "partly frozen"
        shapes = " ".join(str(list(shape)) for shape in layer.outputs[:2]) + (" …" if len(layer.outputs) > 2 else "")
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        return name, layer.kind, shapes, parameters, share, flops_text(layer.flops) if layer.flops else "", state


def flops_text(flops: float) -> str:
    """`1.24 GFLOP`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}FLOP"
    return f"{flops:.0f} FLOP"


def empty_batch(rows: int, source_tokens: int, target_tokens: int, packed: bool = False) -> Batch | PackedBatch:
    """A batch of `rows` rows of `source_tokens` and `target_tokens` without content, for `summary`; packed: `rows`
    segments, and so many tokens a row times `rows`."""
    if packed:
        sides = []
        for tokens in (source_tokens, target_tokens):
            places, offsets = np.arange(rows * tokens, dtype=np.int32), np.arange(rows + 1, dtype=np.int32) * tokens
            sides.append((np.zeros_like(places), places % tokens, offsets))
        (source, source_positions, source_offsets), (target, positions, offsets) = sides
        return PackedBatch(source, source_positions, source_offsets, target, target, positions, offsets)
    source, target = (np.zeros((rows, tokens), np.int32) for tokens in (source_tokens, target_tokens))
    lengths = (np.full(rows, tokens, np.int32) for tokens in (source_tokens, target_tokens))
    return Batch(source, next(lengths), target, target, next(lengths))


def summary(
    model: Module,
    *inputs: Any,
    optimizer: Optimizer | None = None,
    smoothing: float = 0.0,
    accumulate: int = 1,
    consistency: float = 0.0,
) -> Summary:
    """Layers, shapes, parameters, FLOPs, memory and launches of a model for a batch, planned without running it.

    `inputs` are one batch (such as `seqlib.data.batch.Batch`: the model's `loss` is what is trained), or the
    arguments of any other module (the sum of its outputs is); tensors, arrays, or `seqlib.core.op.Meta` for a shape
    alone. The model may have been made under `seqlib.meta()`, and is not changed. `optimizer` (default: AdamW) is the
    one that a training step ends with, over the model's trainable parameters. With `accumulate` above 1 the batch is
    one of so many micro-batches; `smoothing` and `consistency` are those of the loss (`train.step.objective`).

    FLOPs are those of products: matmul, attention, recurrent cells, the output layer with its loss; a multiplication
    and its addition are 2. Attention among packed sentences depends on their lengths and is not counted.
    """
    trains = hasattr(model, "loss") and len(inputs) == 1 and hasattr(inputs[0], "places")
    owner: Any = model if trains else _Plain(model)
    batch: Any = inputs[0] if trains else _Arguments(inputs)
    shapes: _Shapes = {}

    def tell(module: Module, result: Any) -> None:
        found = [tuple(leaf.shape) for leaf in tree.flatten(result)[0] if isinstance(leaf, Tensor)]
        shapes.setdefault(id(module), {}).update(dict.fromkeys(found))

    steps: list[Any] = []
    with model.evaluating():
        with watching_calls(tell):
            forward = compiled_loss(owner).lower(batch)
        if model.trainable_parameters():
            model.train()
            optimizer = optimizer or AdamW(model.trainable_parameters())
            step = CompiledStep(owner, optimizer, Generator(0), smoothing, accumulate, consistency)
            steps = step.lower([batch] * accumulate)
    names = ["training step"] if accumulate == 1 else ["clear", *["micro-batch"] * accumulate, "update"]
    passes: dict[int, Pass] = {}
    for name, program in zip(names, steps, strict=bool(steps)):
        flops, times = sum(_flops(program).values()), names.count(name)
        passes[id(program)] = Pass(name, program.launch_count, program.arena_bytes, flops, times)
    return Summary(
        _layers(model, shapes, forward, steps),
        batch.sizes(),
        Pass("evaluation", forward.launch_count, forward.arena_bytes, sum(_flops(forward).values())),
        list(passes.values()),
        (held_bytes(model), held_bytes(optimizer) if optimizer else 0, optimizer.name if optimizer else "no optimizer"),
    )


def _layers(model: Module, shapes: _Shapes, forward: Program, steps: list[Program]) -> list[Layer]:
    """Every module, with what it and those below it hold and do."""
    modules = model.named_modules()
    before, after = _by_module(_flops(forward), modules), Counter[str]()
    for program in steps:
        after.update(_by_module(_flops(program), modules))
    sizes, trained = Counter[str](), Counter[str]()
    for name, parameter in model.named_parameters().items():
        for path in _above(_nearest(name, modules)):
            sizes[path] += parameter.size
            trained[path] += 0 if parameter.frozen else parameter.size
    found: list[Layer] = []
    for name, module in modules.items():
        outputs = tuple(shapes.get(id(module), ()))
        counts = (sizes[name], trained[name], before[name], after[name])
        found.append(Layer(name, type(module).__name__, outputs, *counts))
    return found


def _flops(program: Program) -> Counter[str]:
    """FLOPs by the scope of launches."""
    hoisted = (launch for group in program.plan.hoisted for launch in group.launches)
    found = Counter[str]()
    for launch in (*hoisted, *program.plan.launches):
        found[launch.scope] += launch.flops
    return found


def _by_module(scopes: Counter[str], modules: Any) -> Counter[str]:
    """FLOPs by module, those below it included."""
    found = Counter[str]()
    for scope, flops in scopes.items():
        for path in _above(_nearest(scope, modules)):
            found[path] += flops
    return found


def _nearest(path: str, modules: Any) -> str:
    """The innermost module that `path`, a parameter or a scope, belongs to."""
    while path not in modules:
        path = path.rpartition(".")[0]
    return path


def _above(path: str) -> Iterator[str]:
    """`a.b.c` → itself, `a.b`, `a`, ""."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


class _Arguments(tuple[Any, ...]):
    """The arguments of a module that is no encoder–decoder, in a batch's place."""

    def sizes(self) -> dict[str, int]:
        return {}


class _Plain:
    """A module as a model whose loss is the sum of its outputs."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def loss(self, batch: Any, smoothing: float) -> tuple[Tensor, Tensor]:
        found = [leaf for leaf in tree.flatten(self._module(*batch))[0] if isinstance(leaf, Tensor)]
        total = as_tensor(np.float32(0))
        for leaf in found:
            total = total + ops.sum(leaf) if is_float(leaf.dtype) else total
        return total, as_tensor(np.float32(1))
