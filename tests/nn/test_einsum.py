"""einsum against NumPy."""

from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core.compile import compile
from seqlib.core.tensor import tensor
from seqlib.util.errors import ShapeError
from tests.core.slopes import along, draw

Array = Any


SUBSCRIPTS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("bthk,bshk->bhts", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("bhts,bshk->bthk", (2, 4, 3, 6), (2, 6, 4, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("i...,i...", (3, 2), (3, 2)),
    ("ii", (4, 4)),
    ("ii->i", (4, 4)),
    ("bii,i->b", (3, 4, 4), (4,)),
    ("iji->j", (3, 2, 3)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ba", (2, 3)),
    ("i,j->ij", (3,), (4,)),
    ("i,i->", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    (",ij->ij", (), (2, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("a,ab,abc->c", (2,), (2, 3), (2, 3, 4)),
    ("ij,ik,i->jk", (3, 2), (3, 4), (3,)),
    ("ij,jk->ik", (2, 0), (0, 4)),
    ("ij,j->i", (2, 3), (1,)),
    ("...,...->...", (2, 3), (3,)),
    (" a b , b c -> a c ", (2, 3), (3, 4)),
]


@pytest.mark.parametrize("case", SUBSCRIPTS, ids=lambda c: c[0])
def test_einsum_equals_numpy(case: tuple[Any, ...]) -> None:
    subscripts, *shapes = case
    arrays = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    expected = np.einsum(subscripts, *(a.astype(np.float64) for a in arrays))
    got = seqlib.einsum(subscripts, *arrays)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)
    compiled = compile(lambda *xs: seqlib.einsum(subscripts, *xs))(*(tensor(a) for a in arrays))
    assert compiled.numpy().tobytes() == got.numpy().tobytes()
    if all(a.size for a in arrays):
        slope, difference = along(lambda *xs: seqlib.einsum(subscripts, *xs), *arrays)
        assert slope == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_einsum_of_integers() -> None:
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.arange(12, dtype=np.int32).reshape(3, 4)
    got = seqlib.einsum("ij,jk->ik", a, b)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got.numpy(), a @ b)


def test_einsum_of_a_product_is_one_product() -> None:
    q, k = tensor(draw(2, 3, 4, 5)), tensor(draw(2, 6, 4, 5, seed=1))
    step = compile(lambda q, k: seqlib.einsum("bthk,bshk->bhts", q, k))
    step(q, k)
    assert [launch.name for launch in step.programs[0].plan.launches] == ["matmul"]


@pytest.mark.parametrize(
    "subscripts,shapes,text",
    [
        ("ij,jk->ik", [(2, 3)], "subscripts should be of 1 terms"),
        ("ij,jk->ik", [(2, 3), (3, 4, 5)], "term 'jk' should be of 3 indices"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "term 'jk' should be of size 3 along 'j'"),
        ("ii->i", [(2, 3)], "term 'ii' should be of size"),
        ("i1->i", [(2, 3)], "term 'i1' should be of letters"),
        ("ij->ik", [(2, 3)], "result 'ik' should be different letters of 'ij'"),
        ("ij->ii", [(2, 3)], "result 'ii' should be different letters of 'ij'"),
    ],
)
def test_einsum_messages(subscripts: str, shapes: list[tuple[int, ...]], text: str) -> None:
    with pytest.raises(ShapeError) as caught:
        seqlib.einsum(subscripts, *(draw(*shape) for shape in shapes))
    assert text in str(caught.value)
