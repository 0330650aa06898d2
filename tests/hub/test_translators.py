"""Marian, BART and T5: logits, greedy and beam search of transformers, its names, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import seqlib
from seqlib.decode.engine import Engine
from seqlib.hub.load import read_model
from seqlib.hub.save import save_pretrained
from seqlib.util.errors import UsageError
from tests.hub.stored import Stored

TRANSLATORS = ("marian", "bart", "t5", "t5_v1_1")


def logits(model, stored):
    ids, target = (stored.given[name].astype(np.int32) for name in ("input_ids", "decoder_input_ids"))
    with seqlib.no_grad():
        return model(ids, stored.given["attention_mask"].sum(axis=1).astype(np.int32), target).numpy()


@pytest.mark.parametrize("name", TRANSLATORS)
def test_as_transformers(name, tmp_path):
    stored = Stored(name)
    model = read_model(stored.write(tmp_path / "theirs")).eval()
    found = logits(model, stored)
    assert np.abs(found - stored.answers["logits"]).max() < 1e-4

    engine = Engine(model, model.spec)
    lengths = stored.given["attention_mask"].sum(axis=1)
    sources = [row[: n - 1].tolist() for row, n in zip(stored.given["input_ids"], lengths, strict=True)]
    for beam in (1, 4):
        answers = engine.decode(sources, beam=beam, penalty="power", alpha=1.0, max_length=16, early_stop=False)
        for (best,), row in zip(answers, stored.answers[f"beam{beam}"].tolist(), strict=True):
            ended = model.spec.eos_id in row[1:]
            if beam > 1 and not ended:  # transformers ranks what is cut at the limit among what has ended
                continue
            wanted = row[1 : row.index(model.spec.eos_id, 1)] if ended else row[1:]
            assert list(best.tokens) == wanted

    save_pretrained(model, tmp_path / "ours")
    saved = load_file(tmp_path / "ours/model.safetensors")
    assert saved.keys() == stored.weights.keys()
    assert all(np.array_equal(saved[key], value.astype(np.float32)) for key, value in stored.weights.items())
    config = json.loads((tmp_path / "ours/config.json").read_text())
    for key in config.keys() & stored.config.keys() - {"tie_word_embeddings"}:
        assert config[key] == stored.config[key], key
    assert np.array_equal(logits(read_model(tmp_path / "ours").eval(), stored), found)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("marian", {"decoder_ffn_dim": 32}, "different widths"),
        ("bart", {"architectures": ["BartForQuestionAnswering"]}, "BartForQuestionAnswering has a head"),
        ("t5", {"feed_forward_proj": "gated-tanh"}, "'gated-tanh' is not one of relu"),
    ],
)
def test_what_is_not_known_is_named(name, change, words, tmp_path):
    stored = Stored(name)
    stored.config |= change
    with pytest.raises(UsageError, match=words):
        read_model(stored.write(tmp_path))


def test_a_transformer_of_another_shape_is_not_written_as_marian(tmp_path):
    from seqlib.core.rng import Generator
    from seqlib.models.transformer import build, tiny
    from seqlib.problems.spec import ProblemSpec

    model = build(tiny().model, ProblemSpec(source_vocab=30, target_vocab=30), Generator(0))
    with pytest.raises(UsageError, match="no form in Hugging Face's format"):
        save_pretrained(model, tmp_path / "ours")
    model.family = "marian"
    with pytest.raises(UsageError, match="norm_eps 1e-06 is no Marian or Pegasus"):
        save_pretrained(model, tmp_path / "ours")
