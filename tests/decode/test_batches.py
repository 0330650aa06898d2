"""A sentence alone is the sentence in any batch: the same tokens and the same float32 scores, to the bit."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.decode.engine import Engine
from seqlib.decode.load import load
from seqlib.decode.translate import Translator
from seqlib.models import lstm_seq2seq
from seqlib.models.lstm_seq2seq import LSTMSeq2SeqConfig
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec


def random_engine(d_model: int, vocabulary: int, **sizes) -> Engine:
    """A model whose random weights are sharp enough for outputs of many lengths and flat enough for near ties."""
    spec = ProblemSpec(source_vocab=vocabulary, target_vocab=vocabulary)
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=1, d_model=d_model, d_ff=2 * d_model, max_length=90, tie_output=False, **sizes
    )
    model = build(config, spec, Generator(3))
    weights = model.state_dict()
    weights["output_weight"] = weights["output_weight"] * np.float32(2.0)
    weights["output_weight"][spec.eos_id] *= 2.0
    model.load(weights)
    return Engine(model.eval(), spec)


def answers(engine: Engine, sources, order, batch: int, **options) -> dict[int, list]:
    """For each sentence its hypotheses, every float as bytes."""
    found = {}
    for begin in range(0, len(order), batch):
        members = order[begin : begin + batch]
        for i, hypotheses in zip(members, engine.decode([sources[i] for i in members], **options), strict=True):
            found[i] = [(h.tokens, h.token_log_probs.tobytes(), h.log_prob, h.score, h.stop_reason) for h in hypotheses]
    return found


def all_ways(engine: Engine, sources, **options) -> None:
    given = list(range(len(sources)))
    by_length = sorted(given, key=lambda i: len(sources[i]))
    shuffled = np.random.default_rng(1).permutation(given).tolist()
    expected = answers(engine, sources, given, 1, **options)
    for order in (given, by_length, shuffled):
        for batch in (7, 32):
            assert answers(engine, sources, order, batch, **options) == expected


def drawn(count: int, vocabulary: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(4, vocabulary, n).tolist() for n in rng.integers(1, 40, count)]


@pytest.mark.parametrize("beam", [1, 4])
def test_random_weights(beam: int) -> None:
    engine = random_engine(48, 300, heads=4)
    all_ways(engine, drawn(200, 300), beam=beam, n_best=beam, max_length=8)


def test_other_sizes_and_rotary_positions() -> None:
    engine = random_engine(128, 1100, heads=2, positions="rotary", norm="post", activation="gelu")
    all_ways(engine, drawn(16, 1100), beam=3, n_best=2, max_length=18)


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
@pytest.mark.parametrize("numba", [True, False])
def test_recurrent_models(
    monkeypatch: pytest.MonkeyPatch, attention: Literal["bahdanau", "luong"], numba: bool
) -> None:
    if not numba:
        monkeypatch.setattr("seqlib.core.op.installed", lambda package: False)
    spec = ProblemSpec(source_vocab=300, target_vocab=300)
    config = LSTMSeq2SeqConfig(
        layers=1, d_model=40, hidden=64, attention=attention, input_feeding=attention == "luong", max_length=90
    )
    engine = Engine(lstm_seq2seq.build(config, spec, Generator(3)).eval(), spec)
    for beam in (1, 3):
        all_ways(engine, drawn(30, 300), beam=beam, n_best=beam, max_length=10)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqlib.core.op.installed", lambda package: False)
    engine = random_engine(48, 300, heads=4)
    for beam in (1, 3):
        all_ways(engine, drawn(20, 300), beam=beam, n_best=beam, max_length=12)


@pytest.fixture(scope="module")
def multi30k(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Translator:
    """A model that has seen half an epoch of Multi30k: its outputs are short and long, right and wrong."""
    folder = tmp_path_factory.mktemp("multi30k")
    command = [sys.executable, "-m", "seqlib", "train", "--problem", "translate_multi30k_ende"]
    command += ["--data_dir", str(shared_data / "multi30k"), "--hparams_set", "transformer_multi30k"]
    command += ["--data.cache_dir", str(folder / "cache"), "--output_dir", str(folder / "run")]
    command += ["--train_steps", "300", "--decode.dev_sentences", "-1"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return load(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 4])
def test_a_thousand_real_sentences(shared_data: Path, multi30k: Translator, beam: int) -> None:
    with gzip.open(shared_data / "multi30k" / "test_2016_flickr.en.gz", "rt", encoding="utf-8") as lines:
        sources = [multi30k.tokenizer.encode(line.strip()) for line in lines]
    assert len(sources) == 1000
    all_ways(multi30k.engine, sources, beam=beam)
