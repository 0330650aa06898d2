"""lstm_lm against its formulas in NumPy; states handed on and carried, a token at a time, dropping, learning."""

from typing import Any

import msgspec
import numpy as np
import pytest

import seqlib
from seqlib.core.meta import meta
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.data.batch import TextBatch
from seqlib.models.lstm_lm import LSTMLM, LSTMLMConfig, characters, large, medium
from seqlib.optim import AdamW
from seqlib.train.step import CompiledStep, training_step
from seqlib.util.errors import ShapeError, UsageError
from seqlib.util.lookup import available

V, D, H = 31, 6, 9
NO = dict.fromkeys(("embedding_dropout", "dropout", "output_dropout"), 0.0)
CONFIG = LSTMLMConfig(vocab=V, layers=2, d_model=D, hidden=H, **NO)  # type: ignore[arg-type]
TOKENS = np.random.default_rng(0).integers(0, V, (3, 8)).astype(np.int32)
BATCH = TextBatch(TOKENS[:, :-1], TOKENS[:, 1:])


def _model(seed: int = 1, **changes: Any) -> LSTMLM:
    return LSTMLM(msgspec.structs.replace(CONFIG, **changes), Generator(seed))


def _reference(model: LSTMLM, tokens: np.ndarray) -> np.ndarray:
    """The logits in float64."""
    w = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters().items()}
    x = w["embedding.weight"][tokens]
    for i, width in enumerate(model.config.widths):
        h = c = np.zeros((len(tokens), width))
        ys = []
        for t in range(tokens.shape[1]):
            gates = x[:, t] @ w[f"cells.{i}.weight_x"].T + h @ w[f"cells.{i}.weight_h"].T + w[f"cells.{i}.bias"]
            a, f, g, o = np.split(gates, 4, axis=1)
            a, f, o = (1 / (1 + np.exp(-s)) for s in (a, f, o))
            c = f * c + a * np.tanh(g)
            h = o * np.tanh(c)
            ys.append(h)
        x = np.stack(ys, 1)
    return x @ w.get("output_weight", w["embedding.weight"]).T


@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_loss_are_those_of_the_formulas(tied: bool) -> None:
    model = _model(tie_output=tied).eval()
    exact = _reference(model, BATCH.inputs)
    logits, states = model(BATCH.inputs)
    assert np.abs(logits.numpy() - exact).max() < 1e-5
    assert [h.shape for h, _ in states] == [(3, H), (3, D if tied else H)]
    targets = BATCH.targets.copy()
    targets[1, 2] = -1
    total, count = model.loss(TextBatch(BATCH.inputs, targets))
    logp = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    expected = -sum(logp[b, t, targets[b, t]] for b in range(3) for t in range(7) if targets[b, t] >= 0)
    assert count.item() == 20 and total.item() == pytest.approx(expected, rel=1e-5)


def test_states_are_handed_on() -> None:
    model = _model().eval()
    whole = model(TOKENS)[0].numpy()
    first, states = model(TOKENS[:, :3])
    rest, _ = model(TOKENS[:, 3:], states)
    np.testing.assert_allclose(np.concatenate([first.numpy(), rest.numpy()], 1), whole, atol=1e-6)


def test_a_token_at_a_time_gives_the_same_bits_alone_and_in_a_batch() -> None:
    model = _model().eval()
    with no_grad():
        whole = model(TOKENS)[0].numpy()
    cache = model.new_cache(3, 0, 3, 16)
    fill = seqlib.compile(lambda tokens: model.prefill(tokens, cache), state=[model, cache])
    step = seqlib.compile(lambda tokens, at: model.step(tokens, at, cache), state=[model, cache])
    for filled in (3, 0):
        fill(TOKENS[:, :filled])
        for i in range(filled, 6):
            logits = step(TOKENS[:, i], np.array(0, np.int32)).numpy()
            np.testing.assert_allclose(logits, whole[:, i], atol=1e-6)
    cache.reorder(seqlib.tensor(np.arange(3, dtype=np.int32)))
    alone = model.new_cache(1, 0, 2, 16)
    model.prefill(seqlib.tensor(TOKENS[2:, :0]), alone)
    for i in range(6):
        one = model.step(TOKENS[[2, 2], i], None, alone).numpy()
    assert one[1].tobytes() == logits[2].tobytes()


def test_training_goes_on_from_the_states_of_the_step_before() -> None:
    """Two windows with carried states have the losses of one long one, and the second's gradient stops at the first."""
    model = _model().train()
    long = model.loss(BATCH)[0].item()
    model.carry(3)
    losses = [model.loss(TextBatch(t[:, :-1], t[:, 1:]))[0].item() for t in (TOKENS[:, :5], TOKENS[:, 4:])]
    assert sum(losses) == pytest.approx(long, rel=1e-5)
    assert list(model.state_dict()) == list(_model().state_dict()), "what is carried is no weight"
    model.forget()
    assert not any(v.numpy().any() for v in model.carried)
    with pytest.raises(ShapeError, match="expected the 3 rows carried, got 2"):
        model.loss(TextBatch(TOKENS[:2], TOKENS[:2]))
    assert model.eval().loss(TextBatch(TOKENS[:2], TOKENS[:2]))[1].item() == 16


def test_a_compiled_step_that_carries_equals_the_eager_one() -> None:
    found = []
    for compiled in (False, True):
        model, generator = _model(embedding_dropout=0.2, weight_dropout=0.3, dropout=0.1).train(), Generator(2)
        model.carry(3)
        optimizer = AdamW(model.trainable_parameters(), lr=1e-2)
        step: Any = training_step(model, optimizer, generator, 0.0)
        if compiled:
            step = seqlib.compile(step, state=[model, optimizer, generator])
        for _ in range(3):
            loss = step(BATCH)[0].numpy()
        found.append((loss, *(v.numpy() for v in (*model.carried, *model.parameters()))))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*found, strict=True))
    assert found[0][1].any()


def test_recurrent_weights_are_dropped_once_a_window_and_in_training_only() -> None:
    model = _model(weight_dropout=0.5)
    with use_generator(Generator(3)):
        first, second = (model.train()(TOKENS)[0].numpy() for _ in range(2))
        one = model(TOKENS[:, :1])[0].numpy()
    plain = model.eval()(TOKENS)[0].numpy()
    assert not np.allclose(first, second) and not np.allclose(first, plain)
    np.testing.assert_allclose(one, plain[:, :1], atol=1e-6)  # from zeros the first step has no recurrent part
    np.testing.assert_allclose(plain, _reference(model, TOKENS), atol=1e-5)


def test_it_learns_a_text_by_heart() -> None:
    model = _model(d_model=24, hidden=32, weight_dropout=0.1).train()
    step = CompiledStep(model, AdamW(model.trainable_parameters(), lr=2e-2), Generator(2), 0.0)
    losses = [float(total.item() / count.item()) for total, count, _ in (step([BATCH]) for _ in range(80))]
    assert losses[0] == pytest.approx(np.log(V), rel=0.1) and losses[-1] < 0.5
    assert step.built[0].program.launch_count < 60, step.built[0].program.summary()


def test_presets_and_sizes() -> None:
    assert [n for n in available("seqlib.models") if n.startswith("lstm_lm_")] == [
        "lstm_lm_characters", "lstm_lm_large", "lstm_lm_medium",
    ]  # fmt: skip
    with meta():
        counts = [LSTMLM(preset().model, Generator(0)).num_parameters() for preset in (medium, large, characters)]
    layer = lambda d, h: 4 * h * (d + h + 1)  # noqa: E731
    assert counts == [
        10000 * 650 + 2 * layer(650, 650),
        10000 * 1500 + 2 * layer(1500, 1500),
        256 * 64 + layer(64, 256) + 256 * 256,
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, "layers: expected at least 1"),
        ({"weight_dropout": 1.0}, "weight_dropout"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_what_does_not_fit_is_answered(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"lstm_lm: {message}"):
        LSTMLMConfig(**settings)
