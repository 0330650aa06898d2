"""Flattening of nested containers: list, tuple, NamedTuple, dict, dataclass and msgspec.Struct; everything
else is a leaf, and so is a container whose class says `tree_leaf = True`.

A tree's structure is hashable, so it can be part of a program's key.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import msgspec


class TreeDef(NamedTuple):
    """The shape of a tree: how to rebuild it, and of what children. `kind` None marks a leaf."""

    kind: str | None
    type: type[Any] | None
    keys: tuple[Hashable, ...]
    children: "tuple[TreeDef, ...]"


LEAF = TreeDef(None, None, (), ())


@cache
def _kind(of: Any) -> tuple[str, tuple[str, ...]] | None:
    """(kind, names of fields) of a type of containers; None for leaves. Keys of a dict are taken in insertion order."""
    if getattr(of, "tree_leaf", False):
        return None
    if tuple in of.__mro__:
        return "namedtuple" if hasattr(of, "_fields") else "tuple", ()
    if issubclass(of, msgspec.Struct):
        return "fields", of.__struct_fields__
    if dataclasses.is_dataclass(of):
        return "fields", tuple(f.name for f in dataclasses.fields(of))
    return ("dict", ()) if issubclass(of, dict) else ("list", ()) if issubclass(of, list) else None


def flatten(node: Any) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree in order, and its structure."""
    leaves: list[Any] = []
    return leaves, _flatten(node, leaves)


def _flatten(node: Any, leaves: list[Any]) -> TreeDef:
    of = cast("Any", type(node))
    if (found := _kind(of)) is None:
        leaves.append(node)
        return LEAF
    kind, names = found
    keys = tuple(node) if kind == "dict" else names
    children = node.values() if kind == "dict" else [getattr(node, n) for n in names] if kind == "fields" else node
    return TreeDef(kind, of, keys, tuple(_flatten(child, leaves) for child in children))


def unflatten(treedef: TreeDef, leaves: Sequence[Any]) -> Any:
    """The tree of structure `treedef` with `leaves` in order. Raises ValueError if their number differs."""
    remaining = iter(leaves)
    try:
        tree = _unflatten(treedef, remaining)
    except StopIteration:
        raise ValueError(f"too few leaves ({len(leaves)}) for the tree") from None
    if next(remaining, remaining) is not remaining:
        raise ValueError(f"too many leaves ({len(leaves)}) for the tree")
    return tree


def _unflatten(treedef: TreeDef, leaves: Any) -> Any:
    if treedef.kind is None:
        value = next(leaves, LEAF)
        if value is LEAF:
            raise StopIteration
        return value
    children: list[Any] = [_unflatten(child, leaves) for child in treedef.children]
    if treedef.kind == "dict":
        return dict(zip(treedef.keys, children, strict=True))
    build = cast("Callable[..., Any]", treedef.type)
    if treedef.kind == "namedtuple":
        return build(*children)
    if treedef.kind == "fields":
        return build(**{str(k): c for k, c in zip(treedef.keys, children, strict=True)})
    return build(children)


def map_leaves(fn: Callable[[Any], Any], node: Any) -> Any:
    """The same tree with `fn` applied to each leaf."""
    leaves, treedef = flatten(node)
    return unflatten(treedef, [fn(leaf) for leaf in leaves])


def paths(treedef: TreeDef) -> list[tuple[Any, ...]]:
    """For each leaf the keys, field names and indices that lead to it."""
    if treedef.kind is None:
        return [()]
    fields = treedef.type._fields if treedef.kind == "namedtuple" else treedef.keys  # type: ignore[union-attr]
    steps = fields or range(len(treedef.children))
    return [(step, *path) for step, child in zip(steps, treedef.children, strict=True) for path in paths(child)]
