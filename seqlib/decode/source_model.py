"""How usual a source sentence is: an interpolated word-bigram model of the training sources.

Words that a fifth of the training sources does not know share one class per shape. The other four fifths show how often
and where such words come: where names are invented, new capitalised words are usual and new lower-case words are not.
Numbers are classes by their length.
"""

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from seqlib.util.errors import DataError

_WORD = re.compile(
    r"[぀-ヿ㐀-鿿豈-﫿฀-๿]"  # scripts without spaces: every character
    r"|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|[^\w\s]|_"
)
_EDGE = "\n"  # both ends of a sentence; no word is a line break
_CLASSES = ("\tlower", "\tCapital", "\tUPPER", "\tother", "\t1", "\t2", "\t3", "\t4+")
_WORD_CLASSES = 4  # the first ones; the others are numbers
_FIFTH = 5


def words(text: str) -> list[str]:
    """The words, numbers and marks of a sentence, in their own case."""
    return _WORD.findall(text)


def _word_class(word: str) -> str:
    if word[0].isdigit():
        return _CLASSES[3 + min(len(word), 4)]
    if word.islower():
        return _CLASSES[0]
    if word.isupper() and len(word) > 1:
        return _CLASSES[2]
    return _CLASSES[1] if word[0].isupper() else _CLASSES[3]


class SourceModel:
    """P(word | word before) = (c(v,w) + T(v) P(w)) / (c(v) + T(v)), T(v) the number of different words after v
    (Witten & Bell 1991, method C), over a vocabulary closed by the shape classes.

    Fields as stored: `vocabulary` list of K lower-case words and classes; `counts` int64 [K]; `followers` int64 [K];
    `pairs` int64 [P] sorted codes v·K + w and `pair_counts` int64 [P].
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        counts: np.ndarray,
        followers: np.ndarray,
        pairs: np.ndarray,
        pair_counts: np.ndarray,
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.counts = counts
        self.followers = followers
        self.pairs = pairs
        self.pair_counts = pair_counts
        self._ids = {word: index for index, word in enumerate(self.vocabulary)}
        self._unigram = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))

    @classmethod
    def fit(cls, texts: Iterable[str], *, max_words: int = 50_000, max_pairs: int = 250_000) -> "SourceModel":
        """Count words and pairs of the training sources; the most frequent `max_words` and `max_pairs` are kept.

        Raises DataError when there is no word at all.
        """
        sentences = [words(text) for text in texts]
        counts = Counter(word.lower() for sentence in sentences[::_FIFTH] for word in sentence if not word[0].isdigit())
        if not counts:
            raise DataError("confidence: the training sources hold no words")
        vocabulary = [_EDGE, *_CLASSES, *(word for word, _ in counts.most_common(max_words))]
        ids = {word: index for index, word in enumerate(vocabulary)}
        size = len(vocabulary)
        stream = np.concatenate([_encode(sentence, ids) for sentence in sentences if sentence])
        before, after = stream[:-1], stream[1:]
        inside = ~((before == 0) & (after == 0))  # one sentence's end, the next one's start
        codes, pair_counts = np.unique(before[inside] * size + after[inside], return_counts=True)
        history = np.bincount(before[inside], minlength=size)
        followers = np.bincount(codes // size, minlength=size)
        if len(codes) > max_pairs:
            top = np.sort(np.argsort(-pair_counts, kind="stable")[:max_pairs])
            codes, pair_counts = codes[top], pair_counts[top]
        return cls(vocabulary, history, followers, codes, pair_counts)

    def surprise(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """-log P of each word of `text` and of its end, in nats, float64 [words + 1], and which are unknown, bool.

        No word surprises more, in its place or as the word before, than an unknown word of its shape would: a name
        that training happened to repeat is as usual as one that it never saw.
        """
        sentence = words(text)
        known = _encode(sentence, self._ids)
        shapes = np.array([0, *(self._ids[_word_class(word)] for word in sentence), 0])
        pairs = [(v[:-1], w[1:]) for v in (known, shapes) for w in (known, shapes)]
        surprise = np.min([self._surprise(before, after) for before, after in pairs], axis=0)
        return surprise, ((known == shapes) & (shapes > 0) & (shapes <= _WORD_CLASSES))[1:]

    def _surprise(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        codes = before * len(self.vocabulary) + after
        at = np.minimum(np.searchsorted(self.pairs, codes), len(self.pairs) - 1)
        seen = np.where(self.pairs[at] == codes, self.pair_counts[at], 0)
        spread = np.maximum(self.followers[before], 1)
        return -np.log((seen + spread * self._unigram[after]) / (self.counts[before] + spread))

    def to_bytes(self) -> bytes:
        """A compressed .npz of the fields; the words are UTF-8 lines."""
        out = io.BytesIO()
        np.savez_compressed(
            out,
            vocabulary=np.frombuffer("\0".join(self.vocabulary).encode(), np.uint8),
            counts=self.counts.astype(np.int64),
            followers=self.followers.astype(np.int32),
            pairs=np.diff(self.pairs, prepend=0).astype(np.int64),
            pair_counts=self.pair_counts.astype(np.int32),
        )
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "source model") -> "SourceModel":
        """What `to_bytes` wrote. Raises DataError naming `where` when it is damaged."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(
                    arrays["vocabulary"].tobytes().decode().split("\0"),
                    arrays["counts"].astype(np.int64),
                    arrays["followers"].astype(np.int64),
                    np.cumsum(arrays["pairs"]),
                    arrays["pair_counts"].astype(np.int64),
                )
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{where}: is damaged: {error}") from error


def _encode(sentence: list[str], ids: dict[str, int]) -> np.ndarray:
    """Ids with the edge on both sides, int64 [words + 2]."""
    out = [0]
    for word in sentence:
        found = None if word[0].isdigit() else ids.get(word.lower())
        out.append(ids[_word_class(word)] if found is None else found)
    out.append(0)
    return np.array(out, np.int64)
