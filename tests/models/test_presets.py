"""Presets: exact sizes, parameter counts, settings that a run accepts."""

import math

import msgspec
import pytest

from seqlib.core.rng import Generator
from seqlib.models import transformer
from seqlib.models.preset import Preset
from seqlib.models.transformer import TransformerConfig
from seqlib.optim.schedule import Schedule
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError
from seqlib.util.lookup import available, resolve

NAMES = "base big bulletin multi30k multi30k_tiny small tiny".split()


def spec(vocabulary: int, shared: bool = True, target: int = 0) -> ProblemSpec:
    return ProblemSpec(source_vocab=vocabulary, target_vocab=target or vocabulary, shared_vocab=shared)


def expected_parameters(config: TransformerConfig, tables: int) -> int:
    """Closed formula, attention without biases: tables of V·D are counted by the caller."""
    d, f = config.d_model, config.d_ff
    ff, norm = 2 * d * f + f + d, 2 * d
    encoder = config.encoder_layers * (4 * d * d + ff + 2 * norm)
    decoder = config.decoder_layers * (8 * d * d + ff + 3 * norm)
    return tables * d + encoder + decoder + 2 * norm


def test_presets_are_found_by_name():
    found = [name for name in available("seqlib.models") if name.startswith("transformer_")]
    found.remove("transformer_encoder_base")  # of another module
    assert found == [f"transformer_{name}" for name in NAMES]
    for name in NAMES:
        preset = resolve(f"transformer_{name}", "seqlib.models", "preset")()
        assert isinstance(preset, Preset) and isinstance(preset.model, TransformerConfig) and preset.about


def test_t2t_sizes():
    sizes = {
        "tiny": (2, 128, 512, 4, 0.1),
        "small": (2, 256, 1024, 4, 0.1),
        "base": (6, 512, 2048, 8, 0.1),
        "big": (6, 1024, 4096, 16, 0.3),
    }
    for name, (layers, d, f, heads, dropout) in sizes.items():
        preset = getattr(transformer, name)()
        m = preset.model
        assert (m.encoder_layers, m.decoder_layers) == (layers, layers)
        assert (m.d_model, m.d_ff, m.heads, m.dropout) == (d, f, heads, dropout)
        assert (m.attention_dropout, m.ff_dropout, m.norm, m.norm_eps) == (0.1, 0.1, "pre", 1e-6)
        assert preset.overrides() == {
            "optim.lr": 2.0,
            "optim.schedule": "constant*linear_warmup*rsqrt_decay*rsqrt_hidden_size",
            "optim.warmup": 8000,
            "optim.betas": (0.9, 0.997),
            "optim.eps": 1e-9,
            "optim.weight_decay": 0.0,
            "optim.clip_norm": 0.0,
            "optim.smoothing": 0.1,
            "batch.tokens": 4096,
            "batch.max_length": 256,
        }


@pytest.mark.parametrize("name,vocabulary,millions", [
    ("tiny", 8000, 1.94), ("base", 32768, 60.9), ("bulletin", 4000, 0.49), ("multi30k", 8000, 2.35),
    ("multi30k_tiny", 8000, 2.35),
])  # fmt: skip
def test_parameter_counts(name: str, vocabulary: int, millions: float):
    config = getattr(transformer, name)().model
    count = transformer.build(config, spec(vocabulary), Generator(0)).num_parameters()
    assert count == expected_parameters(config, vocabulary)
    assert count / 1e6 == pytest.approx(millions, abs=0.01 * millions)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_a_run(name: str):
    from seqlib.train import config as run

    preset = getattr(transformer, name)()
    built = run.build(run.nested(preset.overrides()))
    optim = built.optim
    assert built.batch.max_length <= preset.model.max_length
    schedule = Schedule(
        optim.schedule, lr=optim.lr, warmup=optim.warmup, hidden_size=preset.model.d_model, train_steps=10_000
    )
    peak = max(schedule(step) for step in range(1, 10_000, 7))
    assert 3e-4 < peak < (2e-2 if optim.name == "muon" else 1e-2) and math.isfinite(schedule(10_000))


def test_config_is_checked():
    for bad, word in (
        ({"d_model": 10, "heads": 4}, "multiple"),
        ({"d_model": 9, "heads": 3}, "even"),
        ({"activation": "rellu"}, "relu"),
        ({"dropout": 1.0}, "dropout"),
        ({"ff_dropout": -0.1}, "ff_dropout"),
        ({"encoder_layers": 0}, "encoder_layers"),
        ({"heads": 8, "kv_heads": 3}, "kv_heads 3 must be a divisor of heads 8"),
    ):
        with pytest.raises(UsageError, match=word):
            TransformerConfig(**bad)
    with pytest.raises(msgspec.ValidationError, match="widht"):
        msgspec.convert({"widht": 3}, TransformerConfig)
    config = TransformerConfig(d_model=64, norm="post")
    assert msgspec.json.decode(msgspec.json.encode(config), type=TransformerConfig) == config
