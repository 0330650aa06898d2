"""Generators: a seed and an offset in a location, so that random ops are pure functions of state.
 Every draw takes the current offset and adds one to it. In a compiled function the generator is part of
`state`; the draws read the offset that the program finds, plus their number within the program, and the
program writes the sum back.
"""

from __future__ import annotations

import collections.abc as abc
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from seqlib.core import dtypes, philox
from seqlib.core.ambient import ambient, setting
from seqlib.core.backends import backend_of, copy_of
from seqlib.core.graph import Value, active_graph
from seqlib.core.op import OPS
from seqlib.core.tensor import Tensor, Variable
from seqlib.util.errors import SeqlibError


class Generator:
    """A stream of random numbers (Philox4x32-10; see `seqlib.core.philox`).

    `state` is an int64 [2] location holding (seed, offset), both read as unsigned 64-bit words.
    """

    def __init__(self, seed: int = 0) -> None:
        self.state = Variable(np.zeros(2, np.int64), "generator.state")
        self._traced: tuple[Value, Value, int] | None = None  # (state value now, at the first draw, draws since)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start the stream of `seed` (0 … 2**64 - 1) from its beginning."""
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed should be in [0, 2**64), got {seed}")
        self.state.assign(np.array([seed, 0], np.uint64).view(np.int64))

    def draw(self) -> tuple[Tensor, int]:
        """What a random op needs: the state as a tensor, and which draw after that state this one is."""
        return _drawn(self._draw)

    def _draw(self) -> tuple[Tensor, int]:
        now = self.state.data
        if not isinstance(now, Value):
            snapshot = Tensor(copy_of(now))
            if active_graph() is None:
                self._step()
            return snapshot, 0  # inside a trace it is of a generator outside `state`: recording the op refuses it
        if self._traced is None or self._traced[0] is not now:
            self._traced = (now, now, 0)
        _, base, draws = self._traced
        # Not by `assign`, which a checkpoint refuses: its second run draws the same and advances nothing.
        self.state.data = OPS["advance_generator"](Tensor(base), draws=draws + 1).data
        self._traced = (self.state.data, base, draws + 1)
        return Tensor(base), draws

    def _next(self) -> tuple[int, int]:
        return _drawn(self._advance)

    def _advance(self) -> tuple[int, int]:
        seed, offset = self.state.numpy().view(np.uint64).tolist()
        self._step()
        return seed, offset

    def _step(self) -> None:
        now = self.state.storage()
        with backend_of([now]).running():
            now[1:] += 1

    def uniform(self, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float32]:
        """float32 of `shape`, uniform in [low, high). Always drawn on the CPU, at once; not for use inside a
        trace.
        """
        draws = philox.uniform(*self._next(), int(np.prod(shape)))
        return (draws * np.float32(high - low) + np.float32(low)).reshape(shape)

    def normal(self, shape: tuple[int, ...] = (), mean: float = 0.0, std: float = 1.0) -> npt.NDArray[np.float32]:
        """float32 of `shape`, normal (Box and Muller 1958 in float64, rounded once). Always drawn on the CPU,
        at once.
        """
        size = int(np.prod(shape))
        seed, offset = self._next()
        words = philox.bits32(seed, offset, 0, 2 * size).astype(np.float64).reshape(2, size)
        radius = np.sqrt(-2.0 * np.log((words[0] + 1.0) * 2.0**-32))
        return (mean + std * radius * np.cos(2.0 * np.pi * 2.0**-32 * words[1])).astype(np.float32).reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> npt.NDArray[Any]:
        """int32 of `shape`, uniform in [low, high), by the upper half of a 32-bit word times the range
        (Lemire 2019, without rejection: the bias is below range / 2**32).
        """
        if not low < high <= low + 2**31:
            raise ValueError(f"integers: needs low < high ≤ low + 2**31, got {low}, {high}")
        seed, offset = self._next()
        words = philox.bits32(seed, offset, 0, int(np.prod(shape))).astype(np.uint64)
        above = (words * np.uint64(high - low) >> np.uint64(32)).astype(np.int64)
        return (low + above).astype(dtypes.int32).reshape(shape)

    def to(self, device: str) -> Generator:
        """Move the state to a device, in place. Returns the generator."""
        self.state.to(device)
        return self

    def state_variables(self) -> dict[str, Variable]:
        return {"state": self.state}


_default = Generator(0)


class Draws:
    """What a function drew, of any generator, so that it can run again and draw the same."""

    def __init__(self) -> None:
        self._made: list[Any] = []

    def recording(self) -> AbstractContextManager[None]:
        """Draws inside are kept."""
        return setting(draws=(*ambient.draws, (self._made, None)))

    @contextmanager
    def replaying(self) -> abc.Generator[None, None, None]:
        """Draws inside are those that were kept, in their order; no generator advances.

        Raises SeqlibError when they are more or fewer.
        """
        again = iter(self._made)
        with setting(draws=(*ambient.draws, (self._made, again))):
            yield
        if next(again, None) is not None:
            raise SeqlibError(_OTHER_DRAWS)


_OTHER_DRAWS = (
    "a function that is computed again for its gradient (checkpoint, custom_vjp) drew another number of random values "
    "than the first time; it should do the same whenever it is called"
)


def _drawn(make: abc.Callable[[], Any]) -> Any:
    """A draw: of the innermost replay, else a new one; kept by every recording inside that replay."""
    recordings: list[list[Any]] = []
    for made, again in reversed(ambient.draws):
        if again is not None:
            value = next(again, None)
            if value is None:
                raise SeqlibError(_OTHER_DRAWS)
            break
        recordings.append(made)
    else:
        value = make()
    for made in recordings:
        made.append(value)
    return value


def default_generator() -> Generator:
    """The generator used where no other is in force."""
    return _default


def current_generator() -> Generator:
    """The innermost `use_generator` of this thread, else the default generator."""
    return ambient.generator or _default


@contextmanager
def use_generator(generator: Generator) -> abc.Generator[Generator, None, None]:
    """Random ops and initialisers inside draw from `generator`."""
    with setting(generator=generator):
        yield generator


def seed(value: int) -> None:
    """Start the default generator from `value`."""
    _default.reseed(value)
