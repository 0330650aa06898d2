"""Tensor, the value that users hold; Variable and Parameter, the locations that a program reads and writes.

`Tensor.data` is an array (eager) or a graph `Value` (while tracing); `node` and `slot` say which tape node
made it. Methods and operators are ops looked up by name, so this file knows no op.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from seqlib.core import debug, dtypes
from seqlib.core.ambient import ambient
from seqlib.core.backends import CPU, backend_of, copy_of, host, is_cuda, place
from seqlib.core.graph import Value, active_graph
from seqlib.core.meta import no_memory
from seqlib.core.modes import note_mode_change
from seqlib.core.op import OPS, Meta, shape_error
from seqlib.util.errors import TraceError

TensorLike = Any
"""A Tensor, a Python scalar or anything NumPy makes an array of."""

_functions: dict[str, Callable[..., Any]] = {}
"""Functions by the names that Tensor's methods use; `seqlib.core.ops` and the tape fill it."""


def register_methods(functions: dict[str, Callable[..., Any]]) -> None:
    """Give Tensor's methods and operators their functions."""
    _functions.update(functions)


def _operator(op: str, swapped: bool = False) -> Callable[[Tensor, TensorLike], Tensor]:
    """The method of a binary operator, of the right operand if `swapped`."""

    def method(self: Tensor, other: TensorLike) -> Tensor:
        return OPS[op](other, self) if swapped else OPS[op](self, other)

    return method


class Leaf:
    """The tape's end at a tensor that gradients are wanted for. It refers to it weakly, so that no cycle arises."""

    __slots__ = ("__weakref__", "seq", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.seq = -1
        self.tensor = weakref.ref(tensor)


class Tensor:
    """An n-dimensional array with a place in the gradient tape.

    Make one with `seqlib.tensor`. Tensors are values: no op writes into one. `grad` is filled by
    `backward()`. `data` is an array, or what stands for one while a function is traced; `node` and `slot` say which
    output of which node of the tape it is. Operators (+ - * / ** @, comparisons, & | ~, indexing) and methods are the
    functions of `seqlib` of these names.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "slot")
    __array_priority__ = 1000  # NumPy arrays on the left hand leave the operator to us

    def __init__(self, data: Any, node: Any = None, slot: int = 0) -> None:
        self.data: Any = data
        self.node: Any = node
        self.slot = slot
        self.grad: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> dtypes.DType:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def size(self) -> int:
        return Meta(self.data.shape, self.data.dtype).size

    @property
    def device(self) -> str:
        """ "cpu" or "cuda": where the content lies. Raises TraceError inside a compiled function."""
        return backend_of([self._concrete("device")]).device

    @property
    def requires_grad(self) -> bool:
        """True when gradients flow to or through this tensor."""
        return self.node is not None

    @property
    def T(self) -> Tensor:
        return _functions["transpose"](self)

    def __repr__(self) -> str:
        if isinstance(self.data, (Value, Meta)):
            return f"Tensor({'traced' if isinstance(self.data, Value) else 'without memory'} {self.data!r})"
        return f"Tensor({np.array2string(host(self.data), separator=', ', threshold=20)}, dtype={self.dtype})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def _concrete(self, what: str) -> npt.NDArray[Any]:
        if isinstance(self.data, Value):
            raise TraceError(
                f"{what} needs the content of a tensor inside a compiled function, where it does not exist yet "
                f"(at {debug.where()}); return the tensor and look at it outside, or use seqlib.where for a choice"
            )
        if isinstance(self.data, Meta):
            raise no_memory(what, self)
        return self.data

    def numpy(self) -> npt.NDArray[Any]:
        """A copy of the content as a NumPy array. Raises TraceError inside a compiled function."""
        return host(self._concrete("numpy()"))

    def on_host(self) -> npt.NDArray[Any]:
        """The content as a NumPy array: the storage itself where it lies in main memory, a copy of one on a device."""
        return host(self.data) if is_cuda(self.data) else self.data

    def item(self) -> Any:
        """The content of a one-element tensor as a Python scalar."""
        return self._scalar("item()")

    def _scalar(self, what: str) -> Any:
        array = self._concrete(what)
        if array.size != 1:
            raise shape_error("item", "the tensor", "of one element", array.shape)
        return host(array).reshape(()).item()

    def tolist(self) -> Any:
        return host(self._concrete("tolist()")).tolist()

    def __float__(self) -> float:
        return float(self._scalar("float()"))

    def __int__(self) -> int:
        return int(self._scalar("int()"))

    def __bool__(self) -> bool:
        return bool(self._scalar("if or bool()"))

    def __index__(self) -> int:
        self._concrete("use as an index")
        if not dtypes.is_int(self.dtype):
            raise TypeError(f"a {self.dtype} tensor is not an index")
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = self._concrete("conversion to a NumPy array")
        if is_cuda(array):
            return np.asarray(host(array), dtype=dtype)
        return np.array(array, dtype=dtype) if copy is not False else np.asarray(array, dtype=dtype)

    def backward(self, cotangent: Tensor | None = None) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf it depends on. A non-scalar needs a cotangent."""
        _functions["backward"](self, cotangent)

    def detach(self) -> Tensor:
        """The same content, cut off from the tape."""
        return Tensor(self.data)

    def to(self, device: str) -> Tensor:
        """The content on a device ("cpu" or "cuda"), cut off from the tape; itself if it lies there.

        Raises UsageError for another device, CudaMissing where there is no GPU.
        """
        return self if self.device == device else Tensor(place(self._concrete("to()"), device))

    def astype(self, dtype: Any) -> Tensor:
        return _functions["cast"](self, dtype=dtype)

    def reshape(self, *shape: Any) -> Tensor:
        return _functions["reshape"](
            self, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        )

    def transpose(self, *axes: Any) -> Tensor:
        return _functions["transpose"](
            self, axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else (axes or None)
        )

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return _functions["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return _functions["mean"](self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return _functions["max"](self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return _functions["min"](self, axis=axis, keepdims=keepdims)

    def __getitem__(self, index: Any) -> Tensor:
        return _functions["getitem"](self, index)

    __add__ = _operator("add")
    __radd__ = _operator("add", swapped=True)
    __sub__ = _operator("sub")
    __rsub__ = _operator("sub", swapped=True)
    __mul__ = _operator("mul")
    __rmul__ = _operator("mul", swapped=True)
    __truediv__ = _operator("div")
    __rtruediv__ = _operator("div", swapped=True)
    __pow__ = _operator("power")
    __rpow__ = _operator("power", swapped=True)
    __lt__ = _operator("less")
    __le__ = _operator("less_equal")
    __gt__ = _operator("greater")
    __ge__ = _operator("greater_equal")
    __and__ = _operator("logical_and")
    __or__ = _operator("logical_or")

    def __matmul__(self, other: TensorLike) -> Tensor:
        return _functions["matmul"](self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return _functions["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return OPS["neg"](self)

    def __abs__(self) -> Tensor:
        return OPS["abs"](self)

    def __eq__(self, other: object) -> Any:
        return OPS["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        return OPS["not_equal"](self, other)

    def __invert__(self) -> Tensor:
        return OPS["logical_not"](self)

    __hash__ = object.__hash__


def as_array(value: Any, beside: dtypes.DType | None = None) -> npt.NDArray[Any]:
    """A NumPy array of a supported dtype for a Python scalar, list or array. Scalars are weak: they follow
    `beside`.
    """
    if isinstance(value, (bool, int, float)):
        return np.asarray(value, dtypes.scalar_dtype(value, beside))
    array = np.asarray(value)
    listed = isinstance(value, (list, tuple))
    if listed and array.dtype == np.float64:
        return array.astype(np.float32)
    if listed and array.dtype == np.int64 and (array.size == 0 or np.abs(array).max() < 2**31):
        return array.astype(np.int32)
    try:
        return array.astype(dtypes.canonical(array.dtype), copy=False)
    except dtypes.DtypeError as error:
        raise dtypes.DtypeError(f"{error} (at {debug.where()})") from None


def tensor(value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `value` (scalar, nested list, array or tensor).

    Python floats become float32 and Python ints int32; NumPy arrays keep their dtype unless `dtype` is given.
    Raises DtypeError for a dtype that the core does not have, or for `requires_grad` on a tensor that is not
    floating.
    """
    if isinstance(value, Tensor):
        value = value.numpy()
    array = np.array(as_array(value), dtype=None if dtype is None else dtypes.canonical(dtype), order="C")
    graph = active_graph()
    result = Tensor(array if graph is None else graph.constant(array))
    if requires_grad:
        _require_float(array.dtype)
        result.node = Leaf(result)
    return result


def _own(array: Any) -> npt.NDArray[Any]:
    """A copy in main memory; the array itself where it is a copy-on-write map of a file, its holder's alone."""
    private = getattr(getattr(array, "base", None), "mode", "") == "c"  # of a np.memmap
    if private and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.ascontiguousarray(host(array)).reshape(array.shape)


def as_tensor(value: TensorLike) -> Tensor:
    """`value` itself if it is a tensor, else a new tensor of it."""
    return value if isinstance(value, Tensor) else tensor(value)


def _require_float(dtype: dtypes.DType) -> None:
    if not dtypes.is_float(dtype):
        raise dtypes.DtypeError(f"tensor: gradients exist for floating tensors only, got {dtype}")


class Variable(Tensor):
    """A location: a tensor whose storage, at first a copy of `value`, stays where it is and is assigned to.
    `Variable(Meta(shape, dtype))` has no memory until then (see `meta`). `name` is for messages and listings.

    A compiled function reads and writes the Variables of its `state` in place; an eager `assign` copies into the
    storage. `version` is the sum of `counts`, its own and each program's: the tape refuses gradients of what is gone.
    """

    __slots__ = ("counts", "name")

    def __init__(self, value: Any, name: str = "", dtype: Any = None) -> None:
        array = value.numpy() if isinstance(value, Tensor) else value
        if not isinstance(array, Meta):
            array = as_array(array)
            array = array if dtype is None else array.astype(dtypes.canonical(dtype), copy=False)
        super().__init__(array if isinstance(array, Meta) else self._stored(array))
        self.name = name
        self.counts = [[0]]

    @property
    def version(self) -> int:
        return sum(count for (count,) in self.counts)

    def _stored(self, array: npt.NDArray[Any]) -> Any:
        return CPU.stored(array)

    @classmethod
    def zeros_for(cls, parameter: Tensor, name: str, shape: tuple[int, ...] | None = None) -> Variable:
        """Zeros of a parameter's shape, or `shape`, and dtype; without memory where the parameter has none."""
        meta = Meta(parameter.shape if shape is None else shape, parameter.dtype)
        return cls(meta if isinstance(parameter.data, Meta) else np.zeros(meta.shape, meta.dtype), name)

    def detach(self) -> Tensor:
        """The present content, cut off from the tape; a later `assign` does not change it."""
        return Tensor(self.data if isinstance(self.data, Value) else copy_of(self._concrete("detach()")))

    def assign(self, value: TensorLike) -> None:
        """Write `value` (same shape and dtype) into this location. Raises ShapeError or DtypeError and then
        writes nothing.
        """
        new = value if isinstance(value, Tensor) else Tensor(as_array(value, self.dtype))
        if new.shape != self.shape:
            raise shape_error("assign", self.name or "value", f"of shape {self.shape}", new.shape)
        if new.dtype != self.dtype:
            raise dtypes.DtypeError(f"assign: {self.name or 'value'} should be {self.dtype}, got {new.dtype}")
        graph = active_graph()
        if ambient.checkpoint:
            raise TraceError(
                f"assign: {self.name or 'a Variable'} is assigned to in a checkpoint, which is computed twice "
                f"(at {debug.where()}); assign outside it"
            )
        if graph is None:
            if isinstance(self.data, Meta):
                self.data = _own(new._concrete("assign"))
            else:
                backend_of([self.data]).write(self.data, new._concrete("assign"))
            self.counts[0][0] += 1
        elif isinstance(self.data, Value):
            self.data = new.data if isinstance(new.data, Value) else graph.constant(new.data)
        else:
            raise TraceError(f"the compiled function writes {self.name or 'a Variable'}, which is not in its state=[…]")

    def storage(self) -> npt.NDArray[Any]:
        """The array of this location, for a caller that writes to a part of it: counts as an assignment."""
        self.counts[0][0] += 1
        return self.data

    def to(self, device: str) -> Variable:
        """Move the storage to a device, in place; compiled functions that use it build programs for that device.

        Raises as `Tensor.to`.
        """
        if not isinstance(self.data, Meta) and self.device != device:
            self.data = place(self._concrete("to()"), device)
            self.counts[0][0] += 1
            note_mode_change()
        return self

    def state_variables(self) -> dict[str, Variable]:
        return {self.name or "value": self}


class Parameter(Variable):
    """A trainable location, see `Variable`; `frozen` ones take no gradient. `copies` are its compute copies by dtype.
    Raises DtypeError for a value that is not floating."""

    __slots__ = ("copies",)

    def _stored(self, array: npt.NDArray[Any]) -> Any:
        return Meta(array.shape, array.dtype) if ambient.meta else super()._stored(array)

    def __init__(self, value: Any, name: str = "", dtype: Any = None) -> None:
        super().__init__(value, name, dtype)
        _require_float(self.dtype)
        self.node = Leaf(self)
        self.copies: dict[dtypes.DType, Variable] = {}

    @property
    def frozen(self) -> bool:
        return self.node is None

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self.node = None if value else (self.node or Leaf(self))
        note_mode_change()

    def modes(self) -> tuple[Any, ...]:
        """What a compiled function is traced anew for."""
        return (self.frozen, *self.copies)

    def keep_copy(self, dtype: Any) -> None:
        """Keep a copy in `dtype` for `as_dtype`: a location of its own that every `assign` writes too, an optimizer's
        in the same program. Raises TraceError inside a compiled function."""
        wanted = dtypes.canonical(dtype)
        if isinstance(self.data, Value):
            raise TraceError(f"keep_copy: {self.name or 'a Parameter'} is being traced; call it before")
        if wanted != self.dtype and wanted not in self.copies:
            content = Meta(self.shape, wanted) if isinstance(self.data, Meta) else self.data.astype(wanted)
            self.copies[wanted] = Variable(content, f"{self.name}.{wanted}")
            note_mode_change()

    def as_dtype(self, dtype: Any) -> Tensor:
        """This parameter in `dtype`: itself, the copy that is kept of it, or else a cast. The gradient has the
        parameter's own dtype."""
        wanted = dtypes.canonical(dtype)
        copy = self.copies.get(wanted)
        if wanted == self.dtype:
            return self
        return OPS["cast"](self, dtype=wanted) if copy is None else OPS["compute_copy"](copy, self)

    def assign(self, value: TensorLike, copies: Mapping[dtypes.DType, Tensor] | None = None) -> None:
        """Write `value` here and in the compute copies; `copies` holds what is at hand of it in their dtypes."""
        super().assign(value)
        for dtype, copy in self.copies.items():
            made = (copies or {}).get(dtype)
            copy.assign(OPS["cast"](Tensor(self.data), dtype=dtype) if made is None else made)

    def to(self, device: str) -> Parameter:
        for copy in self.copies.values():
            copy.to(device)
        super().to(device)
        return self

    def storage(self) -> npt.NDArray[Any]:
        if self.copies:
            raise TraceError(f"storage: {self.name or 'a Parameter'} has compute copies; use assign")
        return super().storage()
