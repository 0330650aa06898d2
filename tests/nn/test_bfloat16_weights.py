"""Weights of models in use that are kept in bfloat16, as oneDNN multiplies by them: right, seen when they change, half
the memory, and safe in threads."""

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import dtypes, ops
from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends import onednn_library_cpu as library
from seqlib.core.modes import set_half_products
from seqlib.core.rng import Generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, tensor
from seqlib.decode.engine import Engine
from seqlib.hub.save import save_pretrained
from seqlib.models import bert, gpt2
from seqlib.models.transformer import TransformerConfig, build
from seqlib.nn import Linear
from seqlib.nn.linear import joined
from seqlib.nn.lora import add_lora, load_adapter, save_adapter
from seqlib.nn.precision import resolve_precision
from seqlib.nn.weights import BFloat16Weight, product
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError

pytestmark = pytest.mark.skipif(not onednn.packs_bfloat16(), reason="needs oneDNN and instructions for bfloat16")
SPEC = ProblemSpec(source_vocab=300, target_vocab=300)


@pytest.fixture(autouse=True)
def _float32_afterwards() -> Any:
    yield
    set_half_products(False)


def translator(**sizes: Any) -> Any:
    config = TransformerConfig(encoder_layers=1, decoder_layers=1, d_model=64, d_ff=128, heads=4, **sizes)
    return build(config, SPEC, Generator(3)).eval()


def in_bfloat16(model: Any) -> Any:
    resolve_precision("bf16", "cpu", model, in_use=True).apply(model)
    return model


def rounded(x: Any) -> Any:
    return x.astype(dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 7, 5), (1, 512, 3000), (9, 100, 64), (33, 130, 200), (300, 96, 520)])
def test_a_product_is_that_of_the_rounded_numbers(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(0)
    w, x, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((n, k), (m, k), n))
    weight = BFloat16Weight(Parameter(w))
    exact = rounded(x).astype(float) @ rounded(w).T + bias
    with no_grad():
        for activation in (None, ops.relu, ops.gelu_tanh, ops.gelu_erf, ops.tanh):
            found = product(tensor(x), weight, bias=tensor(bias), activation=activation).numpy()
            expected = exact if activation is None else activation(tensor(exact)).numpy()
            np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(exact).max(), rtol=1e-5)
        rows = weight.rows(np.arange(n, dtype=np.int32)).numpy()
    assert rows.tobytes() == rounded(w).tobytes() == weight.restored().numpy().tobytes()


def test_layers_on_one_input_are_side_by_side() -> None:
    x = tensor(np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32))
    layers = [Linear(64, n) for n in (70, 64, 3)]
    with no_grad():
        for layer in layers:
            in_bfloat16(layer)
        found = joined(x, *layers).numpy()
        apart = [layer(x).numpy() for layer in layers]
        np.testing.assert_allclose(found, np.concatenate(apart, axis=1), atol=1e-6)
        layers[1].weight = layers[1].weight.restored()  # as beside a layer with an adapter
        np.testing.assert_allclose(joined(x, *layers).numpy(), found, atol=0.02)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_keeps_its_scores_and_half_of_its_matrices(tied: bool) -> None:
    model = translator(tie_output=tied)
    rng = np.random.default_rng(0)
    src, tgt = (rng.integers(4, 300, (4, 12)).astype(np.int32) for _ in range(2))
    lengths = np.full(4, 12, np.int32)
    arrays = [p.data for p in model.parameters() if p.ndim == 2]
    matrices = sum(array.nbytes for array in arrays)
    freed = [weakref.ref(p) for p in model.parameters() if p.ndim == 2]
    del arrays
    with no_grad():
        exact = model(src, lengths, tgt).numpy()
        in_bfloat16(model)
        found = model(src, lengths, tgt).numpy()
    gc.collect()
    assert not any(ref() for ref in freed)
    kept = sum(v.data.nbytes for name, v in model.state_variables().items() if name.endswith("words"))
    assert kept < 0.55 * matrices  # columns are filled up to 64
    assert (model.output_weight is model.target_embedding.weight) == tied
    assert not model.trainable_parameters()
    np.testing.assert_allclose(found, exact, atol=0.05 * np.abs(exact).max())
    assert found.tobytes() != exact.tobytes()


def test_the_loss_of_a_language_model() -> None:
    from seqlib.data.batch import TextBatch

    config = gpt2.GPT2Config(layers=2, d_model=64, heads=4, max_length=32)
    model: Any = gpt2.build(config, SPEC, Generator(0)).eval()
    rng = np.random.default_rng(0)
    batch = TextBatch(*(rng.integers(0, 300, (3, 20)).astype(np.int32) for _ in range(2)))
    with no_grad():
        exact = model.loss(batch)[0].item()
        found = in_bfloat16(model).loss(batch)[0].item()
    assert found != exact and abs(found / exact - 1) < 1e-3


def test_changed_and_exchanged_weights_are_seen() -> None:
    layer = Linear(64, 32)
    w, x = layer.weight, np.ones((3, 64), np.float32)
    layer.weight = BFloat16Weight(w)
    compiled = seqlib.compile(lambda x: layer(x), state=[layer])
    with no_grad():
        first = compiled(x).numpy()
        assert compiled(x).numpy().tobytes() == first.tobytes()
        layer.weight.words.assign(BFloat16Weight(Parameter(2 * w.numpy())).words)
        assert compiled(x).numpy().tobytes() == (2 * first).tobytes()
        layer.weight = BFloat16Weight(Parameter(-w.numpy()))
        assert compiled(x).numpy().tobytes() == (-first).tobytes()


def test_a_model_in_training_keeps_its_weights() -> None:
    model = translator()
    resolve_precision("bf16", "cpu", model).apply(model)
    assert model.trainable_parameters() and not any(
        isinstance(m, BFloat16Weight) for m in model.named_modules().values()
    )


def test_threads_give_the_same() -> None:
    engine = Engine(in_bfloat16(translator()), SPEC)
    rng = np.random.default_rng(0)
    sources = [rng.integers(4, 300, n).tolist() for n in rng.integers(1, 30, 8)]
    expected = [h[0].score for h in engine.decode(sources, beam=3, max_length=12)]
    weight = BFloat16Weight(Parameter(rng.normal(size=(600, 512)).astype(np.float32)))
    x = tensor(rng.normal(size=(40, 512)).astype(np.float32))
    with no_grad():
        alone = product(x, weight).numpy().tobytes()
    found: list[Any] = []

    def work() -> None:
        with no_grad():
            found.append(
                [h[0].score for h in engine.decode(sources, beam=3, max_length=12)] == expected
                and all(product(x, weight).numpy().tobytes() == alone for _ in range(20))
            )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_adapters_are_added_to_what_the_weights_are(tmp_path: Path) -> None:
    model = translator()
    add_lora(model, 2, targets=("*q_proj",), name="law")
    for name, parameter in model.named_parameters().items():
        if name.endswith(".b.law"):
            parameter.assign(np.full(parameter.shape, 0.1, np.float32))
    save_adapter(model, tmp_path / "law.safetensors", "law")
    src, tgt = (np.full((2, 5), 7, np.int32) for _ in range(2))
    lengths = np.full(2, 5, np.int32)
    with no_grad():
        exact = model(src, lengths, tgt).numpy()
        for other in (in_bfloat16(model), in_bfloat16(translator())):
            if other is not model:
                load_adapter(other, tmp_path / "law.safetensors", "law")
            np.testing.assert_allclose(other(src, lengths, tgt).numpy(), exact, atol=0.05 * np.abs(exact).max())


def test_what_it_is_not_for(tmp_path: Path) -> None:
    layer = in_bfloat16(Linear(8, 4))
    with pytest.raises(UsageError, match="of a model in use, have no gradients; load it in fp32"):
        seqlib.value_and_grad(lambda x: seqlib.sum(layer(x)))(seqlib.ones((2, 8)))
    with no_grad():
        assert layer(seqlib.ones((2, 8))).shape == (2, 4)
    model = in_bfloat16(bert.Bert(bert.BertConfig(d_model=32, layers=1, heads=2, d_ff=32, vocab=50)))
    with pytest.raises(UsageError, match="of a model in use, are not saved; load it in fp32"):
        save_pretrained(model, tmp_path / "saved")


def test_what_oneDNN_made_goes_with_what_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "KEPT", 3)
    rng = np.random.default_rng(0)
    packed = onednn.packed(rng.normal(size=(40, 70)).astype(np.float32))
    out, made = np.empty((20, 70), np.float32), []
    for m in range(1, 12):
        a = rng.normal(size=(m, 40)).astype(np.float32)
        onednn.product(a, packed, out[:m], True)
        tiles = onednn._tiles(m, 40, 70, (40, 1), None, 70, True, onednn.After())
        made.append(weakref.ref(tiles[0][0].product.handle))
    del tiles
    assert len(library.the_library().thread.tables) <= 3
    for cached in (onednn._tiles, library.product_primitive, library.rounding):
        cached.cache_clear()
    gc.collect()
    assert sum(ref() is not None for ref in made) <= 3
    onednn.product(a, packed, out[:11], True)
    np.testing.assert_allclose(out[:11], rounded(a) @ rounded(onednn_rows(packed, 40, 70)), atol=1e-4)


def onednn_rows(packed: Any, k: int, n: int) -> Any:
    """The matrix [K,N] that was packed."""
    return ops.bfloat16_rows(np.arange(n, dtype=np.int32), packed, rows=n, width=k).numpy().T
