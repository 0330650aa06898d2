"""Fine-tuning of a tiny BERT: in full, by layers, by adapters; what is new in it, and what can't be had."""

from __future__ import annotations

import csv
import json
import random

import numpy as np
import pytest
from safetensors.numpy import load_file

import seqlib
from seqlib import bundle
from seqlib.cli.main import main
from seqlib.core.rng import Generator
from seqlib.data.pretrained import read_tokenizer
from seqlib.hub.fine_tune import fine_tune, settings
from seqlib.hub.load import module, read_model
from seqlib.hub.publish import to_transformers
from seqlib.models.bert import BertConfig, build
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.train.setup import layer_rates
from seqlib.util.errors import UsageError
from seqlib.util.manifest import file_digest
from tests.hub.stored import Stored

WORDS = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdefghijklmnopqrstuvwxyz.,!?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = Stored("bert_masked").write(tmp_path_factory.mktemp("bert"))
    (found / "vocab.txt").write_text("\n".join(WORDS))
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Texts of two classes: with more of the letters a to d, or of w to z."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("data") / "texts.csv"
    with open(path, "w", newline="") as file:
        write = csv.writer(file)
        write.writerow(["text", "label"])
        for number in range(200):
            letters = "abcd" if number % 2 else "wxyz"
            text = [draw.choice(letters if draw.random() < 0.8 else "klmnop") for _ in range(6)]
            write.writerow([" ".join(text), ("last", "first")[number % 2]])
    return path


def run(handle, table, output, **optim):
    given = {
        "data": {"paths": [str(table)], "text": ["text"], "label": "label", "cache_dir": str(output / "cache")},
        "optim": {"lr": 5e-3, "warmup": 5, **optim},
        "batch": {"tokens": 256},
        "train_steps": 40,
        "eval_every": 40,
        "average": 0,
        "baselines": False,
        "report": False,
        "output_dir": str(output / "run"),
        "device": "cpu",
    }
    return fine_tune(handle, given)


def texts(count=20):
    return [" ".join("abcd" if i % 2 else "wxyz") for i in range(count)], ["last", "first"] * (count // 2)


def test_in_full(folder, table, tmp_path, capsys):
    result = run(folder, table, tmp_path)
    told = capsys.readouterr().err
    assert f"weights of {folder}; new: dense.bias, dense.weight, output.bias, output.weight" in told
    assert "not used: cls.predictions" in told
    model = seqlib.load(result.model)
    given, wanted = texts()
    assert [found.label for found in model.classify(given)] == wanted
    before = read_model(folder).bert.state_dict()
    after = model.model.bert.state_dict()
    assert before.keys() == after.keys()
    assert all(np.abs(before[name] - after[name]).max() > 1e-5 for name in before if "positions" not in name)
    assert all(np.abs(before[name] - after[name]).max() < 0.3 for name in before)  # it is where it started


def test_by_adapters(folder, table, tmp_path):
    result = run(folder, table, tmp_path, lora_rank=2, lora_targets=["*.q_proj", "*.v_proj", "*.in_proj"])
    model = seqlib.load(result.model)
    given, wanted = texts()
    assert [found.label for found in model.classify(given)] == wanted
    before, after = read_model(folder).bert.state_dict(), model.model.bert.state_dict()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    adapted = ("attention.q_proj", "attention.v_proj", "feed_forward.in_proj")
    assert changed == {f"layers.{i}.{part}.weight" for i in range(2) for part in adapted}
    adapter = load_file(result.model / "adapter.safetensors")
    head = {f"{part}.{kind}" for part in ("dense", "output") for kind in ("weight", "bias")}
    assert set(adapter) == head | {f"bert.layers.{i}.{part}.{m}" for i in range(2) for part in adapted for m in "ab"}


def test_rates_fall_from_layer_to_layer():
    names = ["bert.embedding.weight", "bert.embedding_norm.weight", "bert.layers.0.attention.q_proj.weight"]
    names += ["bert.layers.1.feed_forward.in_proj.bias", "dense.weight", "output.bias"]
    assert layer_rates(names, 1.0) == {}
    found = layer_rates(names, 0.5)
    assert [found[name] for name in names] == [0.125, 0.125, 0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("optimizer", "more"), [("adamw", {}), ("sgd", {"momentum": 0.0})])
def test_a_slow_layer_moves_less(optimizer, more):
    from seqlib.core.tensor import Parameter, tensor
    from seqlib.optim import SGD, AdamW

    params = {name: Parameter(np.ones((2, 2), np.float32)) for name in ("a", "b")}
    kind = {"adamw": AdamW, "sgd": SGD}[optimizer]
    made = kind(params, lr=0.1, clip_norm=None, **more).slow_down({"a": 0.25, "b": 1.0})
    made.update({name: tensor(np.full((2, 2), 0.5, np.float32)) for name in params})
    moved = {name: 1 - parameter.numpy() for name, parameter in params.items()}
    assert np.allclose(moved["a"], 0.25 * moved["b"], rtol=1e-4) and moved["b"].min() > 0.01


def test_a_module_as_a_layer(folder):
    layer = module(folder, trainable=False)
    assert not layer.trainable_parameters()
    layer = module(folder, trainable=["bert.layers.1.*", "dense.*"])
    names = set(layer.trainable_parameters())
    assert names and all(name.startswith(("bert.layers.1.", "dense.")) for name in names)
    assert len(module(folder).trainable_parameters()) == len(layer.named_parameters())
    with pytest.raises(UsageError):
        module(folder, trainable="none.*")


def test_what_cant_be_had(folder):
    with pytest.raises(UsageError, match="is a bert: leave out --model"):
        settings({"pretrained": str(folder), "model": "text_cnn"})
    with pytest.raises(UsageError, match="a tokenizer of its own: leave out --tokenizer"):
        settings({"pretrained": str(folder), "data": {"tokenizer": "unigram"}})


def test_what_was_fine_tuned_is_published(folder, table, tmp_path, capsys):
    result = run(folder, table, tmp_path, lora_rank=2)
    published, www = tmp_path / "published", tmp_path / "www" / "letters"
    assert main(["hub", "convert", str(result.folder), str(published), "--to", "transformers"]) == 0
    assert main(["hub", "push", str(published), str(www)]) == 0
    given, wanted = texts()
    found, expected = (seqlib.load(place).classify(given) for place in (www, result.model))
    assert [one.label for one in found] == wanted
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-6)
    config = json.loads((published / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"] and config["id2label"]["0"] == "first"
    card = (www / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card and "- dev accuracy: " in card and "texts.csv" in card
    assert f"| model.safetensors | `{file_digest(www / 'model.safetensors')}` |" in card
    assert str(tmp_path) not in card and str(folder) not in card  # nobody's folders


def test_a_number_is_published_as_it_is(folder, tmp_path):
    labels = Labels(kind="regression", low=2.0, high=10.0)
    spec = ProblemSpec(task="text_classification", source_vocab=99, target_vocab=1, bos_id=2, eos_id=3, labels=labels)
    config = BertConfig(vocab=99, layers=1, d_model=16, d_ff=16, heads=2, max_length=32)
    tokenizer = read_tokenizer(folder)
    model = build(config, spec, Generator(3))
    made = {"architecture": "bert", "model_config": config, "weights": model.state_dict(), "tokenizer": tokenizer}
    bundle.write(tmp_path / "a", spec=spec, problem={"name": "n"}, generation={}, training={}, metrics={}, **made)
    to_transformers(bundle.read(tmp_path / "a"), tmp_path / "b")
    first, second = ([x.value for x in seqlib.load(tmp_path / n).classify(["a b", "w x y z"])] for n in "ab")
    assert 2 < min(first) < max(first) < 10
    assert second == pytest.approx(first, rel=1e-5)
