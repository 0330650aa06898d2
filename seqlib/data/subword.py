"""Subword sampling: words cut into other pieces every time they are seen, so that a model learns more from few texts.

Unigram tokenizers (Kudo 2018): of all ways to cut a word one is drawn with a chance proportional to p ** alpha, where
p is the product of its pieces' probabilities. BPE tokenizers (BPE-dropout; Provilkov, Emelianenko and Voita 2020): a
word is merged from its characters, and at every step each possible merge is left out with probability p.

Pieces never cross a space, so words are drawn one by one, known by the ids of their best segmentation. SentencePiece
samples too, but from one generator for a thread: here a draw is a hash of (sequence, word, step), hence the same in
whatever batch or order a sentence comes. All words of a call go through one step together.
"""

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.data.tokenizer import SentencePieceTokenizer
from seqlib.data.vocabulary import FIRST_BYTE, Tokenizer
from seqlib.util.errors import UsageError

SAMPLED_KINDS = ("unigram", "bpe")
_SPACE = "▁"
_UNKNOWN_PENALTY = 10.0  # SentencePiece's: a character without a piece costs so much more than the rarest piece
_MOST_EDGES = 1 << 24  # of words that are kept in memory
_NOTHING = -1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def check_strength(kind: str, strength: float) -> None:
    """Raises UsageError for a tokenizer that has no subword sampling, and for a parameter out of its range."""
    if kind not in SAMPLED_KINDS:
        raise UsageError(f"subword sampling is for unigram and bpe tokenizers; {kind} knows only one way to cut a word")
    if not (0 < strength < math.inf if kind == "unigram" else 0 < strength < 1):
        wanted = "alpha above 0, such as 0.2" if kind == "unigram" else "a share of merges between 0 and 1, such as 0.1"
        raise UsageError(f"subword sampling of a {kind} tokenizer takes {wanted}; got {strength:g}")


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64 → uint64, the finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _uniform(states: np.ndarray, number: Any) -> np.ndarray:
    """float64 in [0, 1): draw `number` of each of the uint64 `states`."""
    step = np.atleast_1d(np.asarray(number, np.uint64)) + np.uint64(1)
    return (mixed(states + step * _GOLDEN) >> np.uint64(11)) * 2.0**-53


class Drawn(NamedTuple):
    """Pieces of words one after another: ids int32, and how many each word has, int64."""

    ids: np.ndarray
    counts: np.ndarray


class SubwordSampler:
    """Draws other segmentations of token ids. ``strength``: alpha of a unigram tokenizer, the share of merges that are
    left out of a BPE one. Raises UsageError as ``check_strength``, and for pieces that cross a space.

    What is drawn depends on the ids and the key alone; words that came before only save time. May be called from
    several threads.
    """

    def __init__(self, tokenizer: Tokenizer, strength: float) -> None:
        check_strength(tokenizer.kind, strength)
        if not isinstance(tokenizer, SentencePieceTokenizer):
            raise UsageError(f"subword sampling needs a SentencePiece model; got a {type(tokenizer).__name__}")
        self._kind = _Unigram if tokenizer.kind == "unigram" else _BPE
        self._vocabulary, self._strength = _Vocabulary(tokenizer), strength
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._words = self._kind(self._vocabulary, self._strength)
        # sorted, of the words that are known; the last stands for none
        self._hashes = np.full(1, np.iinfo(np.uint64).max)
        self._order = np.full(1, -1)  # their numbers

    def sample(self, ids: np.ndarray, lengths: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Other ids int32 and lengths int64 of sequences that lie in ``ids`` [n] one after another.

        ``lengths`` int [k]; ``keys`` uint64 [k]: a sequence with the same key is always cut the same way.
        """
        if not len(ids):
            return np.zeros(0, np.int32), np.zeros(len(lengths), np.int64)
        ends = np.cumsum(lengths)
        firsts = ends - lengths
        begins = self._vocabulary.begins[ids]
        begins[firsts[lengths > 0]] = True
        at = np.flatnonzero(begins)
        bounds = np.searchsorted(at, np.append(firsts, len(ids)))  # words of a sequence
        words = np.diff(bounds)
        place = np.arange(len(at), dtype=np.uint64) - np.repeat(bounds[:-1].astype(np.uint64), words)
        states = mixed(np.repeat(keys, words) + place * _GOLDEN)
        sizes = np.diff(np.append(at, len(ids)))
        with self._lock:
            numbers = self._numbers(ids, at, sizes)
            drawn = self._words.draw(numbers, states)
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(drawn.counts)])
        return drawn.ids, np.diff(total[bounds])

    def _numbers(self, ids: np.ndarray, at: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The numbers of words, those that are new taken in."""
        hashes = np.zeros(len(at), np.uint64)
        longer, step = np.arange(len(at)), 0
        while len(longer):
            hashes[longer] = mixed(hashes[longer] + (ids[at[longer] + step].astype(np.uint64) + np.uint64(1)) * _GOLDEN)
            step += 1
            longer = longer[sizes[longer] > step]
        place = np.searchsorted(self._hashes, hashes)
        new = np.flatnonzero(self._hashes[place] != hashes)
        if len(new):
            if self._words.size > _MOST_EDGES:
                self._forget()
                new = np.arange(len(at))
            found, first = np.unique(hashes[new], return_index=True)
            spans = zip(at[new[first]].tolist(), sizes[new[first]].tolist(), strict=True)
            tokens = [tuple(ids[start : start + size].tolist()) for start, size in spans]
            self._words.add([(self._vocabulary.text(word), word) for word in tokens])
            where = np.searchsorted(self._hashes, found)
            self._order = np.insert(self._order, where, np.arange(len(found)) + len(self._hashes) - 1)
            self._hashes = np.insert(self._hashes, where, found)
            place = np.searchsorted(self._hashes, hashes)
        return self._order[place]


class _Vocabulary:
    """The pieces of a SentencePiece tokenizer."""

    def __init__(self, tokenizer: SentencePieceTokenizer) -> None:
        texts = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
        self.begins = np.array([text.startswith(_SPACE) for text in texts])
        plain = range(FIRST_BYTE + 256, len(texts))
        if crossing := [texts[n] for n in plain if _SPACE in texts[n][1:]]:
            raise UsageError(f"subword sampling needs pieces that lie within words; the tokenizer has {crossing[0]!r}")
        self.ids = {texts[n]: n for n in plain}
        self.scores = {texts[n]: tokenizer.score(n) for n in plain}
        self.longest = max(map(len, self.ids), default=0)
        self.size = len(texts)
        self._bytes = [b"", b"", b"", b"", *(bytes([n]) for n in range(256)), *(texts[n].encode() for n in plain)]

    def text(self, ids: tuple[int, ...]) -> str:
        """The text of a word; empty for special ids and bytes that are no character, which cannot be cut anew."""
        if min(ids) < FIRST_BYTE:
            return ""
        try:
            return b"".join(self._bytes[token] for token in ids).decode()
        except UnicodeDecodeError:
            return ""

    @staticmethod
    def spelt(character: str) -> list[int]:
        """The byte ids of a character without a piece."""
        return [FIRST_BYTE + byte for byte in character.encode()]


class _Unigram:
    """Lattices of words. A node is a place in a word, its edges lead back to where the piece that ends there begins,
    with the chance of that piece given all that come behind it: a walk from the end of a word to its beginning draws
    a segmentation.
    """

    def __init__(self, vocabulary: _Vocabulary, alpha: float) -> None:
        scores = vocabulary.scores
        self._vocabulary = vocabulary
        self._unknown = alpha * (min(scores.values(), default=0.0) - _UNKNOWN_PENALTY)
        self._pieces = {text: (n, alpha * scores[text]) for text, n in vocabulary.ids.items()}
        self._last = np.zeros(0, np.int64)  # [words] the node at the end of each
        self._first = np.zeros(1, np.int64)  # [nodes + 1] the first edge of each
        self._piece = np.zeros(0, np.int32)  # [edges]
        self._from = np.zeros(0, np.int64)  # [edges] the node that it leads to, -1 for the beginning of the word
        self._until = np.zeros(0)  # [edges] its node's number plus the chances of the node's edges up to this one

    @property
    def size(self) -> int:
        """Edges that are kept."""
        return len(self._piece)

    def add(self, words: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        """Takes words in, numbered from 0: their text and ids; an empty text for one that has to stay as it is."""
        nodes, last = len(self._first) - 1, []
        first, piece, origin, until = [self.size], [], [], []
        for text, ids in words:
            base, number = nodes - 1, nodes
            for edges in self._lattice(text) if text else [[(n, token, 1.0)] for n, token in enumerate(ids)]:
                total = 0.0
                for place, token, chance in edges:
                    total += chance
                    piece.append(token)
                    origin.append(base + place if place else -1)
                    until.append(number + total)
                first.append(self.size + len(piece))
                number += 1
            nodes = number
            last.append(number - 1)
        self._last = np.append(self._last, np.array(last, np.int64))
        self._first = np.append(self._first[:-1], np.array(first, np.int64))
        self._piece = np.append(self._piece, np.array(piece, np.int32))
        self._from = np.append(self._from, np.array(origin, np.int64))
        self._until = np.append(self._until, np.array(until))

    def _lattice(self, text: str) -> list[list[tuple[int, int, float]]]:
        """The edges (node, piece, chance) into nodes 1, 2, …; node 0 is the beginning of the word."""
        pieces, longest = self._pieces, self._vocabulary.longest
        logs, node_of = [0.0], [0]  # of each place: the log of the sum over all ways to it, and its node
        nodes: list[list[tuple[int, int, float]]] = []
        for end in range(1, len(text) + 1):
            found: list[tuple[int, int, float]] = []
            for start in range(max(0, end - longest), end):
                if (piece := pieces.get(text[start:end])) is not None:
                    found.append((node_of[start], piece[0], logs[start] + piece[1]))
            if text[end - 1] not in pieces:  # its bytes, with nodes between them
                at, spelt = node_of[end - 1], self._vocabulary.spelt(text[end - 1])
                for byte in spelt[:-1]:
                    nodes.append([(at, byte, 1.0)])
                    at = len(nodes)
                found.append((at, spelt[-1], logs[end - 1] + self._unknown))
            top = max(log for _, _, log in found)
            logs.append(top + math.log(sum(math.exp(log - top) for _, _, log in found)))
            found.sort(key=lambda edge: -edge[2])  # the likely ones first
            nodes.append([(place, token, math.exp(log - logs[-1])) for place, token, log in found])
            node_of.append(len(nodes))
        return nodes

    def draw(self, words: np.ndarray, states: np.ndarray) -> Drawn:
        """One way to cut each of the words with these numbers, by states uint64."""
        node, active = self._last[words], np.arange(len(words))
        counts = np.zeros(len(words), np.int64)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        while len(active):
            goal, edge = node + _uniform(states[active], len(found)), self._first[node]
            beyond = np.flatnonzero(self._until[edge] <= goal)
            while len(beyond):
                edge[beyond] += 1
                beyond = beyond[self._until[np.minimum(edge[beyond], self.size - 1)] <= goal[beyond]]
                beyond = beyond[edge[beyond] < self.size]
            edge = np.minimum(edge, self._first[node + 1] - 1)  # chances round
            found.append((active, self._piece[edge]))
            counts[active] += 1
            origin = self._from[edge]
            inside = origin >= 0
            node, active = origin[inside], active[inside]
        ends = np.cumsum(counts)
        ids = np.empty(int(ends[-1]) if len(ends) else 0, np.int32)
        for step, (which, pieces) in enumerate(found):  # the last piece of a word was drawn first
            ids[ends[which] - 1 - step] = pieces
        return Drawn(ids, counts)


class _BPE:
    """Characters of words, and merges. A symbol is a piece's id, or from the size of the vocabulary on a run of ids
    that nothing merges with: a character without a piece, or a word that cannot be cut anew.
    """

    def __init__(self, vocabulary: _Vocabulary, dropout: float) -> None:
        self._vocabulary, self._dropout = vocabulary, dropout
        self._runs: dict[tuple[int, ...], int] = {}
        ids, scores = vocabulary.ids, vocabulary.scores
        ranks = {score: rank for rank, score in enumerate(sorted(set(scores.values()), reverse=True))}
        merges = sorted(
            (ids[text[:cut]] << 32 | ids[text[cut:]], ranks[scores[text]], n)
            for text, n in ids.items()
            for cut in range(1, len(text))
            if text[:cut] in ids and text[cut:] in ids
        )
        merges.append((np.iinfo(np.int64).max, len(ranks), 0))
        self._pairs, self._ranks, self._merged = (np.array(column, np.int64) for column in zip(*merges, strict=True))
        self._never = len(ranks)  # the rank of what does not merge
        self._symbols = np.zeros(0, np.int64)
        self._first = np.zeros(1, np.int64)  # [words + 1] the first symbol of each

    @property
    def size(self) -> int:
        """Symbols that are kept."""
        return len(self._symbols)

    def add(self, words: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        """As ``_Unigram.add``."""
        symbols: list[int] = []
        first = [self.size]
        for text, ids in words:
            symbols += (self._symbol(character) for character in text) if text else [self._run(ids)]
            first.append(self.size + len(symbols))
        self._first = np.append(self._first[:-1], np.array(first, np.int64))
        self._symbols = np.append(self._symbols, np.array(symbols, np.int64))

    def _symbol(self, character: str) -> int:
        n = self._vocabulary.ids.get(character)
        return self._run(tuple(self._vocabulary.spelt(character))) if n is None else n

    def _run(self, ids: tuple[int, ...]) -> int:
        return self._runs.setdefault(ids, self._vocabulary.size + len(self._runs))

    def draw(self, words: np.ndarray, states: np.ndarray) -> Drawn:
        """As ``_Unigram.draw``."""
        sizes = self._first[words + 1] - self._first[words]
        counts = np.zeros(len(words), np.int64)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        widths = 1 << np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)  # words of like size go together
        for width in np.unique(widths).tolist():
            rows = np.flatnonzero(widths == width)
            columns = np.arange(width)
            places = self._first[words[rows], None] + columns
            symbols = self._symbols[np.minimum(places, self.size - 1)]
            symbols[columns >= sizes[rows, None]] = _NOTHING
            found += self._merge(rows, symbols, states[rows])
        for which, pieces in found:
            counts[which] = (pieces >= 0).sum(1)
        ends = np.cumsum(counts)
        symbols = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
        for which, pieces in found:
            inside = pieces >= 0
            symbols[((ends - counts)[which, None] + np.arange(pieces.shape[1]))[inside]] = pieces[inside]
        return self._spelt(symbols, counts)

    def _merge(self, rows: np.ndarray, symbols: np.ndarray, states: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Words ``rows`` [k] of ``symbols`` [k, n], -1 behind the last, as (rows [j], pieces [j, m])."""
        rank, merged = self._lookup(symbols[:, :-1], symbols[:, 1:])
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for step in range(symbols.shape[1] - 1):
            size = symbols.shape[1] - 1
            kept = _uniform(states[:, None], (step << 32) + np.arange(size)) >= self._dropout
            ranks = np.where(kept, rank, self._never)
            best = np.argmin(ranks, axis=1)
            goes_on = ranks[np.arange(len(rows)), best] < self._never
            found.append((rows[~goes_on], symbols[~goes_on]))
            rows, symbols, states, best = rows[goes_on], symbols[goes_on], states[goes_on], best[goes_on]
            if not len(rows):
                return found
            rank, merged = rank[goes_on], merged[goes_on]
            here = np.arange(len(rows))
            joined = merged[here, best]
            symbols = np.take_along_axis(symbols, _skipping(size, best + 1), axis=1)
            symbols[here, best] = joined
            rank, merged = (np.take_along_axis(x, _skipping(size - 1, best), axis=1) for x in (rank, merged))
            for left in (best - 1, best):  # the pairs on both sides of what was joined are new
                inside = (left >= 0) & (left < size - 1)
                at, one = here[inside], left[inside]
                rank[at, one], merged[at, one] = self._lookup(symbols[at, one], symbols[at, one + 1])
        return [*found, (rows, symbols)]

    def _lookup(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ranks of the merges of pairs, and what they give."""
        pairs = left << 32 | right
        place = np.searchsorted(self._pairs, pairs)
        return np.where(self._pairs[place] == pairs, self._ranks[place], self._never), self._merged[place]

    def _spelt(self, symbols: np.ndarray, counts: np.ndarray) -> Drawn:
        """Pieces of symbols, runs of ids written out."""
        if not (symbols >= self._vocabulary.size).any():
            return Drawn(symbols.astype(np.int32), counts)
        runs = [(n,) for n in range(self._vocabulary.size)] + list(self._runs)
        sizes = np.fromiter(map(len, runs), np.int64, len(runs))
        flat = np.fromiter((token for run in runs for token in run), np.int32, int(sizes.sum()))
        firsts, widths = np.cumsum(sizes) - sizes, sizes[symbols]
        ends = np.cumsum(widths)
        places = np.repeat(firsts[symbols] - (ends - widths), widths) + np.arange(int(ends[-1]))
        bounds = np.concatenate([np.zeros(1, np.int64), ends])[np.append(0, np.cumsum(counts))]
        return Drawn(flat[places], np.diff(bounds))


def _skipping(size: int, skipped: np.ndarray) -> np.ndarray:
    """int64 [k, size]: 0, 1, … without the number ``skipped`` [k] of each row."""
    columns = np.arange(size)
    return columns + (columns >= skipped[:, None])
