"""A packed batch gives the loss and the gradients of the same pairs padded, as well as float32 can tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Variable
from seqlib.data.batch import Batch, PackedBatch, collate
from seqlib.data.packing import pack_plan
from seqlib.data.plan import PlannedBatch
from seqlib.data.store import TokenStore, write_store
from seqlib.models.transformer import Transformer, TransformerConfig, build
from seqlib.problems.spec import ProblemSpec

SPEC = ProblemSpec(source_vocab=50, target_vocab=50)
SIZES: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 32, "d_ff": 64, "heads": 4}


def make_model(dropout: float = 0.0, **changes: Any) -> Transformer:
    rates = {"dropout": dropout, "attention_dropout": dropout, "ff_dropout": dropout}
    config = TransformerConfig(**(SIZES | rates | {"max_length": 128} | changes))
    return build(config, SPEC, Generator(3)).train()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """300 pairs of up to 110 tokens a side, most of them short, some empty."""
    draw = np.random.default_rng(0)
    sizes = np.minimum(draw.gamma(1.5, 9, (300, 2)).astype(int), 110)
    pairs = [tuple(draw.integers(4, 50, size).tolist() for size in pair) for pair in sizes]
    return write_store(tmp_path_factory.mktemp("packed") / "store", pairs, 50)


def some_batches(store: TokenStore, count: int) -> list[tuple[PackedBatch, Batch]]:
    """Packed batches, and the same pairs padded."""
    plan = pack_plan(store.lengths(), tokens=256, max_length=None, seed=1, epoch=0, digest="d")
    found = []
    for planned in plan.batches[:count]:
        packed = collate(store, planned, SPEC)
        longest = (store.lengths()[planned.indices].max(0) + 1).tolist()
        padded = collate(store, PlannedBatch(planned.indices, len(planned.indices), *longest), SPEC)
        assert isinstance(packed, PackedBatch)
        assert isinstance(padded, Batch)
        found.append((packed, padded))
    return found


def results(model: Transformer, batch: Batch | PackedBatch) -> dict[str, np.ndarray]:
    """Loss sum, weight and every gradient."""
    loss = value_and_grad(lambda b: model.loss(b, 0.1), params=model.trainable_parameters())
    (total, weight), grads = loss(batch)
    return {"loss": total.numpy(), "weight": weight.numpy(), **{n: g.numpy() for n, g in grads.items()}}


def in_float64(model: Transformer) -> Transformer:
    """The same model, computing in double precision."""
    for variable in {id(v): v for v in walk(model)}.values():
        variable.data = np.asarray(variable.numpy(), np.float64)
    return model


def walk(model: Transformer) -> list[Variable]:
    found: list[Variable] = list(model.named_parameters().values())
    if model.source_positions is not None:
        found.append(model.source_positions.table)
    return found


@pytest.mark.parametrize(
    ("changes", "kernels"),
    [
        ({}, ""),
        ({"positions": "rotary"}, ""),
        ({"norm": "post", "attention_bias": True}, ""),
        ({"checkpoint_layers": True}, ""),
        ({"positions": "rotary"}, "ref"),
    ],
)
def test_packed_equals_padded(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], kernels: str
) -> None:
    model, exact = make_model(**changes), in_float64(make_model(**changes))
    errors: dict[str, list[np.ndarray]] = {}
    for packed, padded in some_batches(store, 10):
        with monkeypatch.context() as patch:
            patch.setenv("SEQLIB_KERNELS", kernels)
            found, expected = results(model, packed), results(model, padded)
        true = results(exact, padded)
        assert found["weight"] == true["weight"] == (packed.tgt_out >= 0).sum()
        for name, value in true.items():
            assert value.dtype == np.float64, name
            squares = [np.square(x).sum() for x in (found[name] - value, expected[name] - value, value)]
            errors.setdefault(name, []).append(np.array(squares))
    for name, squares in errors.items():  # over all batches and elements: some gradients are nothing but rounding
        error, usual, size = np.sqrt(np.sum(squares, axis=0))
        # Sums over few rows are NumPy's, those over many a kernel's, which rounds less: padded batches have many.
        assert error <= 2 * usual + 2 * np.finfo(np.float32).eps * size, name


def test_compiled_packed_steps_are_one_program_with_the_bits_of_eager(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    model = make_model(dropout=0.2)
    generators = [Generator(5), Generator(5)]

    def step(batch: PackedBatch, generator: Generator) -> Any:
        with use_generator(generator):
            loss = value_and_grad(lambda b: model.loss(b, 0.1)[0], params=model.trainable_parameters())
            return loss(batch)

    fast = compile(lambda batch: step(batch, generators[0]), state=[model, generators[0]])
    for packed, _ in some_batches(store, 5):
        value, grads = fast(packed)
        again, expected = step(packed, generators[1])
        assert value.numpy().tobytes() == again.numpy().tobytes()
        for name, grad in grads.items():
            assert grad.numpy().tobytes() == expected[name].numpy().tobytes(), name
    assert len(fast.programs) == 1


def test_sentences_of_a_pack_do_not_see_each_other(store: TokenStore, tmp_path: Path) -> None:
    """Other words in one sentence change the loss by what that sentence's own loss changes."""
    model = make_model()
    pairs = [tuple(side.tolist() for side in store.pair(i)) for i in range(6)]
    others = [*pairs[:2], ([7, 8, 9], [10, 11]), *pairs[3:]]
    losses = []
    for number, some in enumerate((pairs, others)):
        one = write_store(tmp_path / str(number), some, 50)
        plan = pack_plan(one.lengths(), tokens=512, max_length=None, seed=1, epoch=0, digest="d")
        (planned,) = plan.batches
        alone = collate(one, PlannedBatch(np.array([2]), 1, 112, 112), SPEC)
        packed = collate(one, planned, SPEC)
        losses.append([model.loss(batch)[0].item() for batch in (packed, alone)])
    (whole, part), (other_whole, other_part) = losses
    assert whole - other_whole == pytest.approx(part - other_part, rel=1e-4)
