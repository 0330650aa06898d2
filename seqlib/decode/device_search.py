"""Greedy and beam search whose state lies where the model computes: the host only says how many steps to take, and
looks now and then whether all sentences are done.

B sentences, K beams, R = B·K rows, N hypotheses kept, L longest output of a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlib.core import ops
from seqlib.core.backends import BACKENDS
from seqlib.core.compile import compile
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Variable
from seqlib.decode import advance_cuda  # noqa: F401  (gives the op its kernel)
from seqlib.decode.advance import MOST_BEAMS, advance
from seqlib.decode.search import candidates

if TYPE_CHECKING:
    from seqlib.core.program import Program
    from seqlib.decode.programs import Place, Programs
    from seqlib.decode.search import Rules, Search

_STEPS = 4  # between two looks: a look waits for the GPU, and what is done goes on for nothing until then


def can_run(search: Search, vocabulary: int) -> bool:
    """Whether a search is one that `run` takes: greedy or a beam, with nothing to be forced or forbidden."""
    rules = search.rules
    plain = rules.sampling is None and search.history is None
    return plain and rules.beam <= MOST_BEAMS and candidates(rules.beam) <= vocabulary


def run(programs: Programs, place: Place, search: Search) -> int:
    """Search to the end from a filled `place`; `search` then has the results. Returns the steps taken.

    Raises SeqlibError where logits were not finite.
    """
    steps, longest = 0, int(search.limits.max())
    state = _State.of(place, search.rules, programs.longest)
    state.begin(search)
    while steps < longest and not state.settled():
        if steps == place.size.length:
            size = place.size
            place, before = programs.place(size.sentences, size.beams, size.source, steps + 1), place
            state = _State.of(place, search.rules, programs.longest).taken_over(state, before, steps)
        program = state.program()
        for _ in range(min(_STEPS, place.size.length - steps, longest - steps)):
            program.run(())
            steps += 1
    state.finish(search, steps)
    return steps


class _State:
    """The state of a search over the rows of a place, and the program of one step; made once for a place and rules."""

    def __init__(self, place: Place, rules: Rules, longest: int) -> None:
        sentences, beams, _, length = place.size
        model, cache, kept = place.model, place.cache, rules.n_best
        self.place, self.longest = place, longest
        shapes: dict[str, tuple[int, ...]] = {
            "tokens": (sentences * beams,),
            "parents": (sentences * beams,),
            "position": (),
            "limits": (sentences,),
            "places": (sentences, kept, 3),
            "flags": (sentences, 2),
            "all_tokens": (length, sentences, beams),
            "all_parents": (length, sentences, beams),
        }
        numbers: dict[str, tuple[int, ...]] = {
            "live": (sentences, beams),
            "best": (sentences, kept, 3),
            "penalties": (longest + 1,),
            "all_log_probs": (length, sentences, beams),
        }
        self.held = {name: Variable(np.zeros(shape, np.int32), name) for name, shape in shapes.items()}
        self.held |= {name: Variable(np.zeros(shape, np.float32), name) for name, shape in numbers.items()}
        for variable in self.held.values():
            variable.to(place.device)

        def step() -> None:
            held = self.held
            with no_grad():
                cache.reorder(held["parents"])
                logits = ops.cast(model.step(held["tokens"], held["position"], cache), "float32")
                values, columns = ops.top_k(logits, candidates(beams))
                state = [held[name] for name in (*_STATE, "limits", "penalties", "position")]
                normalizers = ops.logsumexp(logits, axis=-1)
                found = advance(values, columns, normalizers, *state, eos_id=rules.eos_id, early_stop=rules.early_stop)
                for name, value in zip(_CHOICES, found[:3], strict=True):
                    row = ops.reshape(value, (1, sentences, beams))
                    every = held[f"all_{name}"]
                    every.assign(ops.update_slice(every, row, held["position"], axis=0))
                for name, value in zip(("tokens", "parents", *_STATE), (*found[:2], *found[3:]), strict=True):
                    held[name].assign(value)
                held["position"].assign(held["position"] + 1)

        self._step = compile(step, state=[model, cache, self])

    @classmethod
    def of(cls, place: Place, rules: Rules, longest: int) -> _State:
        """That of a place for such rules."""
        key = rules.n_best, rules.eos_id, rules.early_stop
        if key not in place.searches:
            place.searches[key] = cls(place, rules, longest)
        return place.searches[key]

    def state_variables(self) -> dict[str, Variable]:
        return self.held

    def begin(self, search: Search) -> None:
        """Set to a search's beginning; rows that only fill the batch are done."""
        count = len(search.limits)
        filled = {"limits": search.limits, **search.state()}
        for name, value in filled.items():
            whole = np.zeros(self.held[name].shape, value.dtype if value.dtype == np.float32 else np.int32)
            whole[:count] = value
            if name == "flags":
                whole[count:] = 1, 0
            if name == "limits":
                whole[count:] = 1
            self.held[name].assign(whole)
        penalties = search.rules.penalties[: self.longest + 1]
        self.held["penalties"].assign(np.pad(penalties, (0, self.longest + 1 - len(penalties)), mode="edge"))
        self._go_on(0, np.full(self.held["tokens"].shape, search.rules.bos_id, np.int32))

    def _go_on(self, steps: int, tokens: np.ndarray) -> None:
        self.held["tokens"].assign(tokens)
        self.held["parents"].assign(np.arange(len(tokens), dtype=np.int32))
        self.held["position"].assign(np.array(steps, np.int32))

    def taken_over(self, other: _State, place: Place, used: int) -> _State:
        """Go on from where `other` is in its `place`, after `used` steps."""
        parents = other.held["parents"].numpy()
        self.place.take_over(place, np.arange(place.size.sentences), parents, used)
        with BACKENDS[place.device].running():
            for name in ("limits", "penalties", *_STATE):
                self.held[name].assign(other.held[name])
            for name in _CHOICES:
                self.held[f"all_{name}"].storage()[:used] = other.held[f"all_{name}"].data[:used]
        self._go_on(used, other.held["tokens"].numpy())
        return self

    def program(self) -> Program:
        """One step of the model and the search; it takes nothing and gives nothing."""
        return self._step.lower()

    def settled(self) -> bool:
        """Whether all sentences are done; waits for the steps that were asked for."""
        return bool(self.held["flags"].numpy()[:, 0].all())

    def finish(self, search: Search, steps: int) -> None:
        """Give the search what came of it."""
        count = len(search.limits)
        search.restore({name: self.held[name].numpy()[:count] for name in _STATE}, steps)
        tokens, parents, log_probs = (self.held[f"all_{name}"].numpy()[:steps, :count] for name in _CHOICES)
        search.recall(tokens, log_probs, parents % search.rules.beam)


_STATE = ("live", "best", "places", "flags")
_CHOICES = ("tokens", "parents", "log_probs")
