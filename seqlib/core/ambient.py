"""What is in force in a thread: the graph being traced, the layer, gradients, generator and the like.

One object holds all of it, and one context manager changes it for a block.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class _Ambient(threading.local):
    graph: Any = None
    """Records ops instead of running them."""
    scopes: tuple[str, ...] = ()
    """The layers that ops belong to."""
    region: int = 0
    """Of a recomputation: no pass makes nodes of two regions one (0: none)."""
    checkpoint: bool = False
    """What runs will run, or runs, a second time for its gradient."""
    grad: bool = True
    """Ops write to the gradient tape."""
    watchers: tuple[dict[int, Any], ...] = ()
    """Take down the Variables that ops read."""
    hooks: tuple[Any, ...] = ()
    """See every op that runs."""
    generator: Any = None
    """Random ops draw from it (None: from the default one)."""
    draws: tuple[Any, ...] = ()
    """Keep or replay what is drawn."""
    meta: bool = False
    """Parameters are made without memory."""
    fusion: bool = True
    """Programs may be built with fused ops."""


ambient = _Ambient()


@contextmanager
def setting(**values: Any) -> Generator[None, None, None]:
    """Inside, these fields of `ambient` have these values."""
    fields = vars(ambient)
    previous = {name: getattr(ambient, name) for name in values}
    fields.update(values)
    try:
        yield
    finally:
        fields.update(previous)
