"""Samples: inputs for the automatic tests of every op, odd and empty sizes included. A file here for one of
`seqlib/core/ops`; elementwise ops share theirs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import seqlib.core.ops  # noqa: F401  (declares the ops)
from seqlib.core.op import Op


class Sample(NamedTuple):
    """Arrays (or None) and attributes. `grad` names the inputs to differentiate by: by default the floating ones."""

    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = {}
    grad: tuple[int, ...] | None = None


Maker = Callable[[], Iterable[Sample]]
_MAKERS: dict[str, Maker] = {}


def samples_of(*ops: str) -> Callable[[Maker], Maker]:
    """Decorator: the function yields the samples of the ops of these names."""

    def add(make: Maker) -> Maker:
        for op in ops:
            assert op not in _MAKERS, f"{op} has samples already"
            _MAKERS[op] = make
        return make

    return add


def samples(op: Op) -> list[Sample]:
    """All samples of an op; none where nobody wrote them."""
    from tests.core.samples.elementwise import elementwise_samples

    make = _MAKERS.get(op.name, lambda: elementwise_samples(op) if op.expression is not None else ())
    return list(make())


for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
