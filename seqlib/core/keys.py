"""What a program is built for, and in what two such keys differ."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from seqlib.core import tree
from seqlib.core.op import Meta


class Static(NamedTuple):
    """An argument that is no tensor: 2, 2.0 and True are different, and so are 0.0 and -0.0."""

    type: type[Any]
    value: Any


class Key(NamedTuple):
    """A signature and what else a trace depends on.

    `leaves` are a Meta for each tensor and a Static for the rest of the arguments, `switches` the environment's,
    `generator` the ambient one where it is in `state`, `modes` what the owners in `state` tell by `modes()`, `device`
    where it runs.
    """

    arguments: tree.TreeDef
    leaves: tuple[Meta | Static, ...]
    gradients: bool
    switches: tuple[str, ...]
    generator: Any
    modes: tuple[Any, ...]
    device: str


def static(leaf: Any) -> Static:
    """A hashable argument as part of a key; floats by their bits, so that NaN equals NaN."""
    return Static(type(leaf), leaf.hex() if isinstance(leaf, float) else leaf)


def why(new: Key, known: Iterable[Key]) -> str:
    """What `new` differs in from that of the `known` keys which differs least; empty where there is none."""
    reasons = [_differences(new, old) for old in reversed(list(known))]
    if not reasons:
        return ""
    least = min(reasons, key=len)
    return "; ".join(least[:3]) + (f"; and {len(least) - 3} more" if len(least) > 3 else "")


def _differences(new: Key, old: Key) -> list[str]:
    found: list[str] = []
    if new.arguments != old.arguments:
        found.append("the arguments have another structure")
    else:
        names = [_argument(path) for path in tree.paths(new.arguments)]
        pairs = zip(names, old.leaves, new.leaves, strict=True)
        found += [f"{name} changed {_change(a, b)}" for name, a, b in pairs if a != b]
    others = (
        (new.gradients != old.gradients, f"gradients are {'on' if new.gradients else 'off'} now"),
        (new.switches != old.switches, f"the environment has {' '.join(new.switches) or 'no switches set'} now"),
        (new.generator is not old.generator, "another generator is in force"),
        (new.modes != old.modes, "a module's training mode, a parameter or its `frozen` changed"),
        (new.device != old.device, f"the state or the arguments moved from {old.device} to {new.device}"),
    )
    return found + [reason for differs, reason in others if differs]


def _argument(path: tuple[Any, ...]) -> str:
    """`argument 2.src` for the path (0, 1, "src") in (args, kwargs), `argument scale` for (1, "scale")."""
    _, first, *rest = path
    return "argument " + ".".join(str(part) for part in (first + 1 if isinstance(first, int) else first, *rest))


def _change(a: Meta | Static, b: Meta | Static) -> str:
    if isinstance(a, Meta) and isinstance(b, Meta):
        return f"shape from {a.shape} to {b.shape}" if a.shape != b.shape else f"dtype from {a.dtype} to {b.dtype}"
    return f"from {_shown(a)} to {_shown(b)}"


def _shown(leaf: Meta | Static) -> str:
    if isinstance(leaf, Meta):
        return f"{leaf.dtype} {leaf.shape}"
    return repr(float.fromhex(leaf.value) if leaf.type is float else leaf.value)
