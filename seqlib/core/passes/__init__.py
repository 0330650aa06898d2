"""Rewrites of a graph that keep its meaning. `optimize` runs them in order and checks the graph after
each.
"""

from collections.abc import Callable

from seqlib.core import debug
from seqlib.core.graph import Graph
from seqlib.core.passes.fuse_elementwise import fuse_elementwise
from seqlib.core.passes.fuse_patterns import fuse_patterns
from seqlib.core.passes.simplify import eliminate_common_subexpressions, eliminate_dead_code, fold_casts, fold_reshapes
from seqlib.core.passes.verify import verify

PASSES: tuple[Callable[[Graph], None], ...] = (
    eliminate_dead_code,
    eliminate_common_subexpressions,
    fold_casts,
    eliminate_dead_code,
)
FUSIONS: tuple[Callable[[Graph], None], ...] = (
    fold_reshapes,
    eliminate_dead_code,
    fuse_patterns,
    fuse_elementwise,
    eliminate_dead_code,
)
"""What SEQLIB_FUSE=0 leaves out."""


def optimize(graph: Graph) -> None:
    """Run every pass in place; `verify` after each. SEQLIB_DEBUG=3 prints the graph each time, SEQLIB_FUSE=0 leaves
    the fusions out."""
    verify(graph, "trace")
    _show(graph, "trace")
    for run in (*PASSES, *FUSIONS) if debug.fusion() else PASSES:
        run(graph)
        verify(graph, run.__name__)
        _show(graph, run.__name__)


def _show(graph: Graph, after: str) -> None:
    if debug.level() >= 3:
        debug.emit(f"--- graph after {after}: {len(graph.nodes)} nodes\n{graph}")
