"""meta(): models without memory, forecasts, and weights that bring the memory."""

import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.op import Meta
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Parameter, Variable
from seqlib.models import transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import training_step
from seqlib.util.errors import SeqlibError


class Batch(NamedTuple):
    src: Any
    src_lengths: Any
    tgt_in: Any
    tgt_out: Any


def _batch(rows: int, length: int) -> Batch:
    ids = Meta((rows, length), np.dtype(np.int32))
    return Batch(ids, Meta((rows,), np.dtype(np.int32)), ids, ids)


def test_a_big_training_step_is_forecast_without_memory() -> None:
    generator, spec = Generator(0), ProblemSpec(source_vocab=32768, target_vocab=32768)
    tracemalloc.start()
    try:
        with seqlib.meta():
            model = transformer.build(transformer.big().model, spec, generator)
            optimizer = AdamW(model.trainable_parameters())
        step = compile(training_step(model, optimizer, generator, 0.1), [model, optimizer, generator])
        program = step.lower(_batch(64, 64))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert model.num_parameters() == sum(p.size for p in model.named_parameters().values()) == 209_842_176
    assert program.arena_bytes > 2**30 and program.launch_count > 500
    assert held < 40 * 2**20 and peak < 80 * 2**20  # 840 MB of weights and twice that of slots would not fit


def test_the_forecast_is_that_of_the_real_model() -> None:
    def planned(without_memory: bool) -> tuple[int, int]:
        config, generator = transformer.tiny().model, Generator(0)
        spec = ProblemSpec(source_vocab=50, target_vocab=50)
        if without_memory:
            with seqlib.meta():
                model = transformer.build(config, spec, generator)
        else:
            model = transformer.build(config, spec, generator)
        optimizer = AdamW(model.trainable_parameters())
        program = compile(training_step(model, optimizer, generator, 0.1), [model, optimizer, generator]).lower(
            _batch(8, 16)
        )
        return program.arena_bytes, program.launch_count

    assert planned(True) == planned(False)


def test_loading_gives_memory() -> None:
    generator = Generator(3)
    real = seqlib.nn.Linear(3, 2)
    with seqlib.meta(), use_generator(generator):
        hollow = seqlib.nn.Linear(3, 2)
    assert generator.state.numpy().tolist() == [3, 0]  # nothing was drawn
    assert isinstance(hollow.weight.data, Meta) and hollow.weight.shape == (2, 3)
    assert "without memory" in repr(hollow.weight)
    compiled = compile(lambda x: hollow(x), hollow)
    x = np.ones((4, 3), np.float32)
    assert compiled.lower(x).launch_count > 0
    with pytest.raises(SeqlibError, match=r"run needs the content of weight of shape \(2, 3\), which was made under"):
        compiled(x)
    hollow.load(real.state_dict())
    assert np.array_equal(compiled(x).numpy(), real(seqlib.tensor(x)).numpy())
    assert np.array_equal(hollow(seqlib.tensor(x)).numpy(), compiled(x).numpy())


def test_content_that_is_not_there_is_refused() -> None:
    with seqlib.meta():
        w = Parameter(np.ones(3, np.float32), "w")
        kept = Variable(np.ones(3, np.float32), "kept")
    assert kept.tolist() == [1, 1, 1]
    with pytest.raises(SeqlibError, match=r"add: a needs the content of w .*meta\(\).*load weights"):
        ops.add(w, 1.0)
    with pytest.raises(SeqlibError, match=r"numpy\(\) needs the content of w"):
        w.numpy()
    with pytest.raises(SeqlibError, match="needs the content of w"):
        w.detach()
    slot = Variable.zeros_for(w, "slot")
    assert isinstance(slot.data, Meta)
    w.assign(np.float32([1, 2, 3]))
    assert (w + 1.0).tolist() == [2, 3, 4]
    assert Variable.zeros_for(w, "slot").tolist() == [0, 0, 0]
