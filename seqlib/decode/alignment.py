"""Which source word an output word comes from, by the model's attention.

T output tokens (the end token not counted), S source tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqlib.core.tape import no_grad
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError

Links = tuple[tuple[int, int], ...]
"""(source place, output place), both from 0, in the order of the output."""


def attention_of(model: Any, spec: ProblemSpec, source: Sequence[int], output: Sequence[int]) -> np.ndarray:
    """float32 [T,S]: how much the model looks at each source token when it predicts an output token, both given as
    ids without special ones. Raises UsageError for a model without `cross_attention`."""
    if not hasattr(model, "cross_attention"):
        raise UsageError(f"alignment: {type(model).__name__} has no cross_attention to align by")
    src = np.array([[*source, spec.eos_id]], np.int32)
    target = np.array([[spec.bos_id, *output[:-1]]], np.int32)
    with no_grad():
        weights = model.cross_attention(src, np.array([src.shape[1]], np.int32), target)
    return weights.numpy()[0, : len(output), : len(source)]


def token_links(weights: np.ndarray) -> Links:
    """For each output token the source token it looks at most (of equals the first)."""
    return tuple((int(i), j) for j, i in enumerate(weights.argmax(axis=1))) if weights.size else ()


def word_links(
    weights: np.ndarray, source: Sequence[int], output: Sequence[int], decode: Callable[[Sequence[int]], str]
) -> Links:
    """For each output word the source word that its tokens look at most; words are what spaces part."""
    rows, columns = words(output, decode), words(source, decode)
    if not weights.size:
        return ()
    sums = np.zeros((max(rows) + 1, max(columns) + 1))
    np.add.at(sums, (np.array(rows)[:, None], np.array(columns)), weights)
    return token_links(sums)


def words(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """The number of the word that each token belongs to."""
    return [max(0, len(decode(list(tokens[: i + 1])).split()) - 1) for i in range(len(tokens))]


def pharaoh(links: Links) -> str:
    """Links as text: `0-0 1-2`, source place first."""
    return " ".join(f"{i}-{j}" for i, j in links)
