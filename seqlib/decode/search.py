"""Greedy and beam search: the bookkeeping on the host, free of models and caches.

A search is fed the logits of one step for every row and answers with the rows' parents and next tokens. Histories are
back-pointers, so a step costs no copying of prefixes, and sentences may leave at any step.

B sentences of the batch, A sentences still held as rows, K beams, R = A*K rows, V vocabulary, T steps so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seqlib.decode.constraints import Constraints
from seqlib.decode.sampling import Sampling
from seqlib.util.errors import SeqlibError

_NEVER = np.float32(-np.inf)
_FREE = Constraints()
_KEPT = np.dtype([("score", "f4"), ("sum", "f4"), ("last", "f4"), ("length", "i8"), ("beam", "i8"), ("by_eos", "?")])
"""A hypothesis of the n best: `last` is the log-probability of its end token, if it ended `by_eos`, and `beam` the live
one that it extends, at the step of its last other token."""
_STATE = ("score", "sum", "last"), ("length", "beam", "by_eos")


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation: token ids without the end token, and how it was scored.

    `log_prob` is the float32 sum over `token_log_probs` (the end token's included when stop_reason is "eos");
    `score` is log_prob divided by the length penalty of the number of generated tokens, the end token counted.
    """

    tokens: tuple[int, ...]
    token_log_probs: np.ndarray
    log_prob: float
    score: float
    stop_reason: str


@dataclass(frozen=True)
class Rules:
    """What a search obeys. `penalties` is a table of divisors by length, float32 [longest + 1] (see penalty.table).

    With `sampling`, `beam` counts the samples of a sentence, and `keys` uint64 [B] are the sentences' numbers.
    `context` int [B, C] are tokens that stand before the outputs; the last is what a row feeds first (None: bos). The
    rows' whole histories are kept then.
    """

    beam: int
    n_best: int
    penalties: np.ndarray
    bos_id: int
    eos_id: int
    early_stop: bool = True
    constraints: Constraints = _FREE
    sampling: Sampling | None = None
    keys: np.ndarray | None = None
    context: np.ndarray | None = None


class Search:
    """State shared by greedy and beam search over a batch of B sentences.

    `limits` int [B] is the largest number of generated tokens a sentence may have, the end token counted.
    `tokens` int32 [R] is what each row feeds next; rows are grouped by sentence, beams inside. `held` int64 [A] names
    the sentences whose rows are present, `done` bool [A] those of them whose answer is settled.
    """

    def __init__(self, limits: np.ndarray, rules: Rules) -> None:
        limits = np.asarray(limits, np.int64)
        if limits.ndim != 1 or (limits < 1).any():
            raise ValueError("limits: expected a vector of lengths of at least 1")
        count, beam, longest = len(limits), rules.beam, int(limits.max(initial=1))
        if len(rules.penalties) <= longest:
            raise ValueError(f"penalties: expected at least {longest + 1} entries, got {len(rules.penalties)}")
        self.rules = rules
        self.limits = limits
        self.steps = 0
        self.held = np.arange(count)
        self.done = np.zeros(count, bool)
        self.tokens = np.full(count * beam, rules.bos_id, np.int32)
        self.live = np.full((count, beam), _NEVER)
        self.live[:, 0] = 0.0
        self.history: np.ndarray | None = None
        """int32 [R, C + steps], the context and the tokens of each row, where constraints or a caller look at them."""
        if rules.context is not None:
            self.history = np.repeat(rules.context.astype(np.int32), beam, axis=0)
            self.tokens = self.history[:, -1]
        elif rules.constraints.active:
            self.history = np.zeros((count * beam, 0), np.int32)
        # Step t of sentence b, beam k: the token, its log-probability and the beam at t - 1 that it extends.
        self._tokens = np.zeros((longest, count, beam), np.int32)
        self._log_probs = np.zeros((longest, count, beam), np.float32)
        self._parents = np.zeros((longest, count, beam), np.int64)
        self._kept = np.zeros((count, rules.n_best), _KEPT)
        self._kept["score"] = self._kept["sum"] = _NEVER
        self._fault = np.zeros(count, np.int32)

    def advance(self, logits: np.ndarray, normalizers: np.ndarray) -> np.ndarray | None:
        """Take one step: logits float32 [R, V], normalizers float32 [R] = logsumexp of each row. Constraints write -inf
        into logits.

        Returns the parent row of each row, int64 [R], by which caches must be reordered before the next step, or
        None when every row continues itself. Raises SeqlibError when a row's logits are not finite numbers.
        """
        if not np.isfinite(normalizers).all():
            row = int(np.flatnonzero(~np.isfinite(normalizers))[0])
            raise not_finite(self.steps + 1, int(self.held[row // self.rules.beam]))
        if self.history is not None and self.rules.constraints.active:
            sentences = np.repeat(self.held, self.rules.beam)
            given = self.history.shape[1] - self.steps
            self.rules.constraints.apply(logits, self.history, sentences, self.rules.eos_id, given)
        parents = self._extend(logits, normalizers)
        if self.history is not None:
            before = self.history if parents is None else self.history[parents]
            self.history = np.concatenate([before, self.tokens[:, None]], axis=1)
        self.steps += 1
        self._settle()
        return parents

    def _extend(self, logits: np.ndarray, normalizers: np.ndarray) -> np.ndarray | None:
        from seqlib.core.ops.sort_numpy import top_k_rows

        values, columns = top_k_rows(logits, min(candidates(self.rules.beam), logits.shape[1]))
        return self._choose(values, columns, normalizers)

    def _choose(self, values: np.ndarray, columns: np.ndarray, normalizers: np.ndarray) -> np.ndarray | None:
        """`_extend` by the best `candidates` of each row, best first."""
        raise NotImplementedError

    def _ends(self, tokens: np.ndarray) -> np.ndarray:
        """Which of this step's tokens [L,K] of the sentences held end them; what a prefix has does not."""
        forced = [self.rules.constraints.forces(sentence, self.steps) for sentence in self.held.tolist()]
        return (tokens == self.rules.eos_id) & ~np.array(forced, bool)[:, None]

    def end(self, positions: np.ndarray) -> None:
        """End the sentences at these `positions` (int [a]) of `held` where they stand, each of one beam."""
        self._keep(positions, self.live[positions], np.zeros((len(positions), 1), np.int64), None, self.steps)
        self.done[positions] = True

    # -- the same step by step, with the state given and taken: what `decode.advance` does on a GPU

    def state(self) -> dict[str, np.ndarray]:
        """What a step changes beside the record of its choices, of a batch that nobody left.

        `live` float32 [B,K]; of the N hypotheses kept `best` float32 [B,N,3] (score, sum, log-probability of the end
        token) and `places` int32 [B,N,3] (length, beam, ended by the end token); `flags` int32 [B,2] (done, the first
        step with logits that are not finite).
        """
        best, places = (np.stack([self._kept[name] for name in names], axis=2) for names in _STATE)
        flags = np.stack([self.done, self._fault], axis=1).astype(np.int32)
        return {"live": self.live, "best": best, "places": places.astype(np.int32), "flags": flags}

    def restore(self, state: Mapping[str, np.ndarray], steps: int) -> None:
        """Go on from a `state` after so many steps."""
        self.live, self.steps = state["live"].copy(), steps
        for names, values in zip(_STATE, (state["best"], state["places"]), strict=True):
            for i, name in enumerate(names):
                self._kept[name] = values[:, :, i]
        self.done, self._fault = state["flags"][:, 0].astype(bool), state["flags"][:, 1].copy()

    def follow(self, values: np.ndarray, columns: np.ndarray, normalizers: np.ndarray) -> np.ndarray | None:
        """`advance` by the best `candidates` of each row; logits that are not finite are noted, not raised."""
        broken = ~np.isfinite(normalizers).reshape(len(self.done), -1).all(axis=1)
        self._fault[broken & ~self.done & (self._fault == 0)] = self.steps + 1
        parents = self._choose(values, columns, normalizers)
        self.steps += 1
        self._settle()
        return parents

    def recall(self, tokens: np.ndarray, log_probs: np.ndarray, parents: np.ndarray) -> None:
        """Set the record of choices, each [steps, B, K]. Raises SeqlibError where logits were not finite."""
        if self._fault.any():
            sentence = int(np.flatnonzero(self._fault)[0])
            raise not_finite(int(self._fault[sentence]), sentence)
        done = slice(self.steps)
        self._tokens[done], self._log_probs[done], self._parents[done] = tokens, log_probs, parents

    def leave(self, keep: np.ndarray) -> None:
        """Hold only the sentences at the positions `keep` of `held`; the others' results stay."""
        self.held = self.held[keep]
        self.done = self.done[keep]
        self.live = self.live[keep]
        rows = (keep[:, None] * self.rules.beam + np.arange(self.rules.beam)).reshape(-1)
        self.tokens = self.tokens[rows]
        if self.history is not None:
            self.history = self.history[rows]

    def _record(self, tokens: np.ndarray, log_probs: np.ndarray, parents: np.ndarray) -> None:
        """Append one step; all arguments [A, K]."""
        self._tokens[self.steps, self.held] = tokens
        self._log_probs[self.steps, self.held] = log_probs
        self._parents[self.steps, self.held] = parents
        self.tokens = tokens.astype(np.int32).reshape(-1)

    def _keep(self, who: np.ndarray, sums: np.ndarray, beams: np.ndarray, last: np.ndarray | None, length: int) -> None:
        """Offer hypotheses to the n-best lists: sums [a, c] (-inf = none) that end after `length` tokens.

        `beams` [a, c] is the live beam they extend: at step length - 1 with `last` [a, c] the log-probability of the
        end token, or at step length without it. Equal scores keep the earlier hypothesis, then the lower beam.
        Hypotheses without an end token only fill places that are free.
        """
        sentences = self.held[who]
        offered = np.zeros(sums.shape, _KEPT)
        offered["score"], offered["sum"] = sums / self.rules.penalties[length], sums
        offered["length"], offered["beam"], offered["by_eos"] = length, beams, last is not None
        offered["last"] = 0.0 if last is None else last
        kept = self._kept[sentences]
        pool = np.concatenate([kept, offered], axis=1)
        rank = np.concatenate([~np.isfinite(kept["score"]), ~offered["by_eos"]], axis=1)
        order = np.argsort(-pool["score"], axis=1, kind="stable")
        order = np.take_along_axis(order, np.argsort(np.take_along_axis(rank, order, 1), axis=1, kind="stable"), 1)
        self._kept[sentences] = np.take_along_axis(pool, order[:, : kept.shape[1]], axis=1)

    def _settle(self) -> None:
        """Close the sentences at their limit, and those whose n-best list no live hypothesis can enter any more.

        Log-probabilities are never positive and the penalty is monotone, so a live sum s at length n can score at
        most s / max(penalty[n + 1], penalty[limit]). The bound is exact: nothing that it stops could have changed
        the list.
        """
        limits, penalties = self.limits[self.held], self.rules.penalties
        at_limit = ~self.done & (limits <= self.steps)
        if at_limit.any():
            who = np.flatnonzero(at_limit)
            beams = np.broadcast_to(np.arange(self.rules.beam), (len(who), self.rules.beam))
            self._keep(who, self.live[who], beams, None, self.steps)
            self.done |= at_limit
        best = self.live.max(axis=1)
        self.done |= best == _NEVER
        if self.rules.early_stop:
            following = np.minimum(self.steps + 1, limits)
            bound = best / np.maximum(penalties[following], penalties[limits])
            self.done |= bound <= self._kept["score"][self.held, -1]

    def results(self) -> list[list[Hypothesis]]:
        """For every sentence of the batch its hypotheses, best first (those ended by the end token before others)."""
        return [
            [self._hypothesis(sentence, place) for place in range(self.rules.n_best) if self._has(sentence, place)]
            for sentence in range(len(self.limits))
        ]

    def _has(self, sentence: int, place: int) -> bool:
        return bool(np.isfinite(self._kept["score"][sentence, place]))

    def _hypothesis(self, sentence: int, place: int) -> Hypothesis:
        kept = self._kept[sentence, place]
        by_eos, beam = bool(kept["by_eos"]), kept["beam"]
        count = int(kept["length"]) - by_eos
        tokens = np.zeros(count, np.int64)
        log_probs = np.zeros(count + by_eos, np.float32)
        if by_eos:
            log_probs[-1] = kept["last"]
        for step in reversed(range(count)):
            tokens[step] = self._tokens[step, sentence, beam]
            log_probs[step] = self._log_probs[step, sentence, beam]
            beam = self._parents[step, sentence, beam]
        reason = "eos" if by_eos else "length"
        return Hypothesis(tuple(tokens.tolist()), log_probs, float(kept["sum"]), float(kept["score"]), reason)


class GreedySearch(Search):
    """The most probable token at every step until the end token; equal logits go to the lower id."""

    def _choose(self, values: np.ndarray, columns: np.ndarray, normalizers: np.ndarray) -> None:
        best = columns[:, 0]
        log_probs = np.minimum(values[:, 0] - normalizers, np.float32(0.0))[:, None]
        sums = self.live + log_probs
        ended = self._ends(best[:, None])[:, 0] & ~self.done
        if ended.any():
            who = np.flatnonzero(ended)
            self._keep(who, sums[who], np.zeros((len(who), 1), np.int64), log_probs[who], self.steps + 1)
        self._record(best[:, None], log_probs, np.zeros((len(best), 1), np.int64))
        self.live = sums
        self.done |= ended


class BeamSearch(Search):
    """K hypotheses a sentence advance together.

    Every step ranks the 2K best continuations by their sum of log-probabilities (ties: lower beam, then the higher
    logit, then the lower token id). Among the first K, those that end the sentence are offered to the n-best list;
    the first K that don't end it live on. At most K of 2K can end, so K always remain.
    """

    def _choose(self, values: np.ndarray, columns: np.ndarray, normalizers: np.ndarray) -> np.ndarray | None:
        beam = self.rules.beam
        held, wide = len(self.held), values.shape[1]
        row_log_probs = np.minimum(values - normalizers[:, None], np.float32(0.0))
        sums = (self.live.reshape(-1, 1) + row_log_probs).reshape(held, beam * wide)
        order = np.argsort(-sums, axis=1, kind="stable")[:, : 2 * beam]
        sentence = np.arange(held)[:, None]
        ranked = (sentence, order)
        sums = sums[ranked]
        tokens = columns.reshape(held, -1)[ranked]
        log_probs = row_log_probs.reshape(held, -1)[ranked]
        parents = order // wide

        ends = self._ends(tokens)
        offered = ends[:, :beam] & (sums[:, :beam] > _NEVER) & ~self.done[:, None]
        if offered.any():
            who = np.flatnonzero(offered.any(axis=1))
            candidates = np.where(offered, sums[:, :beam], _NEVER)[who]
            self._keep(who, candidates, parents[who, :beam], log_probs[who, :beam], self.steps + 1)

        on = np.argsort(ends, axis=1, kind="stable")[:, :beam] if ends.any() else np.arange(beam)
        live = (sentence, on)
        tokens, parents = tokens[live], parents[live]
        self.live = np.where(ends[live], _NEVER, sums[live])
        self._record(tokens, log_probs[live], parents)
        rows = (sentence * beam + parents).reshape(-1)
        return None if np.array_equal(rows, np.arange(len(rows))) else rows


class SamplingSearch(Search):
    """K samples a sentence, each drawn for itself until its end token."""

    def __init__(self, limits: np.ndarray, rules: Rules) -> None:
        super().__init__(limits, rules)
        self.live[:] = 0.0
        self._seen: np.ndarray | None = None
        """bool [R, V], for the repetition penalty; made at the first step."""

    def leave(self, keep: np.ndarray) -> None:
        super().leave(keep)
        if self._seen is not None:
            rows = (keep[:, None] * self.rules.beam + np.arange(self.rules.beam)).reshape(-1)
            self._seen = self._seen[rows]

    def _see(self, vocabulary: int) -> np.ndarray:
        """What the rows have, with the tokens that they were fed last."""
        row = np.arange(len(self.tokens))
        if self._seen is None:
            self._seen = np.zeros((len(row), vocabulary), bool)
            if self.history is not None:
                self._seen[row[:, None], self.history] = True
        elif self.steps:
            self._seen[row, self.tokens] = True
        return self._seen

    def _extend(self, logits: np.ndarray, normalizers: np.ndarray) -> None:
        beam, sampling, keys = self.rules.beam, self.rules.sampling, self.rules.keys
        assert sampling is not None and keys is not None
        samples = np.arange(beam, dtype=np.uint64)
        seen = self._see(logits.shape[1]) if sampling.repetition_penalty != 1.0 else None
        chosen = sampling.draw(logits, (keys[self.held][:, None] + samples).reshape(-1), self.steps, seen)
        found = logits[np.arange(len(chosen)), chosen] - normalizers
        log_probs = np.minimum(found, np.float32(0.0)).reshape(-1, beam)
        tokens = chosen.reshape(-1, beam)
        sums = self.live + log_probs
        ends = self._ends(tokens)
        ended = ends & ~self.done[:, None]
        beams = np.broadcast_to(np.arange(beam), ended.shape)
        if ended.any():
            who = np.flatnonzero(ended.any(axis=1))
            self._keep(who, np.where(ended, sums, _NEVER)[who], beams[who], log_probs[who], self.steps + 1)
        self._record(tokens, log_probs, beams)
        self.live = np.where(ends, _NEVER, sums)


def candidates(beam: int) -> int:
    """How many tokens of each row a step has to look at."""
    return 1 if beam == 1 else 2 * beam


def not_finite(step: int, sentence: int) -> SeqlibError:
    """The error for logits that are NaN or infinite."""
    return SeqlibError(
        f"decoding step {step}: the model's logits are not finite for sentence {sentence} of the batch; "
        "check the weights for NaN or overflow"
    )


def start(limits: np.ndarray, rules: Rules) -> Search:
    """A search for a batch with the given limits: sampling where the rules say so, greedy when rules.beam is 1."""
    if rules.sampling is not None:
        return SamplingSearch(limits, rules)
    return (GreedySearch if rules.beam == 1 else BeamSearch)(limits, rules)
