"""hoist: once per content, to the bit, and never stale."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.compile import Compiled, compile
from seqlib.core.grad import value_and_grad
from seqlib.core.modes import note_mode_change
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, Tensor, Variable, tensor
from seqlib.models import transformer
from seqlib.nn.cache import DecodeCache
from seqlib.problems.spec import ProblemSpec

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 64)).astype(np.float32)


def _weights() -> tuple[Parameter, Parameter]:
    a, b = (RNG.normal(size=(32, 64)).astype(np.float32) for _ in range(2))
    return Parameter(a, "a"), Parameter(b, "b")


def _joined(x: Tensor, a: Parameter, b: Parameter) -> Tensor:
    return ops.matmul(x, ops.concatenate([a, ops.exp(b)]), transpose_b=True)


def _compiled(a: Parameter, b: Parameter) -> Compiled:
    return compile(lambda x: _joined(x, a, b), [a, b])


def _runs(compiled: Compiled, *args: Any) -> list[str]:
    """The ops that a call launches."""
    with seqlib.hooks() as seen:
        compiled(*args)
    return [call.op for call in seen.calls]


def test_read_only_results_are_computed_once_and_stay_right() -> None:
    a, b = _weights()
    compiled = _compiled(a, b)
    assert _runs(compiled, X) == ["exp", "concatenate", "matmul"]
    assert _runs(compiled, X) == ["matmul"]
    program = compiled.programs[0]
    assert program.launch_count == 1 and program.plan.hoisted_bytes == 2 * 32 * 64 * 4
    assert "0.0 MiB hoisted" in program.summary()
    for variable in (a, b):
        variable.assign(variable * 2.0)  # eagerly
        assert np.array_equal(compiled(X).numpy(), _joined(tensor(X), a, b).numpy())
    scale = compile(lambda: a.assign(a * 0.5), [a])
    scale()  # by another program
    assert _runs(compiled, X) == ["exp", "concatenate", "matmul"]
    assert np.array_equal(compiled(X).numpy(), _joined(tensor(X), a, b).numpy())
    a.storage()[0] = 0.0  # a part of it
    assert np.array_equal(compiled(X).numpy(), _joined(tensor(X), a, b).numpy())
    a.state_variables()["a"].assign(np.zeros((32, 64), np.float32))
    assert not compiled(X).numpy()[:, :32].any()


def test_programs_of_other_shapes_share_the_results() -> None:
    a, b = _weights()
    compiled, other = _compiled(a, b), _compiled(a, b)
    for x in (X, X[:2]):
        compiled(x)
    assert _runs(compiled, X) == _runs(compiled, X[:2]) == _runs(other, X) == ["matmul"]
    a.assign(a * 3.0)
    assert _runs(other, X) == ["exp", "concatenate", "matmul"] and _runs(compiled, X[:2]) == ["matmul"]
    assert np.array_equal(compiled(X).numpy(), _joined(tensor(X), a, b).numpy())


def test_results_survive_a_move_of_the_arena() -> None:
    a, b = _weights()
    compiled = _compiled(a, b)
    first = compiled(X).numpy()
    compile(lambda x: ops.exp(x) * ops.sin(x))(np.zeros(1 << 22, np.float32))
    assert _runs(compiled, X) == ["matmul"] and np.array_equal(compiled(X).numpy(), first)


def test_storage_that_was_moved_is_bound_again() -> None:
    """As `to` moves it: to another device and back."""
    a, b = _weights()
    compiled = _compiled(a, b)
    compiled(X)
    for p in (a, b):
        p.data = p.numpy()
        p.counts[0][0] += 1
    note_mode_change()
    a.assign(a * 2.0)
    assert np.array_equal(compiled(X).numpy(), _joined(tensor(X), a, b).numpy())
    assert len(compiled.programs) == 1


def test_groups_go_stale_one_by_one() -> None:
    a, b = _weights()
    rate = Variable(np.float32(2), "rate")
    compiled = compile(lambda x: (x @ ops.exp(a).T, x @ ops.sin(b).T, x * (rate * rate)), [a, b, rate])
    compiled(X)
    rate.assign(np.float32(3))  # too little to be worth it
    assert _runs(compiled, X) == ["matmul", "matmul", "mul", "mul"]
    b.assign(b + 1.0)
    assert _runs(compiled, X) == ["sin", "matmul", "matmul", "mul", "mul"]


def test_what_the_program_writes_or_what_is_too_large_stays() -> None:
    a, b = _weights()

    def step(x: Tensor) -> Tensor:
        value, grads = value_and_grad(lambda: ops.sum(_joined(x, a, b)), params=[a, b])()
        for p, g in zip((a, b), grads, strict=True):
            p.assign(p - g * 0.1)
        return value

    assert compile(step, [a, b]).lower(X).plan.hoisted == []
    large = compile(lambda x: x + ops.exp(ops.broadcast_to(a, (8, 32, 64))), a)
    program = large.lower(np.ones((8, 32, 64), np.float32))
    assert program.plan.hoisted == [] and program.launch_count == 2
    kept = Variable(np.zeros((32, 64), np.float32), "kept")

    def copy() -> Tensor:
        kept.assign(ops.exp(a))
        return kept

    assert compile(copy, [a, kept]).lower().plan.hoisted == []


def test_a_frozen_parameter_is_hoisted_in_training() -> None:
    a, b = _weights()
    a.frozen = True

    def step(x: Tensor) -> Tensor:
        loss = lambda: ops.sum((x @ ops.exp(a).T) @ ops.tanh(b))  # noqa: E731
        value, (g,) = value_and_grad(loss, params=[b])()
        b.assign(b - g * 0.1)
        return value

    compiled = compile(step, [a, b])
    compiled(X)
    assert "exp" not in (again := _runs(compiled, X)) and "tanh" in again


def test_contiguous_copies_of_views_are_hoisted() -> None:
    a, _ = _weights()
    ids = np.array([1, 5, 63], np.int32)
    compiled = compile(lambda ids: ops.embedding(ids, ops.transpose(a)), a)
    assert _runs(compiled, ids) == ["contiguous", "embedding"] and _runs(compiled, ids) == ["embedding"]
    assert np.array_equal(compiled(ids).numpy(), a.numpy().T[ids])
    a.assign(a * 2.0)
    assert np.array_equal(compiled(ids).numpy(), a.numpy().T[ids])


def test_hoisted_results_may_be_returned() -> None:
    a, _ = _weights()
    compiled = compile(lambda: (ops.exp(a), ops.transpose(ops.exp(a))), a)
    for _ in range(2):
        one, two = compiled()
        assert np.array_equal(one.numpy(), np.exp(a.numpy())) and np.array_equal(two.numpy(), one.numpy().T)
    one.numpy()[:] = 0.0
    assert compiled.programs[0].launch_count == 0
    a.assign(a * 2.0)
    assert np.array_equal(compiled()[0].numpy(), ops.exp(a).numpy())


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_equal_eager_under_random_writes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = [Variable(rng.normal(size=(40, 40)).astype(np.float32), f"v{i}") for i in range(4)]
    written = int(rng.integers(0, 4))
    plan = [(int(rng.integers(0, 4)), *rng.integers(0, 4 + i, 2).tolist()) for i in range(12)]

    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        values: list[Tensor] = [*state]
        for kind, i, j in plan:
            a, b = values[i], values[j]
            made = (ops.matmul(a, b) * 0.1, ops.tanh(a + b), ops.transpose(a), ops.sin(a) * ops.transpose(b))
            values.append(made[kind])
        state[written].assign(state[written] * 0.5 + 0.1)
        return values[-1] + x, ops.sum(values[-2]) + values[-3]

    compiled, x = compile(f, state), rng.normal(size=(40, 40)).astype(np.float32)
    for _ in range(4):
        before = [v.numpy() for v in state]
        expected = [t.numpy() for t in f(tensor(x))]
        after = [v.numpy() for v in state]
        for v, content in zip(state, before, strict=True):
            if not np.array_equal(v.numpy(), content):
                v.assign(content)
        for got, want in zip(compiled(x), expected, strict=True):
            assert np.array_equal(got.numpy(), want)
        assert all(np.array_equal(v.numpy(), content) for v, content in zip(state, after, strict=True))
        chosen = state[int(rng.integers(0, 4))]
        chosen.assign(chosen * 0.9)


def test_decoding_packs_its_weights_once() -> None:
    with use_generator(Generator(0)):
        model = transformer.Transformer(transformer.tiny().model, ProblemSpec(source_vocab=50, target_vocab=50)).eval()
    memory = ops.zeros((2, 5, 128))
    lengths = np.array([5, 3], np.int32)
    cache = model.init_cache(memory, lengths, 2, 8)

    def step(tokens: Tensor, position: Tensor) -> Tensor:
        with no_grad():
            return model.step(tokens, position, cache)

    compiled = compile(step, [model, cache])
    at = [np.array(i, np.int32) for i in range(3)]
    tokens = np.array([7, 9], np.int32)
    assert "concatenate" in _runs(compiled, tokens, at[0])
    assert "concatenate" not in _runs(compiled, tokens, at[1])
    other = DecodeCache(2, 2, 2, 5, 8, 4, 32)
    other.take_over(cache, np.arange(2), np.arange(2), 2)
    assert all(v.version > 0 for v in (*other.self_k, *other.cross_v, other.source_lengths))


def test_nothing_writes_behind_the_version() -> None:
    """Storage is written by assign, by programs, and through `storage()`, all of which count it."""
    root = Path(seqlib.__file__).parent
    writes = re.compile(r"\.data(\.reshape\([^)]*\))?\[[^\]]*\]\s*[-+*/]?=(?!=)|(copyto|write)\([\w.]+\.data\b")
    found = [
        f"{path.relative_to(root)}:{i}"
        for path in sorted(root.rglob("*.py"))
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if writes.search(line)
    ]
    assert len(found) == 1 and found[0].startswith("core/tensor.py"), found  # Variable.assign
