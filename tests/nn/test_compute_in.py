"""Training in 16 bits: what is computed in them and what is not, without a GPU."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import dtypes
from seqlib.core.op import Meta
from seqlib.core.rng import Generator
from seqlib.core.trace import collect_variables
from seqlib.data.batch import Batch
from seqlib.models import transformer
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import training_step

SPEC = ProblemSpec(source_vocab=100, target_vocab=100, shared_vocab=True)


def _parts(dtype: str, dropout: float = 0.1, **config: Any) -> tuple[Any, Any, Any]:
    rates = dict.fromkeys(("dropout", "attention_dropout", "ff_dropout"), dropout)
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "d_ff": 128, "heads": 2}
    model = transformer.build(transformer.TransformerConfig(**sizes, **rates, **config), SPEC, Generator(1)).train()
    if dtype != "float32":
        model.compute_in(dtype)
    return model, AdamW(model.trainable_parameters(), lr=1e-3, clip_norm=1.0), Generator(2)


def _batch() -> Batch:
    rng, lengths = np.random.default_rng(0), np.array([7, 5], np.int32)
    src, tgt_in, tgt_out = (rng.integers(3, 100, (2, 7)).astype(np.int32) for _ in range(3))
    tgt_out[1, 5:] = -1
    return Batch(src, lengths, tgt_in, tgt_out, lengths)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_step_for_a_gpu_is_kernels_alone_without_copies(dtype: str) -> None:
    model, optimizer, generator = _parts(dtype, attention_bias=True)
    step = seqlib.compile(
        training_step(model, optimizer, generator, 0.1), state=[model, optimizer, generator], device="cuda"
    )
    ids, lengths = Meta((8, 16), np.dtype("int32")), Meta((8,), np.dtype("int32"))
    program = step.lower(Batch(ids, lengths, ids, ids, lengths))
    launches = program.plan.launches
    counts = Counter(launch.name for launch in launches)
    print(f"{program.summary()}: {dict(counts.most_common())}")
    assert not [x.name for x in launches if x.op is not None and x.kernel is None]
    assert not {"contiguous", "stage", "reshape"} & set(counts), "copies of activations"
    assert not program.plan.copies[1:], "the generator's state alone"
    joined = [x for x in launches if x.name == "concatenate"]
    assert all(
        o is not None and o.meta.shape[-1] in (64, 128, 192) and len(o.meta.shape) < 3 for x in joined for o in x.outs
    )
    assert counts["concatenate"] == 2 * (2 + 4), "weights and biases of joined projections, once each"
    assert counts["add_dropout_layer_norm"] == counts["add_dropout_layer_norm_bwd"] == 10, (
        "all but the first of a stack"
    )
    assert counts["cast"] <= 1, "of the loss's gradient; weights are never cast"
    assert counts["adamw_copy"] == sum(1 for p in model.parameters() if p.copies)
    products = [x for x in launches if x.name in ("matmul", "matmul_sums")]
    wide = [x for x in products if x.outs[0].meta.dtype == dtypes.float32]
    assert len(wide) == 2 * 4 + 2 * 7, "the gradients of weights, in float32"
    assert all(p.dtype == dtypes.float32 for p in model.parameters())


def test_in_bfloat16_a_model_learns_as_in_float32() -> None:
    curves = []
    for dtype in ("float32", "bfloat16"):
        model, optimizer, generator = _parts(dtype, dropout=0.0)
        step = training_step(model, optimizer, generator, 0.0)
        losses = []
        for _ in range(4):
            total, weight, norm = step(_batch())
            assert total.dtype == weight.dtype == norm.dtype == np.float32
            losses.append(total.item() / weight.item())
        curves.append(losses)
        copies = {v.name: v for v in collect_variables(model).values() if v.dtype == dtypes.bfloat16}
        assert bool(copies) == (dtype == "bfloat16")
        for p in model.parameters():
            for copy in p.copies.values():
                assert copy.numpy().tobytes() == p.numpy().astype(dtypes.bfloat16).tobytes()
    assert np.allclose(curves[0], curves[1], rtol=0.02) and curves[1][-1] < curves[1][0] - 0.3


def test_gradients_of_weights_are_not_rounded_to_16_bits() -> None:
    model, *_ = _parts("bfloat16", dropout=0.0)
    params = model.trainable_parameters()
    _, grads = seqlib.value_and_grad(lambda: model.loss(_batch())[0], params=params)()
    for name, g in grads.items():
        assert g.dtype == np.float32
        if params[name].copies:
            rounded = g.numpy().astype(dtypes.bfloat16).astype(np.float32)
            assert not np.array_equal(rounded, g.numpy()), name
