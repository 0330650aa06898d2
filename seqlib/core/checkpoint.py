"""`checkpoint`: compute again instead of keeping."""

from collections.abc import Callable, Sequence
from typing import Any

from seqlib.core import tree
from seqlib.core.ambient import ambient
from seqlib.core.graph import checkpointed
from seqlib.core.op import Meta
from seqlib.core.rng import Draws
from seqlib.core.tape import Edge, GradientError, Region, below, call_op, grad_enabled, grad_mode, next_seq, watching
from seqlib.core.tensor import Tensor, Variable


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)`, of which the tape keeps the arguments and nothing that was computed on the way
    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").

    The gradient calls `fn` once more and goes back through that: a stack of L equal layers, each in a checkpoint,
    keeps L inputs and the inside of one layer, for about a third more time. `fn` is a function or a Module, its
    arguments and result are trees of tensors; the Parameters and tensors that it uses beside its arguments get their
    gradients too. Values and first gradients are those without checkpoint, to the bit; random ops (dropout) draw the
    same numbers in both calls and advance their generator once. Checkpoints nest. In a compiled function the second
    computation comes where the gradient asks for it and is never merged with the first, so that the planned memory
    falls.

    `fn` is called twice: it should do the same both times and assign to no Variable. Raises TraceError if it assigns,
    and, when the gradient is taken, GradientError if the second call gives other shapes or a Variable that it read
    was assigned to since, SeqlibError if it draws another number of random values.
    """
    if not grad_enabled():
        return fn(*args, **kwargs)
    since, layers, draws = next_seq(), ambient.scopes, Draws()
    read: dict[int, tuple[Variable, int]] = {}
    with checkpointed(False, layers), draws.recording(), watching(read):
        leaves, treedef = tree.flatten(fn(*args, **kwargs))
    made = [i for i, t in enumerate(leaves) if isinstance(t, Tensor) and t.node is not None and t.node.seq > since]
    inside = below([leaves[i].node for i in made], lambda node: node.seq > since)
    reached = [(e, d) for node in inside for e, d in zip(node.edges, node.inputs, strict=True) if e is not None]
    edges: dict[Edge, Meta] = {e: Meta(d.shape, d.dtype) for e, d in reached if e[0] not in inside}
    metas = tuple(Meta(leaves[i].shape, leaves[i].dtype) for i in made)

    def again() -> Sequence[Tensor]:
        with grad_mode(True), checkpointed(True, layers), draws.replaying():
            second, _ = tree.flatten(fn(*args, **kwargs))
        outs = [second[i] for i in made if i < len(second)]
        found = tuple(Meta(t.shape, t.dtype) for t in outs if isinstance(t, Tensor) and t.node)
        if found != metas:
            raise GradientError(
                f"checkpoint: {getattr(fn, '__name__', type(fn).__name__)} gave {metas} and, called again for the "
                f"gradient, {found}; it should do the same whenever it is called"
            )
        return outs

    inputs, versions = tuple(edges.values()), tuple(read.values())
    node = Region(call_op("checkpoint", len(made)), inputs, metas, {}, tuple(edges), versions, again=again)
    for slot, i in enumerate(made):
        leaves[i] = Tensor(leaves[i].data, node, slot)
    return tree.unflatten(treedef, leaves)
