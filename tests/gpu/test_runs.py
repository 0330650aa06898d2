"""Whole runs on a GPU: training, resuming, translating, memory. Skipped where there is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

import seqlib
from seqlib.core import dtypes, ops
from seqlib.core.backends.cuda import cuda
from seqlib.core.ops import product_cuda
from seqlib.core.program import ARENAS
from seqlib.core.rng import Generator
from seqlib.core.tensor import Parameter
from seqlib.models.gpt2 import TextBatch
from seqlib.models.lstm_lm import LSTMLM, LSTMLMConfig
from seqlib.models.transformer import TransformerConfig, build
from seqlib.nn import Linear
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train import run
from seqlib.train.memory import forecast_memory, largest_batch
from seqlib.train.setup import make_config
from seqlib.train.step import CompiledStep
from seqlib.util.errors import OutOfMemoryError
from tests.train.conftest import write_corpus

pytestmark = pytest.mark.gpu


def _config(folder: Path, **changes: Any) -> Any:
    files = folder / "numbers.en", folder / "numbers.de"
    if not files[0].exists():
        write_corpus(folder)
    settings: dict[str, Any] = {
        "data": {
            "paths": [*map(str, files)],
            "tokenizer": "characters",
            "cache_dir": str(folder / "cache"),
            "dev_size": 24,
        },
        "model": "transformer",
        "hparams_set": "transformer_tiny",
        "hparams": {"encoder_layers": 1, "decoder_layers": 1, "d_model": 64, "d_ff": 128, "heads": 2, "max_length": 64},
        "optim": {"lr": 5e-3, "warmup": 20, "schedule": "constant*linear_warmup"},
        "batch": {"tokens": 1024, "max_length": 32},
        "train_steps": 60,
        "eval_every": 0,
        "save_every": 20,
        "average": 0,
        "report": False,
        "device": "cuda",
    }
    return make_config(settings | changes)


@pytest.mark.parametrize("kind", ["buckets", "packing"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, precision: str, kind: str) -> None:
    batch = {"tokens": 1024, "max_length": 32, "kind": kind}
    weights: list[dict[str, bytes]] = []
    for name, stops in (("whole", (60,)), ("parts", (20, 60))):
        output = tmp_path / name
        result = None
        for steps in stops:
            config = _config(tmp_path, precision=precision, batch=batch, output_dir=str(output), train_steps=steps)
            result = run.train(config) if steps == stops[0] else run.resume(output, config)
        assert result is not None and result.model is not None
        trained = seqlib.load(result.model, device="cpu")
        weights.append({n: p.numpy().tobytes() for n, p in trained.model.named_parameters().items()})
    assert weights[0] == weights[1]


def test_a_resumed_run_chooses_products_as_before_whatever_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 512, "d_ff": 2048, "heads": 8, "max_length": 64}
    config = _config(
        tmp_path, hparams=sizes, batch={"tokens": 8192, "max_length": 32}, output_dir=str(tmp_path / "run")
    )
    monkeypatch.setenv("SEQLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(product_cuda, "_used", {})
    product_cuda.planned.cache_clear()
    run.train(replace(config, train_steps=4))
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-4" / "state.json").read_text())
    before = state["products"]
    assert before
    monkeypatch.setattr(product_cuda, "_used", {})
    table = dict.fromkeys(before, 0)
    monkeypatch.setattr(product_cuda, "_choices", lambda: table)
    product_cuda.planned.cache_clear()
    run.resume(tmp_path / "run", replace(config, train_steps=6))
    after = product_cuda.used_choices()
    assert after and all(after[name] == choice for name, choice in before.items() if name in after)


def test_a_model_translates_on_either_device(tmp_path: Path) -> None:
    rate = {"lr": 5e-3, "warmup": 20, "schedule": "constant*linear_warmup*cosine_decay"}
    config = _config(tmp_path, output_dir=str(tmp_path / "run"), train_steps=1000, optim=rate)
    result = run.train(config)
    assert result.model is not None
    texts = ["one two three", "nine eight", "four four seven five"]
    found = {}
    for device, precision in (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16"), ("cuda", "fp16")):
        translator = seqlib.load(result.model, device=device, precision=precision)
        for beam in (1, 4):
            found[device, precision, beam] = translator.translate(texts, beam=beam)
    exact = [t.text for t in found["cpu", "fp32", 1]]
    assert exact == ["eins zwei drei", "neun acht", "vier vier sieben fünf"]
    for key, translations in found.items():
        assert [t.text for t in translations] == exact, key
    for beam in (1, 4):
        here, there = ([t.score for t in found[device, "fp32", beam]] for device in ("cpu", "cuda"))
        assert np.allclose(here, there, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_search_on_the_device_is_the_one_on_the_host(tmp_path: Path, precision: str) -> None:
    result = run.train(_config(tmp_path, output_dir=str(tmp_path / "run"), train_steps=60))
    assert result.model is not None
    translator = seqlib.load(result.model, device="cuda", precision=precision)
    texts = ["one two three", "nine eight", "four four seven five", "one"] * 5
    for options in ({"beam": 1}, {"beam": 4, "n_best": 4}, {"beam": 12, "n_best": 2, "alpha": 1.2}):
        found: list[Any] = []
        for on_device in (True, False, None):
            translator.engine.search_on_device = on_device
            found.append(translator.translate(texts, **options))
        assert found[0] == found[1] == found[2]


def test_elementwise_launches_give_the_same_bits_joined() -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.standard_normal(shape).astype(np.float32) for shape in ((7,), (300, 70), (1,), (1 << 20,), (5, 4))]
    step = seqlib.compile(lambda xs, s: [x + (x * x - x) * s for x in xs], device="cuda")
    apart, captured, again = ([y.numpy() for y in step(arrays, np.float32(0.3))] for _ in range(3))
    for x, one, two, three in zip(arrays, apart, captured, again, strict=True):
        assert np.array_equal(one, two) and np.array_equal(one, three)
        assert np.allclose(one, x + (x * x - x) * 0.3, atol=1e-6)


def test_the_forecast_of_memory_is_right_within_a_tenth(tmp_path: Path) -> None:
    sizes = {"encoder_layers": 4, "decoder_layers": 4, "d_model": 512, "d_ff": 2048, "heads": 8, "max_length": 64}
    config = _config(tmp_path, hparams=sizes, batch={"tokens": 16384, "max_length": 32})
    pool = cuda().xp.get_default_memory_pool()
    ARENAS["cuda"].release()  # other tests' programs share it
    before = pool.used_bytes()  # not the total: what others left behind serves again
    trainer = run.make_trainer(config, None)
    forecast = forecast_memory(trainer).total
    for _ in range(3):
        trainer.step(largest_batch(trainer))[0].item()
    assert forecast == pytest.approx(pool.used_bytes() - before, rel=0.1)


def test_out_of_memory_tells_bytes_and_the_largest_tensors() -> None:
    def outer(x: Any) -> Any:
        return seqlib.sum(seqlib.tanh(seqlib.reshape(x, (-1, 1)) @ seqlib.reshape(x, (1, -1))))

    compiled = seqlib.compile(outer, device="cuda")
    with pytest.raises(OutOfMemoryError, match=r"are needed for tensors, .* are free(?s:.)*matmul"):
        compiled(np.ones(400_000, np.float32))


def test_an_index_out_of_range_is_told_when_a_result_is_read() -> None:
    model = build(
        TransformerConfig(encoder_layers=1, decoder_layers=1, d_model=64, heads=2),
        ProblemSpec(source_vocab=9, target_vocab=9),
        Generator(0),
    )
    model.eval().to("cuda")
    ids = np.full((1, 4), 20, np.int32)
    with pytest.raises(IndexError, match="index out of range"):
        seqlib.compile(lambda s: model.encode(s, np.array([4], np.int32)), state=model)(ids).numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_tensor_that_is_not_finite_is_named(dtype: str) -> None:
    layer = Linear(8, 8)
    layer.weight.assign(np.full((8, 8), np.inf, np.float32))
    layer.to("cuda")
    found = seqlib.compile(layer, state=layer).find_non_finite(
        np.zeros((2, 8), np.float32).astype(seqlib.core.dtypes.canonical(dtype))
    )
    assert found is not None and found.kind == "NaN"


def test_modules_and_optimizers_move_there_and_back() -> None:
    layer = Linear(8, 4)
    layer.weight.keep_copy("bfloat16")
    optimizer = AdamW(layer.trainable_parameters())
    before = layer.weight.numpy()
    layer.to("cuda")
    optimizer.to("cuda")
    devices = {v.device for v in (*layer.parameters(), *optimizer.state_variables().values())}
    assert devices == {"cuda"} and layer.weight.copies[seqlib.core.dtypes.bfloat16].device == "cuda"
    layer.load({n: p.numpy() * 2 for n, p in layer.named_parameters().items()})
    assert np.array_equal(layer.to("cpu").weight.numpy(), before * 2) and layer.weight.device == "cpu"
    assert isinstance(layer.state_dict(copy=False)["weight"], np.ndarray)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_recurrent_model_learns_as_on_the_cpu_with_the_same_bits_each_time(dtype: str) -> None:
    """Widths that the kernel of all steps takes, states carried from step to step."""
    tokens = np.random.default_rng(0).integers(0, 40, (6, 31)).astype(np.int32)
    found: list[tuple[np.ndarray, bytes]] = []
    for device, compute in (("cpu", "float32"), ("cuda", dtype), ("cuda", dtype)):
        model = LSTMLM(
            LSTMLMConfig(vocab=40, layers=2, d_model=48, hidden=72, weight_dropout=0.2), Generator(0)
        ).train()
        if compute != "float32":
            model.compute_in(compute)
        model.to(device).carry(6)
        optimizer = AdamW(model.trainable_parameters(), lr=1e-2).to(device)
        step = CompiledStep(model, optimizer, Generator(1).to(device), 0.0)
        losses = [float(step([TextBatch(tokens[:, :-1], tokens[:, 1:])])[0].item()) for _ in range(12)]
        found.append((np.array(losses), b"".join(p.numpy().tobytes() for p in model.parameters())))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-4 if dtype == "float32" else 2e-2)
    assert found[0][0][-1] < found[0][0][0] and found[1][1] == found[2][1]


def test_recurrent_layers_of_nan_give_nan() -> None:
    """Their kernels tell by a pattern of bits what has come: one that no NaN they make has, whatever is given."""
    bits = np.full((2, 40), 0xFFFF, np.uint16)
    h0 = seqlib.tensor(bits.view(dtypes.bfloat16)).to("cuda")
    w_x, w_h = (Parameter(np.ones((160, n), dtypes.bfloat16), name) for n, name in ((8, "w_x"), (40, "w_h")))
    for w in (w_x, w_h):
        w.to("cuda")
    x = seqlib.tensor(np.full((2, 6, 8), np.nan, dtypes.bfloat16)).to("cuda")
    loss = lambda: seqlib.sum(ops.lstm(x, w_x, w_h, None, h0, h0)[0])  # noqa: E731
    value, (gradient, _) = seqlib.value_and_grad(loss, params=[w_x, w_h])()
    assert np.isnan(value.item()) and np.isnan(gradient.numpy().astype(np.float32)).all()
