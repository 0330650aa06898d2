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
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from seqlib.core import debug, dtypes
from seqlib.util.errors import DtypeError, ShapeError

Attrs = dict[str, Any]


class Meta(NamedTuple):
    """Shape and dtype of an array that may not exist yet."""

    shape: tuple[int, ...]
    dtype: dtypes.DType

    @property
    def tree_leaf(self) -> bool:
        return True

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class Layout(NamedTuple):
    """Where the elements of a value lie in its buffer; strides and offset count elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def contiguous(self) -> bool:
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size == 0:
                return True
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


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
    when: Callable[[Sequence[Meta | None], Attrs], bool] | None = None
    scratch: Callable[[Sequence[Meta | None], Attrs], list[Meta]] | None = None
    strided: bool | Callable[[int, Layout], bool] = False
    needs: str | None = None
    overlap: tuple[tuple[int, int], ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()

    def takes(self, index: int, layout: Layout) -> bool:
        """True when input number `index` may lie like this."""
        strided = self.strided if isinstance(self.strided, bool) else self.strided(index, layout)
        return strided or layout.contiguous

    def load(self) -> Callable[..., None]:
        """The function itself; a `module:name` of seqlib.core.ops is imported at first use."""
        if isinstance(self.fn, str):
            module, _, name = self.fn.partition(":")
            self.fn = getattr(importlib.import_module(f"seqlib.core.ops.{module}"), name)
        assert not isinstance(self.fn, str)
        return self.fn


@lru_cache(maxsize=8)
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class VjpContext:
    """What a gradient rule sees: the op's inputs, outputs (those it saves) and attributes, and which
    gradients are needed.
    """

    __slots__ = ("attrs", "inputs", "needs", "outputs")

    def __init__(
        self, inputs: tuple[Any, ...], outputs: tuple[Any, ...], attrs: Attrs, needs: tuple[bool, ...]
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.attrs = attrs
        self.needs = needs


class Op:
    """A named operation. Calling it runs it (eager) or records it (while tracing) through
    `seqlib.core.tape.apply`.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        params: tuple[str, ...],
        defaults: Attrs,
        *,
        variadic: bool,
        optional: frozenset[str],
        fused: bool,
        outs: tuple[str, ...],
        visible: int,
        saves: frozenset[str] | None,
        differentiable: bool,
    ) -> None:
        self.name = name
        self.fn = fn
        self.params = params
        self.defaults = defaults
        self.variadic = variadic
        self.optional = optional
        self.fused = fused
        self.outs = outs
        self.visible = visible
        self.differentiable = differentiable
        self.fuse: tuple[Meta, ...] = ()
        self.save_inputs = frozenset(i for i, p in enumerate(params) if saves is None or p in saves)
        self.save_outputs = frozenset(i for i, o in enumerate(outs) if saves is None or o in saves)
        self.save_all_inputs = saves is None or (variadic and params[0] in saves)
        self.infer_rule: Callable[..., list[Meta]] | None = None
        self.vjp_rule: Callable[..., Sequence[Any]] | None = None
        self.view_rule: Callable[..., Layout | None] | None = None
        self.flops_rule: Callable[..., int] | None = None
        self.cpu_kernels: list[Kernel] = []
        self.cuda_kernels: list[Kernel] = []
        self.expression: str | None = None
        self.__doc__ = fn.__doc__

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.variadic:
            return _dispatch[0](self, args, {**self.defaults, **kwargs})
        if len(args) > len(self.params):
            raise TypeError(
                f"{self.name}: takes {len(self.params)} tensors ({', '.join(self.params)}), got {len(args)}"
            )
        inputs = list(args)
        for param in self.params[len(args) :]:
            if param in kwargs:
                inputs.append(kwargs.pop(param))
            elif param in self.optional:
                inputs.append(None)
            else:
                raise TypeError(f"{self.name}: missing tensor argument {param!r}")
        for key in kwargs:
            if key not in self.defaults:
                raise TypeError(
                    f"{self.name}: unknown argument {key!r}; it takes {', '.join((*self.params, *self.defaults))}"
                )
        return _dispatch[0](self, tuple(inputs), {**self.defaults, **kwargs})

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

    def cpu(
        self,
        fn: Callable[..., None] | str | None = None,
        *,
        when: Callable[[Sequence[Meta | None], Attrs], bool] | None = None,
        scratch: Callable[[Sequence[Meta | None], Attrs], list[Meta]] | None = None,
        strided: bool = False,
        needs: str | None = None,
        overlap: tuple[tuple[int, int], ...] = (),
        in_place: tuple[tuple[int, int], ...] = (),
    ) -> Any:
        """Add a CPU kernel (decorator, or `"module:function"` imported at first launch). Those added later
        are tried first.
        """

        def add(function: Callable[..., None] | str) -> Any:
            self.cpu_kernels.insert(0, Kernel(function, when, scratch, strided, needs, overlap, in_place))
            return function

        return add if fn is None else add(fn)

    def cuda(self, fn: Callable[..., None] | str, **facts: Any) -> None:
        """Add a CUDA kernel: a function, or `"module:function"`, that launches on the arrays it is given; `facts` are
        Kernel's. Those added later are tried first.
        """
        self.cuda_kernels.insert(0, Kernel(fn, **facts))

    def argument(self, index: int) -> str:
        """What a message calls input number `index`."""
        return f"{self.params[0]}[{index}]" if self.variadic else self.params[index]

    # -- queries
    # ---------------------------------------------------------------------------------------------------------

    def infer_metas(self, metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
        if self.infer_rule is None:
            raise NotImplementedError(f"op {self.name} has no shape rule")
        return self.infer_rule(*metas, **attrs)

    def kernel(self, device: str, metas: Sequence[Meta | None], attrs: Attrs) -> Kernel | None:
        """The kernel that serves these inputs on a device, or None: then the reference or composition does."""
        kernels = self.cuda_kernels if device == "cuda" else self.cpu_kernels
        if not kernels or debug.references_only():
            return None
        if device == "cpu" and any(m is not None and dtypes.is_half(m.dtype) for m in metas):
            return None
        for kernel in kernels:
            if kernel.needs is not None and not _installed(kernel.needs):
                continue
            if kernel.when is None or kernel.when(metas, attrs):
                return kernel
        return None


OPS: dict[str, Op] = {}
_dispatch: list[Callable[[Op, tuple[Any, ...], Attrs], Any]] = []


def set_dispatch(apply: Callable[[Op, tuple[Any, ...], Attrs], Any]) -> None:
    """Called once by the tape: what calling an op does."""
    _dispatch[:] = [apply]


def _declare(
    fn: Callable[..., Any], *, fused: bool, outs: str, visible: int, saves: str | None, differentiable: bool
) -> Op:
    parameters = list(inspect.signature(fn).parameters.values())
    if not fused:
        parameters = parameters[1:]  # xp
    tensors = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in tensors)
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    defaults = {k: (None if v is inspect.Parameter.empty else v) for k, v in defaults.items()}
    optional = frozenset(p.name for p in tensors if p.default is None)
    op = Op(
        fn.__name__.strip("_"),
        fn,
        tuple(p.name for p in tensors),
        defaults,
        variadic=variadic,
        optional=optional,
        fused=fused,
        outs=tuple(outs.split()),
        visible=visible,
        saves=None if saves is None else frozenset(saves.split()),
        differentiable=differentiable,
    )
    if op.name in OPS:
        raise ValueError(f"op {op.name} is declared twice")
    OPS[op.name] = op
    return op


def primitive(
    *, outs: str = "y", visible: int | None = None, saves: str | None = None, differentiable: bool = True
) -> Callable[[Callable[..., Any]], Op]:
    """Declare a primitive from its array reference `f(xp, *arrays, **attrs)`.

    `outs` names the outputs; the user sees the first `visible` (default: all). "*" says that their number
    follows from the inputs; then none is saved. `saves` names the inputs and outputs that the gradient rule
    reads, so that the tape keeps nothing else (default: all).
    """

    def declare(fn: Callable[..., Any]) -> Op:
        many = outs == "*"
        n = sys.maxsize if many else len(outs.split()) if visible is None else visible
        return _declare(
            fn, fused=False, outs="" if many else outs, visible=n, saves=saves, differentiable=differentiable
        )

    return declare


def fused(
    *,
    outs: str = "y",
    visible: int = 1,
    saves: str | None = None,
    differentiable: bool = True,
    fuse: tuple[Meta, ...] = (),
) -> Callable[[Callable[..., Any]], Op]:
    """Declare a fused op from its composition in seqlib ops `f(*tensors, **attrs)` (returns one tensor for
    each name in `outs`). With `fuse`, an example's inputs, the op takes the place of its composition in compiled
    functions.
    """

    def declare(fn: Callable[..., Any]) -> Op:
        op = _declare(fn, fused=True, outs=outs, visible=visible, saves=saves, differentiable=differentiable)
        op.fuse = fuse
        return op

    return declare


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


def normalize_axis(op: str, axis: int, ndim: int, argument: str = "axis") -> int:
    """`axis` counted from the front. Raises ShapeError when it is out of range, DtypeError when it is no int."""
    if not isinstance(axis, int) or isinstance(axis, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise dtype_error(op, argument, "an int", type(axis).__name__)
    if not -ndim <= axis < max(ndim, 1):
        raise shape_error(op, argument, f"in [-{ndim}, {ndim})", axis)
    return axis % ndim if ndim else 0


def broadcast_shapes(op: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcasting of several shapes. Raises ShapeError that names the op and the shapes."""
    ndim = max((len(s) for s in shapes), default=0)
    result = [1] * ndim
    for shape in shapes:
        for i, size in enumerate(shape):
            at = ndim - len(shape) + i
            if size != 1:
                if result[at] not in (1, size):
                    raise shape_error(op, "arguments", "broadcastable together", " and ".join(str(s) for s in shapes))
                result[at] = size
    return tuple(result)
