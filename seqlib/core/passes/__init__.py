"""Rewrites of a graph that keep its meaning. `optimize` runs them in order and checks the graph after
each.
"""

from __future__ import annotations

from collections.abc import Callable

from seqlib.core import debug
from seqlib.core.graph import Graph
from seqlib.core.passes.cse import eliminate_common_subexpressions
from seqlib.core.passes.dce import eliminate_dead_code
from seqlib.core.passes.verify import verify

PASSES: tuple[Callable[[Graph], None], ...] = (
    eliminate_dead_code,
    eliminate_common_subexpressions,
    eliminate_dead_code,
)


def optimize(graph: Graph) -> None:
    """Run every pass in place; `verify` after each. SEQLIB_DEBUG=3 prints the graph each time."""
    verify(graph, "trace")
    _show(graph, "trace")
    for run in PASSES:
        run(graph)
        verify(graph, run.__name__)
        _show(graph, run.__name__)


def _show(graph: Graph, after: str) -> None:
    if debug.level() >= 3:
        debug.emit(f"--- graph after {after}: {len(graph.nodes)} nodes\n{graph}")


__all__ = ["PASSES", "eliminate_common_subexpressions", "eliminate_dead_code", "optimize", "verify"]
