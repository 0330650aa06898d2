"""The decoding engine: one batch of source token ids, or of prompts, in; hypotheses out.

A batch is padded to a ladder of sizes, so that few programs are compiled. While it runs, sentences that are done leave
at the next ladder step and the cache grows along its own ladder.
B sentences, K beams, R = B·K rows, S source time, P prefilled tokens of a prompt.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.decode import device_search
from seqlib.decode.constraints import Constraints
from seqlib.decode.penalty import table
from seqlib.decode.programs import CausalModel, IncrementalModel, Place, Programs, Size, shrunk
from seqlib.decode.sampling import Sampling, sentence_keys
from seqlib.decode.search import Hypothesis, Rules, Search, start
from seqlib.util.errors import UsageError

if TYPE_CHECKING:
    from seqlib.problems.spec import ProblemSpec

_EXTRA_LENGTH = 50  # Tensor2Tensor's default: an output may be this much longer than its source


_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _after_fork() -> None:
    """Free the engines that threads of the parent had: they do not go on in a child."""
    for engine in _engines:
        if engine._holder != threading.get_ident():
            engine._lock, engine._holder = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Engine:
    """Decodes batches with one model; `spec` has the special ids. Calls from several threads take turns."""

    def __init__(self, model: IncrementalModel | CausalModel, spec: "ProblemSpec") -> None:
        self.model = model
        self.spec = spec
        self.programs = Programs(model)
        self.steps = 0
        """Decoding steps run so far, over all batches."""
        self.search_on_device: bool | None = None
        """Whether the search itself runs as a part of the model's program; None: where that is a GPU's."""
        self._lock = threading.Lock()
        self._holder: int | None = None
        _engines.add(self)

    @property
    def longest_source(self) -> int:
        """The most source tokens a sentence may have, the end token not counted."""
        return self.programs.longest - 1

    def limits(
        self, lengths: Sequence[int], max_length: int | None, prefixes: Sequence[Sequence[int]] = ()
    ) -> np.ndarray:
        """The most tokens each output may have, end token counted, int64 [B]: `max_length`, or the longer of source and
        prefix + 50; never more than the model's positions."""
        if max_length is not None and max_length < 1:
            raise UsageError(f"max_length: expected at least 1, got {max_length}")
        longest = np.array(lengths, np.int64)
        if len(prefixes) == len(lengths):
            longest = np.maximum(longest, [len(prefix) for prefix in prefixes])
        wanted = longest + _EXTRA_LENGTH if max_length is None else np.full(len(longest), max_length)
        return np.minimum(wanted, self.programs.longest)

    def cache_bytes(
        self, lengths: Sequence[int], beam: int, outputs: Sequence[int] | None = None, batch_rows: int = 32
    ) -> tuple[int, int]:
        """Bytes of the caches, and their number, that translating sources of so many tokens comes to, `batch_rows`
        together.

        `outputs` are the tokens of their translations; None: as many as they may have at most.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        sizes: set[Size] = set()
        for begin in range(0, len(order), batch_rows):
            members = order[begin : begin + batch_rows]
            batch = [min(int(lengths[i]), self.longest_source) for i in members]
            limit, width = int(self.limits(batch, None).max()), max(batch) + 1
            if outputs is not None:
                limit = min(limit, 1 + max(int(outputs[i]) for i in members))
            length = 0
            while length < limit:
                size = self.programs.size(len(batch), beam, width, max(length + 1, min(width, limit)))
                sizes.add(size)
                length = size.length
        return self.programs.cache_bytes(sizes), len(sizes)

    def decode(
        self,
        sources: Sequence[Sequence[int]],
        *,
        beam: int,
        n_best: int = 1,
        penalty: str = "gnmt",
        alpha: float = 0.6,
        max_length: int | None = None,
        early_stop: bool = True,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
        banned: Sequence[Sequence[int]] = (),
        prefixes: Sequence[Sequence[int]] = (),
        sampling: Sampling | None = None,
    ) -> list[list[Hypothesis]]:
        """The n best hypotheses of every source (token ids without special ones, at most `longest_source` of them).

        `min_length`, `no_repeat_ngram`, `banned` and `prefixes` as in `Constraints`. With `sampling` the `n_best`
        hypotheses are drawn instead, each for itself, and `beam` counts for nothing.
        Raises UsageError for beam < 1, n_best outside 1 … beam, an unknown penalty, a source that is too long, or
        constraints that can't be met.
        """
        constraints = Constraints(min_length, no_repeat_ngram, banned, prefixes)
        beam = n_best if sampling is not None else beam
        if beam < 1:
            raise UsageError(f"beam: expected at least 1, got {beam}")
        if not 1 <= n_best <= beam:
            raise UsageError(f"n_best: expected 1 to beam = {beam}, got {n_best}")
        if not sources:
            return []
        longest = max(map(len, sources))
        if longest > self.longest_source:
            raise UsageError(f"source of {longest} tokens: this model takes at most {self.longest_source}")
        limits = self.limits([len(source) for source in sources], max_length, prefixes)
        keys = None if sampling is None else sentence_keys(sources)
        how = {"beam": beam, "n_best": n_best, "early_stop": early_stop, "sampling": sampling, "keys": keys}
        search = self._search(limits, constraints, table(penalty, alpha, int(limits.max())), **how)
        with self._taken():
            place = self.programs.place(len(sources), beam, longest + 1, min(longest + 1, int(limits.max())))
            self._fill(place, sources)
            wanted = place.device == "cuda" if self.search_on_device is None else self.search_on_device
            if wanted and device_search.can_run(search, self.spec.target_vocab):
                self.steps += device_search.run(self.programs, place, search)
            else:
                for _ in self._run(search, place):
                    pass
        return search.results()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        beam: int = 1,
        n_best: int = 1,
        penalty: str = "gnmt",
        alpha: float = 0.0,
        min_length: int = 0,
        no_repeat_ngram: int = 0,
        banned: Sequence[Sequence[int]] = (),
        sampling: Sampling | None = None,
        keys: np.ndarray | None = None,
    ) -> Iterator[Search]:
        """Continue prompts (token ids, at least one each) that have one `prefill_length`, by at most `max_tokens` each.

        Yields the search after every step, so that a caller may read its `tokens` and `end` rows; afterwards its
        `results` begin with what `prefill_length` left of the prompts but for one token. Most options are as in
        `decode`; what stands in the prompt counts as said before. With `sampling` a prompt has one output, drawn by
        its number in `keys` uint64 [B]. Once a model's positions are full, a row of one beam goes on with the later
        half of them as its context; beams end there.
        """
        sampling_beam = 1 if sampling is not None else beam
        filled = prefill_length(len(prompts[0]))
        forced = [tuple(prompt[filled + 1 :]) for prompt in prompts]
        limits = np.array([len(rest) + max_tokens for rest in forced], np.int64)
        if max(map(len, prompts)) > self.programs.longest:
            raise UsageError(f"prompt of {max(map(len, prompts))} tokens: the model has {self.programs.longest} places")
        if sampling_beam > 1:
            limits = np.minimum(limits, self.programs.longest - filled)
        constraints = Constraints(min_length and min_length + max(map(len, forced)), no_repeat_ngram, banned, forced)
        context = np.array([prompt[: filled + 1] for prompt in prompts], np.int32)
        how = {"beam": sampling_beam, "n_best": n_best, "sampling": sampling, "keys": keys, "context": context}
        search = self._search(limits, constraints, table(penalty, alpha, int(limits.max())), **how)
        with self._taken():
            place = self._prefilled(search, filled)
            yield from self._run(search, place, filled)

    def _search(self, limits: np.ndarray, constraints: Constraints, penalties: np.ndarray, **how: Any) -> Search:
        """The search for outputs of at most `limits` tokens; `how` as in `Rules`."""
        eos = self.spec.eos_id
        constraints.check(len(limits), limits, self.spec.target_vocab, eos)
        rules = Rules(penalties=penalties, bos_id=self.spec.bos_id, eos_id=eos, constraints=constraints, **how)
        return start(limits, rules)

    @contextlib.contextmanager
    def _taken(self) -> Iterator[None]:
        """The engine is the caller's alone, its model evaluating. Raises UsageError where this thread has it."""
        if self._holder == threading.get_ident():
            raise UsageError("this model's stream is still open in this thread: read it to its end or close() it")
        mode = self.model.evaluating() if self.model.training else contextlib.nullcontext()
        with self._lock, mode:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    def _run(self, search: Search, place: Place, base: int = 0) -> Iterator[Search]:
        """Steps from position `base` on until all is done; the search after each."""
        beam = search.rules.beam
        parents = np.arange(place.size.sentences * beam, dtype=np.int32)
        while not search.done.all():
            if search.rules.context is not None and base + search.steps == self.programs.longest:
                base = self.programs.longest // 2 - search.steps
                place = self._prefilled(search, base + search.steps)
                parents = np.arange(place.size.sentences * beam, dtype=np.int32)
            place, parents = self._resize(place, search, parents, base + search.steps)
            rows = len(search.tokens)
            tokens = np.full(len(parents), search.rules.bos_id, np.int32)
            tokens[:rows] = search.tokens
            logits, normalizers = place.step(tokens, parents, base + search.steps)
            self.steps += 1
            chosen = search.advance(logits[:rows], normalizers[:rows])
            parents = np.arange(len(parents), dtype=np.int32)
            if chosen is not None:
                parents[:rows] = chosen
            yield search

    def _resize(self, place: Place, search: Search, parents: np.ndarray, position: int) -> tuple[Place, np.ndarray]:
        """Move to a smaller batch when enough sentences are done, to a longer cache when this one is full."""
        beam = search.rules.beam
        keep = np.flatnonzero(~search.done)
        sentences = shrunk(len(keep), place.size.sentences)
        if sentences == place.size.sentences:
            if position < place.size.length:
                return place, parents
            keep = np.arange(len(search.held))
        length = place.size.length if position < place.size.length else position + 1
        other = self.programs.place(sentences, beam, place.size.source, length)
        other.take_over(place, keep, parents, position)
        search.leave(keep)
        return other, np.arange(other.size.sentences * beam, dtype=np.int32)

    def _prefilled(self, search: Search, count: int) -> Place:
        """A place for the rows held in which the `count` tokens before the next one are cached."""
        assert search.history is not None
        beam, held = search.rules.beam, len(search.held)
        place = self.programs.place(held, beam, 0, min(count + 16, self.programs.longest))
        tokens = np.full((place.size.sentences, count), self.spec.eos_id, np.int32)
        end = search.history.shape[1] - 1
        tokens[:held] = search.history[::beam, end - count : end]
        place.fill(tokens)
        return place

    def _fill(self, place: Place, sources: Sequence[Sequence[int]]) -> None:
        """Encode the sources, each followed by the end token; rows that only fill the batch hold just that token."""
        src = np.full((place.size.sentences, place.size.source), self.spec.pad_id, np.int32)
        lengths = np.ones(place.size.sentences, np.int32)
        src[:, 0] = self.spec.eos_id
        for row, source in enumerate(sources):
            src[row, : len(source)] = source
            src[row, len(source)] = self.spec.eos_id
            lengths[row] = len(source) + 1
        place.fill(src, lengths)


def prefill_length(length: int) -> int:
    """How many tokens of a prompt of `length` are computed at once; the others are fed one by one.

    It depends on the prompt alone, so that a prompt has the same bits in any batch: of `length` - 1 the four highest
    bits, in multiples of 16.
    """
    grain = 1 << max(4, (length - 1).bit_length() - 4)
    return (length - 1) // grain * grain
