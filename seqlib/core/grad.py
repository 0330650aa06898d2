"""`grad` and `value_and_grad`: functions made into functions that give their gradients."""

from collections.abc import Callable, Sequence
from typing import Any

from seqlib.core import dtypes, tree
from seqlib.core.backward import gradients
from seqlib.core.op import OPS, as_tuple
from seqlib.core.tape import GradientError, filled, grad_mode
from seqlib.core.tensor import Leaf, Parameter, Tensor, Variable, tensor


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, *, params: Any = None, create_graph: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns `(fn(*args), gradients)`.

    `fn` returns a scalar floating Tensor, or a tuple whose first item is one (the rest is passed through).
    Gradients are taken by the positional arguments `argnums` (an int gives one tree, a sequence a tuple of
    trees; arguments may be trees of tensors), or, with `params` (a tree of Parameters), by those: then the
    gradients have the structure of `params`. A tensor that the result does not depend on gets zeros. With
    `create_graph` the gradients can be differentiated again.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        with grad_mode(True):
            if params is not None:
                leaves, treedef = tree.flatten(params)
                _check_parameters(leaves)
            else:
                leaves, treedef = tree.flatten([args[n] for n in numbers])
                leaves = [_fresh(leaf) for leaf in leaves]
                replaced = tree.unflatten(treedef, leaves)
                new_args = list(args)
                for n, value in zip(numbers, replaced, strict=True):
                    new_args[n] = value
                args = tuple(new_args)
            result = fn(*args, **kwargs)
            loss = as_tuple(result)[0]
            if not isinstance(loss, Tensor) or loss.size != 1:
                raise GradientError(f"value_and_grad: the function should return a scalar tensor first, got {loss!r}")
            found = gradients([loss], None, leaves, create_graph) if loss.node is not None else [None] * len(leaves)
            grads = [g if g is not None else filled(t, 0.0) for g, t in zip(found, leaves, strict=True)]
        grads = tree.unflatten(treedef, grads)
        if params is None:
            grads = grads[0] if isinstance(argnums, int) else tuple(grads)
        return result, grads

    return wrapped


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, *, params: Any = None, create_graph: bool = False
) -> Callable[..., Any]:
    """As `value_and_grad`, but the function returns the gradients alone."""
    both = value_and_grad(fn, argnums, params=params, create_graph=create_graph)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapped


def _check_parameters(leaves: Sequence[Any]) -> None:
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or leaf.node is None:
            name = leaf.name if isinstance(leaf, Variable) else type(leaf).__name__
            hint = "it is frozen" if isinstance(leaf, Parameter) else "params should be a tree of Parameters"
            raise GradientError(f"value_and_grad: {name} takes no gradient: {hint}")


def _fresh(leaf: Any) -> Tensor:
    """An argument as a leaf of its own; one that is on the tape already stays connected through an
    identity.
    """
    if isinstance(leaf, Tensor) and leaf.node is not None:
        return OPS["identity"](leaf)
    held = leaf if isinstance(leaf, Tensor) else tensor(leaf)
    data = held.data
    if not dtypes.is_float(data.dtype):
        raise GradientError(f"value_and_grad: gradients exist for floating arguments only, got {data.dtype}")
    fresh = Tensor(data)
    fresh.node = Leaf(fresh)
    return fresh
