"""What programs are keyed by, why a new one is built, and how many are kept."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from seqlib.core import ops, tree
from seqlib.core.compile import compile
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, Tensor, tensor
from seqlib.nn.dropout import Dropout
from seqlib.util.errors import UsageError


class Pair(NamedTuple):
    src: Any
    tgt: Any


def test_reasons_name_the_argument_and_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    dropout, w = Dropout(0.1), Parameter(np.ones(2, np.float32), "w")

    def f(batch: Pair, scale: Any, *, more: Any = None) -> Tensor:
        return batch.src * scale + w[0]

    compiled = compile(f, [dropout, w])
    a, b = np.ones((2, 3), np.float32), np.ones(3, np.int32)
    compiled(Pair(a, b), 2)
    compiled(Pair(a[:1], b), 2)
    compiled(Pair(a, b.astype(np.int64)), 2)
    compiled(Pair(a, b), 2.0)
    compiled(Pair(a, b), np.float32(2))
    compiled(Pair(a, b), 2, more={"x": 1})
    with no_grad():
        compiled(Pair(a, b), 2)
    dropout.training = False
    compiled(Pair(a, b), 2)
    monkeypatch.setenv("SEQLIB_KERNELS", "ref")
    compiled(Pair(a, b), 2)
    assert [program.reason for program in compiled.programs] == [
        "",
        "argument 1.src changed shape from (2, 3) to (1, 3)",
        "argument 1.tgt changed dtype from int32 to int64",
        "argument 2 changed from 2 to 2.0",
        "argument 2 changed from 2.0 to float32 ()",
        "the arguments have another structure",
        "gradients are off now",
        "a module's training mode, a parameter or its `frozen` changed",
        "the environment has SEQLIB_KERNELS=ref now",
    ]


def test_static_arguments_that_compare_equal_are_different() -> None:
    compiled = compile(lambda x, k: 1.0 / (x * 0.0 + k) if isinstance(k, float) else x * k)
    x = np.array([3], np.int32)
    assert compiled(x, 2).dtype == np.int32 and compiled(x, 2.0).dtype == np.float32
    assert compiled(x, True).dtype == np.int32
    zero = np.float32([0])
    assert compiled(zero, 0.0).item() == np.inf and compiled(zero, -0.0).item() in (np.inf, -np.inf)
    assert len(compiled.programs) == 5
    for _ in range(3):
        assert np.isnan(compiled(zero, float("nan")).item())
    assert len(compiled.programs) == 6


def test_the_generator_in_force_counts_where_it_is_in_state() -> None:
    one, two, other = Generator(1), Generator(2), Generator(3)
    x = np.ones(100, np.float32)
    compiled = compile(lambda x: ops.dropout(x, 0.5), [one, two])

    def drawn(generator: Generator) -> np.ndarray:
        with use_generator(generator):
            return compiled(x).numpy()

    for seed, generator in ((1, one), (2, two), (1, one)):
        generator.reseed(seed)
        with use_generator(Generator(seed)):
            expected = ops.dropout(tensor(x), 0.5).numpy()
        assert np.array_equal(drawn(generator), expected)
    assert [program.reason for program in compiled.programs] == ["", "another generator is in force"]
    plain = compile(lambda x: x * 2.0)
    for generator in (one, other):
        with use_generator(generator):
            plain(x)
    assert len(plain.programs) == 1


def test_the_log_tells_of_many_programs_and_the_oldest_go(capsys: pytest.CaptureFixture[str]) -> None:
    def step(x: Tensor) -> Tensor:
        return x * 2.0

    compiled = compile(step, max_programs=20)
    for n in range(1, 13):
        compiled(np.ones(n, np.float32))
    assert capsys.readouterr().err == ""
    for n in (*range(13, 21), 1, 21):  # 1 is used again, so that 2 is the oldest
        compiled(np.ones(n, np.float32))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("compile step: program 13, ")
    assert "built because argument 1 changed shape from (12,) to (13,)" in lines[0]
    assert lines[1].startswith("compile step: program 20, ") and "only the 20 used last are kept" in lines[1]
    kept = [program.graph.inputs[0].shape[0] for program in compiled.programs]
    assert kept == [1, *range(3, 22)]
    assert np.array_equal(compiled(np.ones(2, np.float32)).numpy(), np.full(2, 2.0))
    with pytest.raises(UsageError, match="max_programs: expected at least 1, got 0"):
        compile(step, max_programs=0)


def test_paths_of_a_tree() -> None:
    leaves, treedef = tree.flatten((1, [Pair(2, 3)], {"a": (4,)}))
    assert dict(zip(leaves, tree.paths(treedef), strict=True)) == {
        1: (0,),
        2: (1, 0, "src"),
        3: (1, 0, "tgt"),
        4: (2, "a", 0),
    }
