"""n-gram models of token ids, to hold language models against: interpolated Kneser-Ney, and single tokens.

N tokens of training text, V vocabulary. Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1999 with one
discount for each order, D = n₁ / (n₁ + 2 n₂).
"""

from typing import NamedTuple

import numpy as np


class _Order(NamedTuple):
    """The k-grams of an order: `codes` int64 [G] sorted, context number · V + token; their `counts`, of raw text in the
    highest order, below it of different tokens before them; by context the `sums` of counts and the number of `kinds`
    of tokens that follow; the `discount`."""

    codes: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    kinds: np.ndarray
    discount: float


class KneserNey:
    """P_k(w | c) = max(count(c w) - D, 0) / count(c) + D kinds(c) / count(c) P_{k-1}(w | c'), down to P_0 = 1 / V; what
    follows a context that training does not have is that of the shorter one."""

    def __init__(self, stream: np.ndarray, vocabulary: int, order: int = 5) -> None:
        """Counts a `stream` of ids int [N] below `vocabulary` V, in memory of about 40 bytes a token and order."""
        self.vocabulary = vocabulary
        tokens = np.asarray(stream, np.int64)
        ends = np.zeros(len(tokens), np.int64)  # number of the (k-1)-gram that ends before a token
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        numbers: list[np.ndarray] = []
        for k in range(1, order + 1):
            codes, first, number, counts = np.unique(
                ends * vocabulary + tokens[k - 1 :], return_index=True, return_inverse=True, return_counts=True
            )
            found.append((codes, first, counts))
            numbers.append(number)
            ends = number[:-1]
        self.orders: list[_Order] = []
        for k, (codes, _, counts) in enumerate(found):
            if k + 1 < order:  # the (k+1)-grams that end as this k-gram does: each once
                suffixes = numbers[k][1:][found[k + 1][1]]
                counts = np.bincount(suffixes, minlength=len(codes))
            contexts = codes // vocabulary
            size = 1 if k == 0 else len(found[k - 1][0])
            sums = np.bincount(contexts, counts, size)
            once, twice = (int((counts == n).sum()) for n in (1, 2))
            discount = once / (once + 2 * twice) if once else 0.5
            self.orders.append(_Order(codes, counts, sums, np.bincount(contexts[counts > 0], minlength=size), discount))

    def log_probs(self, stream: np.ndarray) -> np.ndarray:
        """Of each token of `stream` int [M] given those before it, in nats, float64 [M]."""
        tokens = np.asarray(stream, np.int64)
        chances = np.full(len(tokens), 1.0 / self.vocabulary)
        contexts = np.zeros(len(tokens), np.int64)  # of the (k-1) tokens before each; -1: not in training
        for order in self.orders:
            codes = contexts * self.vocabulary + tokens
            at = np.minimum(np.searchsorted(order.codes, codes), len(order.codes) - 1)
            known = (order.codes[at] == codes) & (contexts >= 0)
            sums = np.where(contexts >= 0, order.sums[contexts], 0)
            count = np.where(known, order.counts[at], 0)
            spread = order.discount * order.kinds[contexts]
            here = (np.maximum(count - order.discount, 0) + spread * chances) / np.maximum(sums, 1)
            chances = np.where(sums > 0, here, chances)
            contexts = np.concatenate([[-1], np.where(known, at, -1)[:-1]])
        return np.log(chances)


def unigram_log_probs(train: np.ndarray, stream: np.ndarray, vocabulary: int) -> np.ndarray:
    """Of each token of `stream` int [M] by its count in `train` and one more, in nats, float64 [M]."""
    counts = np.bincount(np.asarray(train), minlength=vocabulary) + 1.0
    return np.log(counts / counts.sum())[np.asarray(stream)]
