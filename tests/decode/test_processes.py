"""One model for several threads, and in children of a process: answers are those of one thread, and nothing waits."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.backends import threads
from seqlib.core.compile import compile
from seqlib.core.rng import Generator
from seqlib.core.tensor import Parameter, tensor
from seqlib.decode.engine import Engine
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec

SPEC = ProblemSpec(source_vocab=24, target_vocab=24)
SOURCES = [list(np.random.default_rng(n).integers(4, 24, 2 + n % 9)) for n in range(24)]
SECONDS = 60  # more, and a child hangs

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads, which take part in the smallest work."""
    monkeypatch.setattr(threads, "INLINE", 1)
    threads.set_threads(2)
    yield
    threads.set_threads(None)


@pytest.fixture
def engine() -> Engine:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "d_ff": 64, "heads": 4, "max_length": 40}
    return Engine(build(TransformerConfig(**sizes), SPEC, Generator(3)).eval(), SPEC)


def _decoded(engine: Engine, sources: list[list[int]]) -> list[Any]:
    return [(h[0].tokens, h[0].score) for h in engine.decode(sources, beam=2, max_length=12)]


def _in_a_child(do: Any) -> int:
    """The exit code of a child that does it: 0 when it is true, minus the signal's number when it hangs."""
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        os._exit(0 if do() else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def _meanwhile(do: Any) -> Iterator[None]:
    """Another thread does it again and again."""
    end, begun = threading.Event(), threading.Event()

    def work() -> None:
        while not end.is_set():
            do()
            begun.set()

    other = threading.Thread(target=work)
    other.start()
    assert begun.wait(SECONDS)
    try:
        yield
    finally:
        end.set()
        other.join()


def test_threads_take_turns_with_a_model(engine: Engine) -> None:
    expected = _decoded(engine, SOURCES)
    found: dict[tuple[int, int], list[Any]] = {}

    def work(number: int) -> None:
        for turn in range(3):
            found[number, turn] = _decoded(engine, SOURCES[number::4])

    callers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(SECONDS)
    assert found == {(n, turn): expected[n::4] for n in range(4) for turn in range(3)}


def test_a_child_decodes_as_its_parent(engine: Engine) -> None:
    expected = _decoded(engine, SOURCES)
    assert _in_a_child(lambda: _decoded(engine, SOURCES) == expected) == 0
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=lambda n=n: answers.put((n, _decoded(engine, SOURCES[n::2])))) for n in (0, 1)]
    for child in children:
        child.start()
    found = dict(answers.get(timeout=SECONDS) for _ in children)
    for child in children:
        child.join(SECONDS)
    assert found == {n: expected[n::2] for n in (0, 1)} and _decoded(engine, SOURCES) == expected


def test_a_child_of_a_process_that_decodes(engine: Engine) -> None:
    """The thread that has the engine, the programs' memory and the pool is not in the child."""
    expected = _decoded(engine, SOURCES)
    with _meanwhile(lambda: _decoded(engine, SOURCES)):
        for _ in range(6):
            assert _in_a_child(lambda: _decoded(engine, SOURCES[:4]) == expected[:4]) == 0
    assert _decoded(engine, SOURCES) == expected


def test_a_child_finds_no_step_half_taken() -> None:
    """Forking waits for the program that runs, or is traced, so all locations are of one step."""
    weights = {name: Parameter(np.zeros((64, 64), np.float32)) for name in "abcdef"}

    def step(x: Any) -> Any:
        for weight in weights.values():
            weight.assign(weight + x)
        return ops.sum(weights["a"])

    steps = [compile(step, state=weights)]

    def go_on() -> None:
        if len(steps) < 40:  # a new program each time, at first
            steps.append(compile(step, state=weights))
        steps[-1](tensor(np.ones((64, 64), np.float32)))

    def whole() -> bool:
        at = weights["a"].numpy()[0, 0]
        same = all((weight.numpy() == at).all() for weight in weights.values())
        go_on()
        return same and all((weight.numpy() == at + 1).all() for weight in weights.values())

    with _meanwhile(go_on):
        for _ in range(20):
            assert _in_a_child(whole) == 0
