"""Trees of every kind of container survive being taken apart and put together."""

import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import msgspec
import pytest

from seqlib.core import tree


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Box:
    inside: Any
    label: str


class Record(msgspec.Struct):
    a: Any
    b: Any


TREES = [
    1,
    None,
    [],
    (),
    {},
    [1, (2, 3), {"a": 4, "b": [5]}],
    Point(1, [2, Point(3, 4)]),
    Box([1, 2], "name"),
    Record({"k": 1}, (2,)),
    {"x": Record(1, Box(2, "l")), 3: (Point(4, 5),)},
    (None, [None]),
]


@pytest.mark.parametrize("node", TREES)
def test_there_and_back(node: Any) -> None:
    leaves, treedef = tree.flatten(node)
    again = tree.unflatten(treedef, leaves)
    assert again == node
    assert type(again) is type(node)
    assert tree.flatten(again)[1] == treedef
    hash(treedef)


def test_leaves_come_in_order_of_insertion() -> None:
    assert tree.flatten({"b": 1, "a": [2, 3]})[0] == [1, 2, 3]
    assert tree.flatten({"b": 1, "a": 2})[1] != tree.flatten({"a": 1, "b": 2})[1]


def test_kinds_are_told_apart() -> None:
    structures = [tree.flatten(t)[1] for t in ([1, 2], (1, 2), Point(1, 2), {"x": 1, "y": 2}, Record(1, 2))]
    assert len(set(structures)) == len(structures)


def test_map_leaves() -> None:
    assert tree.map_leaves(lambda v: v * 2, {"a": [1, 2], "p": Point(3, (4,))}) == {"a": [2, 4], "p": Point(6, (8,))}


def test_wrong_number_of_leaves() -> None:
    _, treedef = tree.flatten([1, 2])
    with pytest.raises(ValueError, match=r"too few leaves \(1\)"):
        tree.unflatten(treedef, [1])
    with pytest.raises(ValueError, match=r"too many leaves \(3\)"):
        tree.unflatten(treedef, [1, 2, 3])


def test_subclasses_of_dict() -> None:
    leaves, treedef = tree.flatten(OrderedDict(b=1, a=2))
    assert tree.unflatten(treedef, leaves) == {"b": 1, "a": 2}
