"""What an op is: one name on which reference or composition, shape rule, gradient and kernels hang.

Two kinds (docs/adding-an-op.md shows one of each in full):

* a *primitive* has an array reference `f(xp, *arrays, **attrs)` that serves NumPy and CuPy alike, a shape
  rule `infer` and a gradient rule `vjp`;
* a *fused* op is declared by its composition in seqlib ops. Kernels and a hand-written vjp are optional: the
  composition is the reference, it runs where no kernel's `when` holds, and it is what a second gradient
  differentiates.

This file only declares; `seqlib.core.tape.apply` runs or records.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import numpy as np

from seqlib.core import debug, dtypes
from seqlib.util.errors import DtypeError, ShapeError

Attrs = dict[str, Any]


class Meta(NamedTuple):
    """Shape and dtype of an array that may not exist yet."""

    shape: tuple[int, ...]
    dtype: dtypes.DType

    tree_leaf = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


Metas = Sequence[Any]
"""One Meta for each input; None for an absent one."""


def metas_of(arrays: Sequence[Any]) -> list[Meta | None]:
    """Those of arrays, tensors or values, None for None."""
    return [None if a is None else Meta(a.shape, a.dtype) for a in arrays]


def as_tuple(result: Any) -> tuple[Any, ...]:
    """What a function with one result or several returned, as a tuple."""
    return cast("tuple[Any, ...]", result) if isinstance(result, tuple) else (result,)


class Layout(NamedTuple):
    """Where the elements of a value lie in its buffer; strides and offset count elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def contiguous(self) -> bool:
        steps = zip(self.shape, self.strides, contiguous_layout(self.shape).strides, strict=True)
        return 0 in self.shape or all(size == 1 or stride == expected for size, stride, expected in steps)


def contiguous_layout(shape: tuple[int, ...]) -> Layout:
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return Layout(shape, tuple(reversed(strides)), 0)


@dataclass
class Kernel:
    """A destination-passing implementation: `fn(outs, ins, scratch, **attrs)` writes into `outs`, allocates
    nothing big.

    An output that nobody needs comes as None. `when(metas, attrs)` says for which inputs the kernel is right;
    `scratch(metas, attrs)` lists the temporary arrays it wants. Inputs are made contiguous first unless
    `strided`; that may be a function of the input's number and layout. `overlap` lists the (output, input) pairs
    that may share their storage; `in_place` those that must: the op updates a location (a key-value cache).
    """

    fn: Callable[..., None] | str
    when: Callable[[Metas, Attrs], bool] | None = None
    scratch: Callable[[Metas, Attrs], list[Meta]] | None = None
    strided: bool | Callable[[int, Layout], bool] = False
    needs: str | None = None
    overlap: tuple[tuple[int, int], ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()

    def takes(self, index: int, layout: Layout) -> bool:
        """True when input number `index` may lie like this."""
        strided = self.strided if isinstance(self.strided, bool) else self.strided(index, layout)
        return strided or layout.contiguous

    def serves(self, metas: Sequence[Meta | None], attrs: Attrs) -> bool:
        """True when it is right for these inputs, and what it imports is there."""
        return (self.needs is None or installed(self.needs)) and (self.when is None or self.when(metas, attrs))

    def load(self) -> Callable[..., None]:
        """The function itself; a `module:name` of seqlib.core.ops is imported at first use."""
        if isinstance(self.fn, str):
            module, _, name = self.fn.partition(":")
            self.fn = getattr(importlib.import_module(f"seqlib.core.ops.{module}"), name)
        assert not isinstance(self.fn, str)
        return self.fn


@lru_cache(maxsize=8)
def installed(package: str) -> bool:
    """True when a package that is not required is there."""
    return importlib.util.find_spec(package) is not None


class VjpContext(NamedTuple):
    """What a gradient rule sees: the op's inputs, outputs (those it saves) and attributes, and which
    gradients are needed.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    attrs: Attrs
    needs: tuple[bool, ...]


@dataclass(eq=False, repr=False)
class Op:
    """A named operation. Calling it runs it (eager) or records it (while tracing) through
    `seqlib.core.tape.apply`.

    `params` names its tensors (if `variadic`, any number of them by one name), of which those in `optional` may be
    None, `defaults` its attributes, `outs` its outputs, of which the user sees the first `visible`. `saves` holds the
    names of what the gradient rule reads (None: all).
    """

    name: str
    fn: Callable[..., Any]
    params: tuple[str, ...]
    defaults: Attrs
    outs: tuple[str, ...] = ("y",)
    visible: int = 1
    saves: frozenset[str] | None = frozenset()
    variadic: bool = False
    optional: frozenset[str] = frozenset()
    fused: bool = False
    fuse: tuple[Meta, ...] = ()
    differentiable: bool = True
    expression: str | None = None
    infer_rule: Callable[..., list[Meta]] | None = None
    vjp_rule: Callable[..., Sequence[Any]] | None = None
    view_rule: Callable[..., Layout | None] | None = None
    flops_rule: Callable[..., int] | None = None
    cpu_kernels: list[Kernel] = field(default_factory=list[Kernel])
    cuda_kernels: list[Kernel] = field(default_factory=list[Kernel])

    def __post_init__(self) -> None:
        self.__doc__ = self.fn.__doc__

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = args if self.variadic else self._inputs(args, kwargs)
        for key in kwargs:
            if key not in self.defaults:
                raise TypeError(
                    f"{self.name}: unknown argument {key!r}; it takes {', '.join((*self.params, *self.defaults))}"
                )
        return _dispatch[0](self, inputs, {**self.defaults, **kwargs})

    def _inputs(self, args: tuple[Any, ...], kwargs: Attrs) -> tuple[Any, ...]:
        """The tensors among the arguments in order; those by keyword are taken out of `kwargs`."""
        if len(args) > len(self.params):
            raise TypeError(
                f"{self.name}: takes {len(self.params)} tensors ({', '.join(self.params)}), got {len(args)}"
            )
        if len(args) == len(self.params):
            return args
        inputs = list(args)
        for param in self.params[len(args) :]:
            if param not in kwargs and param not in self.optional:
                raise TypeError(f"{self.name}: missing tensor argument {param!r}")
            inputs.append(kwargs.pop(param, None))
        return tuple(inputs)

    # -- declaration
    # -----------------------------------------------------------------------------------------------------

    def infer(self, rule: Callable[..., list[Meta]]) -> Callable[..., list[Meta]]:
        """Decorator: the shape and dtype rule, `rule(*metas, **attrs) -> [Meta, …]`, one for each output."""
        self.infer_rule = rule
        return rule

    def vjp(self, rule: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
        """Decorator: the gradient rule, `rule(ctx, *cotangents) -> gradients`, one for each input, None where
        there is none.

        Cotangents come for the visible outputs, None for one that does not matter (never all of them)."""
        self.vjp_rule = rule
        return rule

    def view(self, rule: Callable[..., Layout | None]) -> Callable[..., Layout | None]:
        """Decorator: makes the op a view of its first input; `rule(layout, **attrs)` is the new layout, or
        None if a copy is needed.
        """
        self.view_rule = rule
        return rule

    def flops(self, rule: Callable[..., int]) -> Callable[..., int]:
        """Decorator: `rule(*metas, **attrs)`, the floating-point operations of a call, for profiles."""
        self.flops_rule = rule
        return rule

    def cpu(self, fn: Callable[..., None] | str | None = None, **facts: Any) -> Any:
        """Add a CPU kernel (decorator, or `"module:function"` imported at first launch); `facts` are Kernel's. Those
        added later are tried first.
        """
        return self._add(self.cpu_kernels, fn, facts)

    def cuda(self, fn: Callable[..., None] | str | None = None, **facts: Any) -> Any:
        """Add a CUDA kernel, as `cpu`: it launches on the arrays it is given."""
        return self._add(self.cuda_kernels, fn, facts)

    def _add(self, kernels: list[Kernel], fn: Callable[..., None] | str | None, facts: Attrs) -> Any:
        if fn is None:
            return partial(self._add, kernels, facts=facts)
        kernels.insert(0, Kernel(fn, **facts))
        return fn

    def argument(self, index: int) -> str:
        """What a message calls input number `index`."""
        return f"{self.params[0]}[{index}]" if self.variadic else self.params[index]

    # -- queries
    # ---------------------------------------------------------------------------------------------------------

    def saves_input(self, index: int) -> bool:
        """True when the gradient rule reads input number `index`."""
        return self.saves is None or self.params[0 if self.variadic else index] in self.saves

    def saves_output(self, slot: int) -> bool:
        return slot < len(self.outs) and (self.saves is None or self.outs[slot] in self.saves)

    def infer_metas(self, metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
        assert self.infer_rule is not None, f"op {self.name} has no shape rule"
        return self.infer_rule(*metas, **attrs)

    def kernel(self, device: str, metas: Sequence[Meta | None], attrs: Attrs) -> Kernel | None:
        """The kernel that serves these inputs on a device, or None: then the reference or composition does."""
        kernels = self.cuda_kernels if device == "cuda" else self.cpu_kernels
        if not kernels or debug.references_only():
            return None
        if device == "cpu" and any(m is not None and dtypes.is_half(m.dtype) for m in metas):
            return None
        return next((kernel for kernel in kernels if kernel.serves(metas, attrs)), None)


OPS: dict[str, Op] = {}
_dispatch: list[Callable[[Op, tuple[Any, ...], Attrs], Any]] = []


def set_dispatch(apply: Callable[[Op, tuple[Any, ...], Attrs], Any]) -> None:
    """Called once by the tape: what calling an op does."""
    _dispatch[:] = [apply]


def register(op: Op) -> Op:
    """`op` itself, from now on among OPS. Raises ValueError for a name that is taken."""
    if op.name in OPS:
        raise ValueError(f"op {op.name} is declared twice")
    OPS[op.name] = op
    return op


def _declare(
    fn: Callable[..., Any], fused: bool, outs: str, visible: int | None, saves: str | None, like: str, **facts: Any
) -> Op:
    parameters = list(inspect.signature(fn).parameters.values())[0 if fused else 1 :]  # without xp
    tensors = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    params = tuple(p.name for p in tensors)
    names = () if outs == "*" else tuple(outs.split())
    op = Op(
        fn.__name__.strip("_"),
        fn,
        params,
        {p.name: None if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
        names,
        visible or len(names) or sys.maxsize,
        None if saves is None else frozenset(saves.split()),
        variadic=any(p.kind is p.VAR_POSITIONAL for p in tensors),
        optional=frozenset(p.name for p in tensors if p.default is None),
        fused=fused,
        **facts,
    )
    if like:
        positions = [params.index(name) for name in like.split()]
        op.infer_rule = lambda *metas, **attrs: [metas[i] for i in positions]
    return register(op)


def primitive(
    *, outs: str = "y", saves: str | None = None, like: str = "", differentiable: bool = True
) -> Callable[[Callable[..., Any]], Op]:
    """Declare a primitive from its array reference `f(xp, *arrays, **attrs)`.

    `outs` names the outputs. "*" says that their number follows from the inputs; then none is saved. `saves` names the
    inputs and outputs that the gradient rule reads, so that the tape keeps nothing else (default: all). `like` is a
    shape rule: for each output the input whose shape and dtype it has.
    """
    facts = {"saves": saves, "like": like, "differentiable": differentiable}
    return partial(_declare, fused=False, outs=outs, visible=None, **facts)


def fused(
    *,
    outs: str = "y",
    visible: int = 1,
    saves: str | None = None,
    like: str = "",
    differentiable: bool = True,
    fuse: tuple[Meta, ...] = (),
) -> Callable[[Callable[..., Any]], Op]:
    """Declare a fused op from its composition in seqlib ops `f(*tensors, **attrs)` (returns one tensor for each name in
    `outs`). The user sees the first `visible`. With `fuse`, an example's inputs, the op takes the place of its
    composition in compiled functions. The rest is as for a primitive.
    """
    facts = {"saves": saves, "like": like, "differentiable": differentiable, "fuse": fuse}
    return partial(_declare, fused=True, outs=outs, visible=visible, **facts)


# -- messages
# --------------------------------------------------------------------------------------------------------------


def shape_error(op: str, argument: str, expected: str, got: Any) -> ShapeError:
    """The one form of a shape message: op, argument, expected, got, the user's line."""
    return ShapeError(f"{op}: {argument} should be {expected}, got {got} (at {debug.where()})")


def dtype_error(op: str, argument: str, expected: str, got: Any) -> DtypeError:
    """The one form of a dtype message."""
    return DtypeError(f"{op}: {argument} should be {expected}, got {got} (at {debug.where()})")


def need_float(op: str, argument: str, meta: Meta) -> None:
    """Raise DtypeError unless the argument is floating."""
    if not dtypes.is_float(meta.dtype):
        raise dtype_error(op, argument, "a floating dtype", meta.dtype)


def need_int(op: str, argument: str, meta: Meta) -> None:
    """Raise DtypeError unless the argument is int32 or int64."""
    if not dtypes.is_int(meta.dtype):
        raise dtype_error(op, argument, "int32 or int64", meta.dtype)


def need_alike(op: str, **metas: Meta | None) -> None:
    """Raise DtypeError unless all that are given are floating, of the first one's dtype."""
    given = {name: meta for name, meta in metas.items() if meta is not None}
    first, dtype = next((name, meta.dtype) for name, meta in given.items())
    for name, meta in given.items():
        need_float(op, name, meta)
        if meta.dtype != dtype:
            raise dtype_error(op, name, f"{dtype}, as {first}", meta.dtype)


def normalize_axis(op: str, axis: int, ndim: int, argument: str = "axis") -> int:
    """`axis` counted from the front. Raises ShapeError when it is out of range, DtypeError when it is no int."""
    if not isinstance(axis, int) or isinstance(axis, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise dtype_error(op, argument, "an int", type(axis).__name__)
    if not -ndim <= axis < max(ndim, 1):
        raise shape_error(op, argument, f"in [-{ndim}, {ndim})", axis)
    return axis % ndim if ndim else 0


def normalize_axes(op: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` (an int, several, or None for all) as a sorted tuple. Raises ShapeError for one out of range or named
    twice.
    """
    given = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    axes = sorted({normalize_axis(op, a, ndim) for a in given})
    if len(axes) != len(given):
        raise shape_error(op, "axis", "of different axes", axis)
    return tuple(axes)


def broadcast_shapes(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcasting of several shapes. Raises ShapeError that names the op and the shapes."""
    if len(set(shapes)) == 1:
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise shape_error(op, "arguments", "broadcastable together", " and ".join(map(str, shapes))) from None
