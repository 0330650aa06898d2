"""Einstein summation by transposes, reshapes, products and sums of the core.

Every axis of an operand carries a label: a letter, or "0", "1", … for those that an ellipsis stands for, counted from
the last.
"""

import math
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import shape_error
from seqlib.core.ops import reduce
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.shape import reshape, slice_, transpose
from seqlib.core.tensor import Tensor, as_tensor

Term = tuple[Tensor, list[str]]


def _labels(term: str, ndim: int) -> list[str]:
    before, ellipsis, after = term.partition("...")
    letters = before + after
    rest = ndim - len(letters)
    if not all(c.isascii() and c.isalpha() for c in letters):
        raise shape_error("einsum", f"term {term!r}", "of letters and at most one '...'", term)
    if rest < 0 or (rest and not ellipsis):
        raise shape_error(
            "einsum", f"term {term!r}", f"of {ndim} indices, one for each axis of its operand", len(letters)
        )
    return [*before, *(str(i) for i in reversed(range(rest))), *after]


def _diagonal(x: Tensor, labels: list[str]) -> Term:
    """x with the axes of a label that occurs twice replaced by their diagonal, a view where x is contiguous."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            rest = [i for i in range(x.ndim) if i not in (first, second)]
            n, shape = x.shape[first], [x.shape[i] for i in rest]
            flat = reshape(transpose(x, [*rest, first, second]), (*shape, n * n))
            x = slice_(flat, [0] * flat.ndim, (*shape, n), [1] * len(rest) + [n + 1])
            labels = [labels[i] for i in rest] + [label]
    return x, labels


def _keep(x: Tensor, labels: list[str], wanted: set[str]) -> Term:
    """x summed over the axes whose label is not wanted."""
    axes = tuple(i for i, label in enumerate(labels) if label not in wanted)
    return (reduce.sum(x, axis=axes), [c for c in labels if c in wanted]) if axes else (x, labels)


def _arranged(x: Tensor, labels: list[str], *groups: list[str]) -> Tensor:
    """x with one axis for each label of the first group, and one for each other group as a whole."""
    x = transpose(x, [labels.index(c) for group in groups for c in group])
    first = len(groups[0])
    sizes, at = list(x.shape[:first]), first
    for group in groups[1:]:
        sizes.append(math.prod(x.shape[at : at + len(group)]))
        at += len(group)
    return reshape(x, sizes)


def _contract(a: Term, b: Term, wanted: set[str]) -> Term:
    """The product of two terms, summed over the labels that are not wanted."""
    (x, left), (y, right) = _keep(*a, wanted | set(b[1])), _keep(*b, wanted | set(a[1]))
    both = [c for c in left if c in right]
    batch, inner = [c for c in both if c in wanted], [c for c in both if c not in wanted]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    shape = [x.shape[left.index(c)] for c in batch + rows] + [y.shape[right.index(c)] for c in columns]
    if dtypes.is_float(x.dtype) and dtypes.is_float(y.dtype) and inner:
        product = matmul(_arranged(x, left, batch, rows, inner), _arranged(y, right, batch, inner, columns))
    else:  # outer and elementwise products, and integers
        u = _arranged(x, left, batch, rows, [], inner)
        product = reduce.sum(u * _arranged(y, right, batch, [], columns, inner), axis=-1)
    return reshape(product, shape), batch + rows + columns


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """NumPy's einsum: ``einsum("bth,bsh->bts", q, k)``. The `operands`, one for each term of the `subscripts`, are
    multiplied from left to right, axes that are not in the result summed.

    A letter names an axis, "..." stands for the other axes, which broadcast; an axis of size 1 goes with any size; a
    letter twice in a term takes the diagonal. Without "->" the result has the letters that occur once, sorted, after
    the ellipsis' axes. Raises ShapeError that names the term.
    """
    given, arrow, result = subscripts.replace(" ", "").partition("->")
    names = given.split(",")
    if len(names) != len(operands):
        raise shape_error(
            "einsum", "subscripts", f"of {len(operands)} terms, one for each operand", f"{len(names)} terms"
        )
    tensors = [as_tensor(x) for x in operands]
    labels = [_labels(name, x.ndim) for name, x in zip(names, tensors, strict=True)]
    sizes: dict[str, int] = {}
    for name, x, found in zip(names, tensors, labels, strict=True):
        for axis, (label, size) in enumerate(zip(found, x.shape, strict=True)):
            if sizes.setdefault(label, size) == 1:
                sizes[label] = size
            if size not in (1, sizes[label]) or (found.count(label) > 1 and size != sizes[label]):
                expected = f"of size {sizes[label]} along {label!r}, as before"
                raise shape_error("einsum", f"term {name!r}", expected, f"{size} (axis {axis})")
    free = sorted((c for c in sizes if c.isdigit()), key=int, reverse=True)
    if arrow:
        wanted = _labels(result, len(result.replace("...", "")) + (len(free) if "..." in result else 0))
    else:
        wanted = free + sorted(c for c in sizes if c.isalpha() and sum(f.count(c) for f in labels) == 1)
    if len(set(wanted)) != len(wanted) or not set(wanted) <= sizes.keys():
        raise shape_error("einsum", f"result {result!r}", f"different letters of {given!r}", result)
    terms = [_diagonal(*_narrow(x, found, sizes)) for x, found in zip(tensors, labels, strict=True)]
    total = terms[0]
    for i, term in enumerate(terms[1:], start=2):
        total = _contract(total, term, {*wanted, *(c for _, later in terms[i:] for c in later)})
    x, found = _keep(*total, set(wanted))
    return transpose(x, [found.index(c) for c in wanted])


def _narrow(x: Tensor, labels: list[str], sizes: dict[str, int]) -> Term:
    """x without the axes of size 1 that go with a larger size elsewhere."""
    kept = [i for i, (label, n) in enumerate(zip(labels, x.shape, strict=True)) if n == sizes[label]]
    return reshape(x, [x.shape[i] for i in kept]), [labels[i] for i in kept]
