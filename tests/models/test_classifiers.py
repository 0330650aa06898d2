"""The models that label texts, against their formulas in NumPy; padding, pairs, losses, a step of training."""

from typing import Any

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.core.tape import no_grad
from seqlib.data.labelled import LabelledBatch
from seqlib.models import bag_ngrams, ensemble, list_models, lstm_classifier, text_cnn, transformer_encoder
from seqlib.optim import AdamW
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.train.label_scores import losses
from seqlib.train.step import CompiledStep
from seqlib.util.errors import UsageError

V = 23
IDS = np.random.default_rng(0).integers(4, V, (3, 9)).astype(np.int32)
LENGTHS = np.array([9, 4, 2], np.int32)
CONFIGS: dict[str, Any] = {
    "bag_ngrams": (bag_ngrams, bag_ngrams.BagNgramsConfig(d_model=6, n=3, buckets=11)),
    "text_cnn": (text_cnn, text_cnn.TextCNNConfig(d_model=5, maps=4, widths="2 3")),
    "lstm_classifier": (lstm_classifier, lstm_classifier.LSTMClassifierConfig(d_model=5, hidden=4)),
    "transformer_encoder": (
        transformer_encoder,
        transformer_encoder.TransformerEncoderConfig(d_model=8, d_ff=16, heads=2),
    ),
}


def _model(name: str, labels: Labels | None = None) -> Any:
    spec = ProblemSpec(source_vocab=V, target_vocab=3, labels=labels or Labels(names=("a", "b", "c")))
    module, config = CONFIGS[name]
    return module.build(config, spec, Generator(1)).eval()


def _logits(model: Any, ids: np.ndarray, lengths: np.ndarray, types: np.ndarray | None = None) -> np.ndarray:
    with no_grad():
        return model(ids, lengths, types).numpy()


def test_all_models_of_the_task_are_here() -> None:
    assert set(list_models("text_classification")) >= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_follows_a_text_does_not_count(name: str) -> None:
    model, other = _model(name), IDS.copy()
    other[1, 4:], other[2, 2:] = 5, 7
    np.testing.assert_array_equal(_logits(model, IDS, LENGTHS), _logits(model, other, LENGTHS))
    np.testing.assert_allclose(
        _logits(model, IDS, LENGTHS)[1:2], _logits(model, IDS[1:2, :4], LENGTHS[1:2]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ["multi_class", "multi_label", "regression"])
def test_losses_and_a_step(name: str, kind: str) -> None:
    labels = Labels(kind=kind, names=() if kind == "regression" else ("a", "b", "c"), low=1.0, high=5.0, pairs=True)
    model = _model(name, labels)
    types = (np.arange(9) >= 2).astype(np.int32) * np.ones((3, 1), np.int32)
    targets: Any = {
        "multi_class": np.array([0, 2, 1], np.int32),
        "multi_label": np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], np.float32),
        "regression": np.array([1.0, 4.5, 3.0], np.float32),
    }[kind]
    weights = np.array([1.0, 2.0, 0.0], np.float32)
    batch = LabelledBatch(IDS, LENGTHS, types, targets, weights)
    total, weight = model.loss(batch)
    expected = (losses(_logits(model, IDS, LENGTHS, types), targets, labels) * weights).sum()
    np.testing.assert_allclose((total.item(), weight.item()), (expected, 3.0), rtol=1e-5)
    optimizer = AdamW(model.train().trainable_parameters(), lr=0.05)
    step = CompiledStep(model, optimizer, Generator(2), 0.0)
    for _ in range(12):
        step([batch])
    assert model.eval().loss(batch)[0].item() < total.item()


def test_a_bag_is_the_mean_of_tokens_and_hashed_ngrams() -> None:
    model = _model("bag_ngrams")
    w = model.state_dict()
    hashes = model.hashes.numpy()
    row, vectors = IDS[1, :4], []
    for i, token in enumerate(row):
        vector = w["embedding.weight"][token].astype(float)
        for n in (2, 3):
            if i >= n - 1:
                vector = vector + w["ngrams.weight"][sum(hashes[k, row[i - n + 1 + k]] for k in range(n)) % 11]
        vectors.append(vector)
    expected = np.mean(vectors, 0) @ w["output.weight"].T + w["output.bias"]
    np.testing.assert_allclose(_logits(model, IDS, LENGTHS)[1], expected, rtol=1e-5, atol=1e-6)


def test_filters_slide_over_the_tokens() -> None:
    model = _model("text_cnn")
    w = model.state_dict()
    x = np.concatenate([w["embedding.weight"][IDS[1, :4]], np.zeros((2, 5))]).astype(float)
    blocks = w["filters.weight"].reshape(5, 4, 5)  # token of a filter, filter, D
    found = []
    for first, width in ((0, 2), (2, 3)):
        sums = [sum(blocks[first + k] @ x[start + k] for k in range(width)) for start in range(4)]
        found.append(np.max(sums, 0))
    features = np.maximum(np.concatenate(found) + w["bias"], 0)
    expected = features @ w["output.weight"].T + w["output.bias"]
    np.testing.assert_allclose(_logits(model, IDS, LENGTHS)[1], expected, rtol=1e-5, atol=1e-6)


def test_a_problem_without_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="the problem has no labels"):
        bag_ngrams.build(bag_ngrams.BagNgramsConfig(), ProblemSpec(source_vocab=9, target_vocab=9), Generator(0))


@pytest.mark.parametrize("kind", ["multi_class", "multi_label"])
def test_an_ensemble_averages_its_members(kind: str) -> None:
    config = ensemble.EnsembleConfig(members="bag_ngrams_base text_cnn_base text_cnn_base")
    labels = Labels(kind=kind, names=("a", "b", "c"))
    spec = ProblemSpec(source_vocab=V, target_vocab=3, labels=labels)
    model = ensemble.build(config, spec, Generator(1)).eval()
    logits = [_logits(member, IDS, LENGTHS).astype(np.float64) for member in model.members]
    assert not np.allclose(logits[1], logits[2])  # weights of their own
    if kind == "multi_class":
        logits = [np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in logits]
    expected = np.mean(logits, 0)
    np.testing.assert_allclose(
        _logits(model, IDS, LENGTHS), np.log(expected) if kind == "multi_class" else expected, rtol=1e-4, atol=1e-5
    )
    targets: Any = np.array([0, 2, 1], np.int32) if kind == "multi_class" else np.eye(3, dtype=np.float32)
    batch = LabelledBatch(IDS, LENGTHS, None, targets, np.array([1.0, 2.0, 0.0], np.float32))
    each = [member.loss(batch)[0].item() for member in model.members]
    total, weight = model.loss(batch)
    np.testing.assert_allclose((total.item(), weight.item()), (np.mean(each), 3.0), rtol=1e-5)
    for members, message in (("", "names of presets"), ("lstm_lm_characters", "no preset of a single classifier")):
        with pytest.raises(UsageError, match=message):
            ensemble.build(ensemble.EnsembleConfig(members=members), spec, Generator(1))


def test_tokens_that_are_left_out_are_read_as_nothing() -> None:
    for name in ("text_cnn", "lstm_classifier"):
        module, config = CONFIGS[name]
        config = type(config)(d_model=5, token_dropout=0.9, embedding_dropout=0.0, dropout=0.0)
        model = module.build(
            config, ProblemSpec(source_vocab=V, target_vocab=3, labels=Labels(names=("a", "b"))), Generator(1)
        )
        plain = _logits(model.eval(), IDS, LENGTHS)
        assert not np.allclose(_logits(model.train(), IDS, LENGTHS), plain)
        np.testing.assert_array_equal(_logits(model.eval(), IDS, LENGTHS), plain)
