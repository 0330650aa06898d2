"""BERT, RoBERTa and DistilBERT: what transformers computes, its names, and back; MiniLM's known answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import seqlib
from seqlib.core.rng import Generator
from seqlib.hub.load import read_model
from seqlib.hub.save import save_pretrained
from seqlib.models import bert
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.util.errors import SeqlibError, UsageError
from tests.hub.stored import NAMES, Stored

ENCODERS = [name for name in NAMES if name.startswith(("bert", "roberta", "distilbert"))]
WEIGHTS = Path(os.environ.get("SEQLIB_WEIGHTS", "/nowhere"))
KNOWN = Path(__file__).parents[3] / "shared/data/known_answers/minilm_l6_v2.npz"


def logits(model, stored):
    lengths = stored.given["attention_mask"].sum(axis=1).astype(np.int32)
    types = stored.given.get("token_type_ids")
    ids = stored.given["input_ids"].astype(np.int32)
    return model(ids, lengths, None if types is None else types.astype(np.int32)), lengths


@pytest.mark.parametrize("name", ENCODERS)
def test_as_transformers(name, tmp_path):
    stored = Stored(name)
    model = read_model(stored.write(tmp_path / "theirs")).eval()
    with seqlib.no_grad():
        found, lengths = logits(model, stored)
        if "pooler_output" in stored.answers:
            assert np.abs(model.pooled(found).numpy() - stored.answers["pooler_output"]).max() < 1e-5
    wanted = stored.answers.get("logits", stored.answers.get("last_hidden_state"))
    for row, length in enumerate(lengths) if wanted.ndim == 3 else ():
        assert np.abs(found.numpy()[row, :length] - wanted[row, :length]).max() < 1e-4
    if wanted.ndim == 2:
        assert np.abs(found.numpy() - wanted).max() < 1e-4

    save_pretrained(model, tmp_path / "ours")
    saved = load_file(tmp_path / "ours/model.safetensors")
    assert saved.keys() == stored.weights.keys()
    assert all(np.array_equal(saved[key], value.astype(np.float32)) for key, value in stored.weights.items())
    config = json.loads((tmp_path / "ours/config.json").read_text())
    for key in config.keys() & stored.config.keys():
        assert config[key] == stored.config[key], key
    again = read_model(tmp_path / "ours").eval()
    with seqlib.no_grad():
        assert np.array_equal(logits(again, stored)[0].numpy(), found.numpy())


def test_what_does_not_fit_is_listed_by_the_names_of_the_checkpoint(tmp_path):
    stored = Stored("bert_masked")
    stored.weights["bert.encoder.layer.0.attention.self.queri.weight"] = stored.weights.pop(
        "bert.encoder.layer.0.attention.self.query.weight"
    )
    with pytest.raises(SeqlibError) as error:
        read_model(stored.write(tmp_path))
    text = str(error.value)
    assert "missing (1):\n    bert.encoder.layer.0.attention.self.query.weight (is it bert.encoder.layer.0" in text
    assert "unexpected (1):\n    bert.encoder.layer.0.attention.self.queri.weight" in text


def test_a_base_checkpoint_has_names_without_a_prefix_and_gets_a_new_head(tmp_path):
    stored = Stored("bert_masked")
    checkpoint = {key.removeprefix("bert."): value for key, value in stored.weights.items() if key.startswith("bert.")}
    spec = ProblemSpec(source_vocab=40, target_vocab=4, labels=Labels(names=("a", "b", "c", "d")))
    model = bert.build(bert.config_from(stored.config), spec, Generator(0))
    report = bert.names(model).read(model, checkpoint, fresh=model.head)
    assert set(report.missing) == {"output.weight", "output.bias", "dense.weight", "dense.bias"}
    assert np.array_equal(model.bert.embedding.weight.numpy(), checkpoint["embeddings.word_embeddings.weight"])
    with pytest.raises(SeqlibError, match="missing"):
        bert.names(model).read(model, checkpoint)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bart_of_my_own"}, "model_type"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering has a head"),
        ({"hidden_act": "tanhshrink"}, "activation"),
    ],
)
def test_an_architecture_that_is_not_known_is_named(change, words, tmp_path):
    stored = Stored("bert")
    stored.config |= change
    with pytest.raises(UsageError, match=words):
        seqlib.load(stored.write(tmp_path))


def test_embedding_filling_and_their_bad_input(tmp_path):
    stored = Stored("bert")
    folder = stored.write(tmp_path / "embed")
    words = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdefghijklmnopqrstuvwxyz.,!?"]
    (folder / "vocab.txt").write_text("\n".join(words))
    model = seqlib.load(folder)
    texts = ["a b c", "", "d", "e f g h i j k l m n o p"]
    found = model.embed(texts)
    assert found.shape == (4, 16) and np.allclose((found**2).sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(np.concatenate([model.embed([text]) for text in texts]), found)
    assert model.embed([]).shape == (0, 16)
    with pytest.raises(UsageError, match="list of texts"):
        model.embed("a b c")
    with pytest.raises(UsageError, match="batch_rows"):
        model.embed(texts, batch_rows=0)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "modules.json").write_text("[]")  # not divided by their length
    other = seqlib.load(folder).embed(texts)
    save_pretrained(seqlib.load(folder), tmp_path / "again")
    assert not np.allclose(other, found, atol=0.01)
    assert np.array_equal(seqlib.load(tmp_path / "again").embed(texts), other)

    stored = Stored("bert_masked")
    folder = stored.write(tmp_path / "fill")
    (folder / "vocab.txt").write_text("\n".join(words))
    model = seqlib.load(folder)
    first, second = model.fill_mask("a [MASK] c [MASK]", k=3)
    assert len(first) == len(second) == 3
    assert first[0].probability >= first[1].probability >= first[2].probability > 0
    assert first[0].filled.startswith("a ") and first[0].text in first[0].filled
    with pytest.raises(UsageError, match=r"put \[MASK\]"):
        model.fill_mask("a b")


def test_classifying_as_the_checkpoint_names_its_classes(tmp_path):
    stored = Stored("bert_classifier")
    stored.config["id2label"] = {"0": "bad", "1": "fair", "2": "good"}
    folder = stored.write(tmp_path / "theirs")
    words = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    model = seqlib.load(folder)
    found = model.classify(["a b", "c d e f"])
    with seqlib.no_grad():
        logits = model.model(np.int32([[2, 5, 6, 3]]), np.int32([4])).numpy()[0]
    weights = np.exp(logits - logits.max())
    assert np.allclose(list(found[0].probabilities.values()), weights / weights.sum(), atol=1e-5)
    assert found[0].label == ["bad", "fair", "good"][logits.argmax()]
    save_pretrained(model, tmp_path / "ours")
    assert json.loads((tmp_path / "ours/config.json").read_text())["id2label"] == stored.config["id2label"]
    assert seqlib.load(tmp_path / "ours").classify(["a b", "c d e f"]) == found


def test_the_command_embed(tmp_path):
    from click.testing import CliRunner

    from seqlib.cli.embed import command

    folder = Stored("bert").write(tmp_path / "bert")
    (folder / "vocab.txt").write_text("\n".join([*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdefgh"]))
    output = tmp_path / "vectors.npy"
    arguments = [str(folder), "--output", str(output)]
    done = CliRunner().invoke(command, arguments, input="a b\n\nc\n", catch_exceptions=False)
    assert done.exit_code == 0
    assert np.array_equal(np.load(output), seqlib.load(folder).embed(["a b", "", "c"]))
    with pytest.raises(UsageError, match="does not embed"):
        Stored("bert_masked").write(tmp_path / "masked")
        (tmp_path / "masked/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]")
        CliRunner().invoke(command, [str(tmp_path / "masked"), "--output", str(output)], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.skipif(
    not (WEIGHTS / "minilm").is_dir(), reason="no all-MiniLM-L6-v2 in SEQLIB_WEIGHTS/minilm (docs/hub.md)"
)
def test_minilm():
    """Weights, tokenizer and pooling of all-MiniLM-L6-v2: the embeddings of transformers."""
    known = np.load(KNOWN)
    model = seqlib.load(WEIGHTS / "minilm")
    found = model.embed(known["sentences"].tolist())
    assert (found * known["sentence_embedding"]).sum(axis=1).min() >= 0.99999
    assert np.abs(found @ found.T - known["cosine"]).max() < 1e-5
