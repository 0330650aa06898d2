"""`meta()`: models without memory, for sizes and forecasts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from seqlib.core import debug
from seqlib.core.ambient import ambient, setting
from seqlib.util.errors import SeqlibError


def meta() -> AbstractContextManager[None]:
    """Parameters made inside have a shape and a dtype and no memory: their `data` is a `Meta`.

    For sizes and forecasts of models that need not fit: `named_parameters()`, `num_parameters()` and the `lower` of
    a compiled function work (the slots of optimizers over such parameters have no memory either). Weights that are
    assigned or loaded later give a parameter its memory; until then running an op on it or asking for its content
    raises SeqlibError. Initial weights are not drawn: generators stay where they are.
    """
    return setting(meta=True)


def building_meta() -> bool:
    """True inside `meta()`, for initialisers."""
    return ambient.meta


def no_memory(what: str, tensor: Any) -> SeqlibError:
    """The error for a Parameter that was made under `meta()` where its content is needed."""
    name = getattr(tensor, "name", "") or "a tensor"
    return SeqlibError(
        f"{what} needs the content of {name} of shape {tensor.shape}, which was made under meta() and has no memory "
        f"(at {debug.where()}); load weights first, or make the model without meta()"
    )
