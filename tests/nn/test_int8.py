"""Weights of 8 bits: what is lost, what is kept, and where they can't be had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.rng import Generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, tensor
from seqlib.decode.engine import Engine
from seqlib.models import gpt2
from seqlib.models.gpt2 import GPT2Config
from seqlib.models.transformer import TransformerConfig, build
from seqlib.nn import Linear
from seqlib.nn.lora import add_lora
from seqlib.nn.precision import resolve_precision
from seqlib.nn.weights import Int8Weight, product
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError

pytest.importorskip("numba")
SPEC = ProblemSpec(source_vocab=300, target_vocab=300)


def translator(**sizes: Any) -> Any:
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, d_model=64, d_ff=128, heads=4, **sizes)
    return build(config, SPEC, Generator(3)).eval()


def in_int8(model: Any) -> Any:
    resolve_precision("int8", "cpu", model).apply(model)
    return model


def test_a_product_is_as_good_as_eight_bits_allow() -> None:
    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=(n, 200)).astype(np.float32) for n in (50, 9))
    weight = Int8Weight(Parameter(w))
    with no_grad():
        found = product(tensor(x), weight, weight).numpy()
        rows = weight.rows(tensor(np.array([[3], [49]], np.int32))).numpy()
    step = np.abs(w).max(axis=1) / 127
    assert np.abs(rows[:, 0] - w[[3, 49]]).max() <= 0.51 * step.max()
    # Two roundings, each of uniform error: step / sqrt(12) of every number.
    deviation = np.sqrt(200 / 12) * np.sqrt(step**2 + (np.abs(x).max(axis=1, keepdims=True) / 127) ** 2)
    assert np.all(np.abs(found[:, :50] - x @ w.T) < 6 * deviation)
    assert found[:, 50:].tobytes() == found[:, :50].tobytes()


def test_nan_and_infinity_come_through_and_touch_no_other_row() -> None:
    weight = Int8Weight(Parameter(np.eye(16, dtype=np.float32)))
    x = np.ones((3, 16), np.float32)
    x[0, 3], x[1, 5] = np.nan, np.inf
    with no_grad():
        found = product(tensor(x), weight).numpy()
    assert not np.isfinite(found[:2]).any() and np.allclose(found[2], 1)


def test_a_sentence_alone_is_the_sentence_in_any_batch() -> None:
    engine = Engine(in_int8(translator()), SPEC)
    rng = np.random.default_rng(0)
    sources = [rng.integers(4, 300, n).tolist() for n in rng.integers(1, 30, 24)]
    together = engine.decode(sources, beam=3, max_length=12)
    for source, expected in zip(sources, together, strict=True):
        (alone,) = engine.decode([source], beam=3, max_length=12)
        assert (alone[0].tokens, alone[0].score) == (expected[0].tokens, expected[0].score)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_keeps_its_scores_and_a_quarter_of_its_matrices(tied: bool) -> None:
    model = translator(tie_output=tied)
    rng = np.random.default_rng(0)
    src, tgt = (rng.integers(4, 300, (4, 12)).astype(np.int32) for _ in range(2))
    lengths = np.full(4, 12, np.int32)
    matrices = sum(p.data.nbytes for p in model.parameters() if p.ndim == 2)
    with no_grad():
        exact = model(src, lengths, tgt).numpy()
        in_int8(model)
        found = model(src, lengths, tgt).numpy()
    kept = sum(v.data.nbytes for name, v in model.state_variables().items() if name.endswith(("words", "scale")))
    assert kept < 0.29 * matrices  # a scale a row, and rows filled up to 16
    assert (model.output_weight is model.target_embedding.weight) == tied
    assert not [p for p in model.parameters() if p.ndim == 2]
    correlation = np.corrcoef(found.reshape(-1), exact.reshape(-1))[0, 1]
    assert 0.995 < correlation < 1


def test_the_loss_of_a_language_model_in_int8() -> None:
    model: Any = gpt2.build(GPT2Config(layers=2, d_model=64, heads=4, max_length=32), SPEC, Generator(0)).eval()
    from seqlib.data.batch import TextBatch

    rng = np.random.default_rng(0)
    batch = TextBatch(*(rng.integers(0, 300, (3, 20)).astype(np.int32) for _ in range(2)))
    with no_grad():
        exact = model.loss(batch)[0].item()
        found = in_int8(model).loss(batch)[0].item()
    assert found != exact and abs(found / exact - 1) < 2e-3


def test_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    model = translator()
    add_lora(model, 2)
    with pytest.raises(UsageError, match=r"precision int8: .* has adapters; merge them"):
        in_int8(model)
    with pytest.raises(UsageError, match=r"precision int8: is for the CPU"):
        resolve_precision("int8", "cuda", Linear(4, 4))
    monkeypatch.setattr("seqlib.nn.precision.installed", lambda package: False)
    with pytest.raises(UsageError, match=r"precision int8: takes numba, which is not installed"):
        resolve_precision("int8", "cpu", Linear(4, 4))


PROBE = """
import llvmlite.binding as llvm
found = {name: there and "vnni" not in name and (WIDE or not name.startswith("avx512"))
         for name, there in llvm.get_host_cpu_features().items()}
llvm.get_host_cpu_features = lambda: type("Features", (dict,), {"flatten": lambda self: ""})(found)
import numpy as np
from seqlib.core.op import OPS
from seqlib.core.ops import int8_cpu, vectors_cpu
from tests.core.samples import samples
assert "avx512vnni" not in vectors_cpu.FEATURES
for sample in samples(OPS["int8_product"]):
    x, words = sample.inputs[:2]
    expected = OPS["int8_product"].fn(np, *sample.inputs)
    out = np.empty_like(expected)
    int8_cpu.product([out], sample.inputs, [np.empty((len(x), words.shape[1] + 2), np.int32)])
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
"""


@pytest.mark.parametrize("wide", [True, False])
def test_the_same_without_instructions_for_bytes(tmp_path: Path, wide: bool, run_python: Callable[..., str]) -> None:
    run_python(PROBE.replace("WIDE", str(wide)), SEQLIB_CACHE=str(tmp_path))


def test_ids_out_of_bounds() -> None:
    weight = Int8Weight(Parameter(np.eye(4, dtype=np.float32)))
    with pytest.raises(ops.IndexRangeError):
        weight.rows(tensor(np.array([4], np.int32)))
