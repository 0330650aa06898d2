"""Programs for a GPU, planned without one: training and decoding of all models are kernels alone."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.op import Meta
from seqlib.core.rng import Generator
from seqlib.core.tape import no_grad
from seqlib.data.batch import Batch, PackedBatch
from seqlib.models import transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import training_step

INT = np.dtype("int32")
SPEC = ProblemSpec(source_vocab=64, target_vocab=64)
SIZES: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 64, "d_ff": 64, "heads": 2}


def _breaks(program: Any) -> Counter[str]:
    """Launches that are references: they allocate, and break the graph."""
    return Counter(x.name for x in program.plan.launches if x.op is not None and x.kernel is None)


def _model(dtype: str, **config: Any) -> Any:
    model = transformer.build(transformer.TransformerConfig(**(SIZES | config)), SPEC, Generator(1))
    return model if dtype == "float32" else model.compute_in(dtype)


def _batch(kind: str) -> Any:
    ids, lengths = Meta((4, 8), INT), Meta((4,), INT)
    if kind == "padded":
        return Batch(ids, lengths, ids, ids, lengths)  # type: ignore[arg-type]
    rows, offsets = Meta((32,), INT), Meta((5,), INT)
    values = {name: offsets if "offsets" in name else rows for name in PackedBatch._fields}
    return PackedBatch(**(values | {"weights": None}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("padded", {}),
        ("packed", {}),
        ("padded", {"positions": "learned", "activation": "swiglu", "norm_kind": "rms", "norm": "post"}),
        ("packed", {"positions": "rotary", "activation": "geglu", "kv_heads": 1, "attention_bias": True}),
        ("padded", {"positions": "relative", "checkpoint_layers": True, "tie_output": False}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_steps_are_kernels_alone(kind: str, config: dict[str, Any], dtype: str) -> None:
    model = _model(dtype, **config).train()
    optimizer, generator = AdamW(model.trainable_parameters(), clip_norm=1.0), Generator(2)
    step = training_step(model, optimizer, generator, 0.1)
    program = seqlib.compile(step, state=[model, optimizer, generator], device="cuda").lower(_batch(kind))
    assert not _breaks(program)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoding_steps_are_kernels_alone_and_copy_no_cache(dtype: str, beams: int) -> None:
    model = _model(dtype).eval()
    cache = model.new_cache(2, 8, 2 * beams, 16)
    assert cache.self_k[0].dtype == cache.cross_v[0].dtype == dtype

    def fill(src: Any, lengths: Any) -> None:
        with no_grad():
            model.fill_cache(cache, model.encode(src, lengths), lengths)

    def step(tokens: Any, parents: Any, position: Any) -> Any:
        with no_grad():
            cache.reorder(parents)
            logits = model.step(tokens, position, cache)
            return logits, ops.logsumexp(logits, axis=-1)

    filled = seqlib.compile(fill, state=[model, cache], device="cuda").lower(Meta((2, 8), INT), Meta((2,), INT))
    rows = Meta((2 * beams,), INT)
    stepped = seqlib.compile(step, state=[model, cache], device="cuda").lower(rows, rows, Meta((), INT))
    assert not _breaks(filled) and not _breaks(stepped)
    assert not stepped.plan.copies
    assert stepped.graph.outputs[0].dtype == np.float32
