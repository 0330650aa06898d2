"""What a backend is: it runs one op at once (eager) and gives lowered programs their functions (compiled)."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Kernel, Layout, Meta, Op, as_tuple, metas_of
from seqlib.util.memory import available_bytes

Launch = Callable[..., None]
Bound = tuple[Any, Any, Any, Any, Attrs, bool]
"""A launch with its arrays: function, outs, ins, scratch, attributes, and whether it allocates (a reference does)."""


def scratch_metas(kernel: Kernel, metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    return kernel.scratch(metas, attrs) if kernel.scratch is not None else []


def run_all(launches: Sequence[Bound]) -> None:
    """Run bound launches one after the other."""
    for fn, outs, ins, scratch, attrs, _ in launches:
        fn(outs, ins, scratch, **attrs)


class Backend:
    """A device and its array library. `device` is its name among kernels, `xp` the library's namespace."""

    device: str
    xp: Any

    def running(self) -> AbstractContextManager[Any]:
        """The block in which ops run."""
        raise NotImplementedError

    def copy(self, outs: Sequence[Any], ins: Sequence[Any], scratch: Sequence[Any]) -> None:
        """The kernel that copies an array of any layout into a contiguous one of the same shape."""
        raise NotImplementedError

    def memory(self, nbytes: int) -> Any:
        """`nbytes` of device memory as bytes [n], the first at a multiple of 64."""
        raise NotImplementedError

    def view(self, memory: Any, offset: int, meta: Meta, strides: Sequence[int]) -> Any:
        """The array that lies `offset` bytes into `memory`, with strides in bytes."""
        raise NotImplementedError

    def record(self, launches: Sequence[Bound]) -> Callable[[], None]:
        """A function that runs bound launches again and again."""
        return partial(run_all, launches)

    def synchronize(self) -> None:
        """Wait until all that was launched has ended, for timing."""

    def timed(self, launches: Sequence[Bound]) -> list[float]:
        """Run bound launches once, in order; the seconds of each."""
        seconds: list[float] = []
        for launch in launches:
            start = time.perf_counter()
            run_all((launch,))
            seconds.append(time.perf_counter() - start)
        return seconds

    def free_bytes(self) -> int | None:
        """Bytes that may still be taken; None where that can't be read."""
        return available_bytes()

    def adopt(self, array: Any) -> Any:
        """The array on this device: itself if it lies there already."""
        return array

    def to_host(self, array: Any) -> Any:
        """A copy in main memory."""
        raise NotImplementedError

    def write(self, to: Any, value: Any) -> None:
        """Copy `value` (of the same shape and dtype, from any device) into the array `to`."""
        raise NotImplementedError

    def write_all(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """`write` several, [(to, value), …]."""
        for to, value in pairs:
            self.write(to, value)

    def copies(self, arrays: Sequence[Any]) -> list[Any]:
        """Fresh contiguous copies of arrays on this device."""
        return [array.copy(order="C") for array in arrays]

    def execute(self, op: Op, arrays: Sequence[Any | None], attrs: Attrs) -> list[Any]:
        """Run one op at once. The outputs are fresh C-contiguous arrays, or views where the op is a view."""
        metas = metas_of(arrays)
        out_metas = op.infer_metas(metas, attrs)
        xp = self.xp
        with self.running():
            arrays = [None if a is None else self.adopt(a) for a in arrays]
            if op.view_rule is not None:
                return [op.fn(xp, *arrays, **attrs)]
            kernel = op.kernel(self.device, metas, attrs)
            if kernel is None:
                return self._reference(op, arrays, attrs, out_metas)
            ins = [None if a is None else self._fitting(kernel, i, a) for i, a in enumerate(arrays)]
            outs = [xp.empty(m.shape, m.dtype) for m in out_metas]
            scratch = [xp.empty(m.shape, m.dtype) for m in scratch_metas(kernel, metas, attrs)]
            kernel.load()(outs, ins, scratch, **attrs)
            return outs

    def bind(
        self, op: Op, metas: Sequence[Meta | None], out_metas: Sequence[Meta], attrs: Attrs
    ) -> tuple[Launch, Kernel | None]:
        """The destination-passing function of an op for these inputs, and the kernel it comes from (None: the
        reference).
        """
        kernel = op.kernel(self.device, metas, attrs)
        if kernel is not None:
            return kernel.load(), kernel

        def run_reference(
            outs: Sequence[Any | None], ins: Sequence[Any | None], _: Sequence[Any], **attrs: Any
        ) -> None:
            for out, result in zip(outs, self._reference(op, ins, attrs, out_metas), strict=True):
                if out is not None:
                    out[...] = result

        return run_reference, None

    def _fitting(self, kernel: Kernel, index: int, array: Any) -> Any:
        """The array itself, or a contiguous copy where the kernel asks for that."""
        if kernel.strided is True or array.flags.c_contiguous:
            return array
        strides = tuple(s // array.itemsize for s in array.strides)
        return array if kernel.takes(index, Layout(array.shape, strides, 0)) else self.xp.array(array, order="C")

    def _reference(self, op: Op, arrays: Sequence[Any | None], attrs: Attrs, out_metas: Sequence[Meta]) -> list[Any]:
        # Half precision: widen, compute in float32, round once.
        widened = [a.astype(np.float32) if a is not None and dtypes.is_half(a.dtype) else a for a in arrays]
        results = as_tuple(op.fn(self.xp, *widened, **attrs))
        outs: list[Any] = []
        for i, (array, meta) in enumerate(zip(results, out_metas, strict=True)):
            out = self.xp.asarray(array, dtype=meta.dtype, order="C")
            if out.shape != meta.shape:
                raise AssertionError(
                    f"{op.name}: the reference gave output {i} the shape {out.shape}, its shape rule {meta.shape}"
                )
            outs.append(out)
        return outs
