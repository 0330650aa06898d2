"""GPT-2, Llama and its kin, Gemma 3: logits, greedy and beam search of transformers, its names, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import seqlib
from seqlib.decode.engine import Engine
from seqlib.hub.load import read_model, spec_from
from seqlib.hub.save import save_pretrained
from seqlib.util.errors import UsageError
from tests.hub.stored import Stored

GENERATORS = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma3")


def logits(model, stored):
    with seqlib.no_grad():
        return model(stored.given["input_ids"].astype(np.int32)).numpy()


@pytest.mark.parametrize("name", GENERATORS)
def test_as_transformers(name, tmp_path):
    stored = Stored(name)
    model = read_model(stored.write(tmp_path / "theirs")).eval()
    found = logits(model, stored)
    assert np.abs(found - stored.answers["logits"]).max() < 1e-4

    engine = Engine(model, spec_from(stored.config))
    prompts = stored.given["input_ids"].tolist()
    for beam in (1, 3):
        *_, search = engine.generate(prompts, max_tokens=24, beam=beam, alpha=0.0)
        for (best,), row in zip(search.results(), stored.answers[f"beam{beam}"].tolist(), strict=True):
            ended = 2 in row
            if beam > 1 and not ended:  # transformers ranks what is cut at the limit among what has ended
                continue
            wanted = row[: row.index(2)] if ended else row
            assert list(best.tokens)[8:] == wanted

    save_pretrained(model, tmp_path / "ours")
    saved = load_file(tmp_path / "ours/model.safetensors")
    assert saved.keys() == stored.weights.keys()
    assert all(np.array_equal(saved[key], value.astype(np.float32)) for key, value in stored.weights.items())
    config = json.loads((tmp_path / "ours/config.json").read_text())
    for key in config.keys() & stored.config.keys():
        assert config[key] == stored.config[key], key
    assert np.array_equal(logits(read_model(tmp_path / "ours").eval(), stored), found)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("gpt2", {"activation_function": "relu"}, "activation_function 'relu' is not supported"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not one of"),
        ("qwen2", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("mistral", {"architectures": ["MistralForTokenClassification"]}, "MistralForTokenClassification has a head"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "soft caps"),
    ],
)
def test_what_is_not_known_is_named(name, change, words, tmp_path):
    stored = Stored(name)
    stored.config |= change
    with pytest.raises(UsageError, match=words):
        read_model(stored.write(tmp_path))
