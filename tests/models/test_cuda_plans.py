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
from seqlib.models import lstm_seq2seq, transformer
from seqlib.models.gpt2 import TextBatch
from seqlib.models.lstm_lm import LSTMLM, LSTMLMConfig
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import training_step
from tests.models.zoo import ZOO

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


def _trained(model: Any, batch: Any, dtype: str) -> Counter[str]:
    """The launches of a training step, by name."""
    if dtype != "float32":
        model.compute_in(dtype)
    optimizer, generator = AdamW(model.train().trainable_parameters(), clip_norm=1.0), Generator(2)
    step: Any = training_step(model, optimizer, generator, 0.0)
    program = seqlib.compile(step, state=[model, optimizer, generator], device="cuda").lower(batch)
    assert not _breaks(program)
    return Counter(x.name for x in program.plan.launches)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_lstm_language_model_has_a_launch_for_all_steps_of_a_layer_and_copies_no_activations(dtype: str) -> None:
    model = LSTMLM(LSTMLMConfig(vocab=64, layers=3, d_model=32, hidden=48, weight_dropout=0.2), Generator(1))
    ids: Any = Meta((4, 16), INT)
    names = _trained(model, TextBatch(ids, ids), dtype)
    assert names["lstm"] == names["lstm_bwd"] == names["matmul_bias"] == 3
    assert names["matmul"] + names["matmul_sums"] == 3 * 3
    assert names["contiguous"] <= 2, "token ids alone"
    assert names["cast"] <= (0 if dtype == "float32" else 1 + 2 * 3), "gradients of dropped weights"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
@pytest.mark.parametrize("feeding", [False, True])
def test_an_lstm_encoder_decoders_steps_are_kernels_alone(dtype: str, attention: Any, feeding: bool) -> None:
    config = lstm_seq2seq.LSTMSeq2SeqConfig(d_model=32, hidden=64, attention=attention, input_feeding=feeding)
    model = lstm_seq2seq.build(config, SPEC, Generator(1))
    names = _trained(model, _batch("padded"), dtype)
    assert names["lstm"] == names["lstm_bwd"] == 4 + (2 * 8 if feeding else 2)
    scores = (attention == "bahdanau") * (8 if feeding else 1)
    assert names["additive_scores"] == names["additive_scores_bwd"] == scores
    cache = model.eval().new_cache(2, 8, 8, 16)
    assert cache.h[0].dtype == cache.keys.dtype == dtype

    def step(tokens: Any, parents: Any) -> Any:
        with no_grad():
            cache.reorder(parents)
            return model.step(tokens, None, cache)

    rows = Meta((8,), INT)
    stepped = seqlib.compile(step, state=[model, cache], device="cuda").lower(rows, rows)
    assert not _breaks(stepped) and stepped.graph.outputs[0].dtype == np.float32


def test_recurrent_layers_fit_a_gpu_or_take_a_product_a_step() -> None:
    from seqlib.core import dtypes
    from seqlib.core.ops.recurrent_cuda import _split

    for rows, width, gates, blocks in ((20, 1500, 4, 125), (20, 650, 4, 55), (64, 1500, 3, 94), (1, 5, 4, 2)):
        found = [_split(rows, width, gates, 35, dtypes.bfloat16, backward) for backward in (False, True)]
        assert found[0] is not None and found[1] is not None and found[0].blocks == blocks
        for split in found:
            assert split is not None and split.blocks <= 132 and split.shared <= 227 << 10 and 8 * split.tiles >= rows
        assert found[0].blocks * found[0].units >= width and found[1].blocks // gates * found[1].units >= width
    for rows, width, steps, dtype in (
        (20, 1500, 35, dtypes.float32),
        (65, 64, 35, dtypes.bfloat16),
        (20, 2048, 35, dtypes.bfloat16),
        (20, 64, 1, dtypes.float16),
    ):
        assert _split(rows, width, 4, steps, dtype, False) is None


def test_large_products_of_uneven_rows_are_computed_on_copies_with_even_ones() -> None:
    """Rows of 1500 values of 16 bits are no multiple of 16 bytes."""
    from seqlib.core import dtypes
    from seqlib.core.op import OPS as declared
    from seqlib.core.ops import uneven_cuda

    def kernel(op: str, *shapes: tuple[int, ...], dtype: Any = dtypes.bfloat16, **attrs: Any) -> tuple[Any, list[Any]]:
        metas = [Meta(shape, dtype) for shape in shapes]
        whole = {**declared[op].defaults, **attrs}
        found = declared[op].kernel("cuda", metas, whole)
        assert found is not None
        copied = found.scratch is not None and "uneven" in getattr(found.scratch, "__module__", "")
        return copied, [] if found.scratch is None else [m.shape for m in found.scratch(metas, whole)]

    assert uneven_cuda._up(1500) == 1504
    turned = {"transpose_a": False, "transpose_b": True}
    assert kernel("matmul", (700, 1500), (6000, 1500), **turned) == (True, [(700, 1504), (6000, 1504)])
    assert kernel("matmul", (700, 6000), (6000, 1500)) == (True, [(6000, 1504), (700, 1504)])
    weight = {"transpose_a": True, "transpose_b": False, "wide": True}
    assert kernel("matmul", (700, 6000), (700, 1500), **weight) == (True, [(700, 1504), (6000, 1504)])
    assert kernel("matmul_bias", (700, 1500), (6000, 1500), (6000,)) == (True, [(700, 1504), (6000, 1504)])
    assert not kernel("matmul", (700, 1504), (6000, 1504), **turned)[0]
    assert not kernel("matmul", (70, 150), (60, 150), **turned)[0], "small"
    assert not kernel("matmul", (700, 1500), (6000, 1500), dtype=dtypes.float32, **turned)[0]


COPIES = {"contiguous", "stage", "reshape", "transpose", "slice", "slice_grad", "concatenate", "unstack", "pad", "flip"}


def _copied(launches: list[Any]) -> Counter[str]:
    """Launches that do nothing but move activations: what has 16 bits and is no parameter."""
    half = [x for x in launches if x.name in COPIES and x.ins[0].meta.dtype.name == "bfloat16"]
    return Counter(x.name for x in half if x.ins[0].buffer.kind == "arena")


def _layouts(batch: Any) -> Any:
    return type(batch)(*(None if x is None else Meta(x.shape, x.dtype) for x in batch))


MOVED = {
    "lstm_seq2seq, luong": 32,
    "lstm_seq2seq, bahdanau": 40,
    "lstm_classifier": 6,
    "gemma": 20,
    "bag_ngrams": 2,
    "bert": 1,
}
"""Copies allowed: a bidirectional encoder joins what its directions gave, and turns time and batch round; norms of
queries and keys are of parts of their joint product; n-grams are padded; a class is told from the first row."""


@pytest.mark.parametrize("name", ZOO)
def test_a_training_step_is_one_graph_and_copies_no_activations(name: str) -> None:
    make, batch = ZOO[name]
    model = make().train().compute_in("bfloat16")
    optimizer, generator = AdamW(model.trainable_parameters(), clip_norm=1.0), Generator(2)
    step: Any = training_step(model, optimizer, generator, 0.0)
    program = seqlib.compile(step, state=[model, optimizer, generator], device="cuda").lower(_layouts(batch()))
    assert not _breaks(program)
    found = _copied(program.plan.launches)
    assert found.total() <= MOVED.get(name, 0), found
    assert len(program.plan.copies) <= 1, "the generator's state alone is copied to its location"
