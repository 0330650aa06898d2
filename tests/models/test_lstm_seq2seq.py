"""lstm_seq2seq: shapes, padding, a token at a time with beams, learning, compiled bits, launches, second gradients."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import tensor
from seqlib.decode.programs import Place, Size
from seqlib.models.lstm_seq2seq import LSTMSeq2Seq, LSTMSeq2SeqConfig, base, build, multi30k
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import ShapeError, UsageError
from seqlib.util.lookup import available

V, D, H = 23, 12, 16
CONFIG = LSTMSeq2SeqConfig(layers=2, d_model=D, hidden=H, dropout=0.0, max_length=32)
SPEC = ProblemSpec(source_vocab=V, target_vocab=V)
every_kind = pytest.mark.parametrize(
    "kind",
    [
        {"attention": attention, "input_feeding": feeding}
        for attention in ("luong", "bahdanau")
        for feeding in (False, True)
    ],
    ids=["luong", "luong-fed", "bahdanau", "bahdanau-fed"],
)


class Batch(NamedTuple):
    src: np.ndarray
    src_lengths: np.ndarray
    tgt_in: np.ndarray
    tgt_out: np.ndarray
    tgt_lengths: np.ndarray


def make_batch(seed: int = 0, rows: int = 5, s: int = 7, t: int = 6) -> Batch:
    rng = np.random.default_rng(seed)
    src = rng.integers(4, V, (rows, s)).astype(np.int32)
    src_lengths = rng.integers(1, s + 1, rows).astype(np.int32)
    tgt_lengths = rng.integers(1, t + 1, rows).astype(np.int32)
    tgt_in = np.zeros((rows, t), np.int32)
    tgt_out = np.full((rows, t), -1, np.int32)
    for r in range(rows):
        src[r, src_lengths[r] - 1] = 2
        src[r, src_lengths[r] :] = 0
        words = rng.integers(4, V, tgt_lengths[r] - 1)
        tgt_in[r, : tgt_lengths[r]] = [1, *words]
        tgt_out[r, : tgt_lengths[r]] = [*words, 2]
    return Batch(src, src_lengths, tgt_in, tgt_out, tgt_lengths)


def model_of(seed: int = 0, spec: ProblemSpec = SPEC, **changes: Any) -> LSTMSeq2Seq:
    return build(msgspec.structs.replace(CONFIG, **changes), spec, Generator(seed))


def training(model: LSTMSeq2Seq, generator: Generator, lr: float = 1e-2) -> tuple[Any, AdamW]:
    optimizer = AdamW(model.trainable_parameters(), lr)

    def loss(batch: Any) -> Any:
        total, weight = model.loss(batch)
        return total / weight

    def step(batch: Any) -> Any:
        with use_generator(generator):
            value, grads = value_and_grad(loss, params=model.trainable_parameters())(batch)
        optimizer.update(grads)
        return value

    return step, optimizer


# ---- configuration


def test_presets_are_found_by_name():
    names = [name for name in available("seqlib.models") if name.startswith("lstm_seq2seq_")]
    assert names == ["lstm_seq2seq_base", "lstm_seq2seq_multi30k"]
    for preset in (base(), multi30k()):
        assert isinstance(preset.model, LSTMSeq2SeqConfig) and preset.about
    config = base().model
    assert (config.layers, config.d_model, config.hidden, config.dropout) == (2, 128, 128, 0.2)


@pytest.mark.parametrize(
    "changes,words",
    [({"layers": 0}, "layers"), ({"hidden": 15}, "even"), ({"dropout": 1.0}, "dropout"), ({"max_length": 0}, "max")],
)
def test_wrong_sizes_are_refused(changes: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        LSTMSeq2SeqConfig(**changes)


def test_names_and_ties():
    names = list(model_of().named_parameters())
    assert names[0] == "source_embedding.weight" and names[-1] == "combine.weight"
    assert "encoder.reverse_cells.1.weight_h" in names and "decoder.cells.0.bias" in names
    assert model_of().num_parameters() == V * D + sum(
        4 * h * (x + h + 1) for x, h in [(D, H // 2)] * 2 + [(H, H // 2)] * 2 + [(D, H), (H, H)]
    ) + H * H + 2 * H * D  # fmt: skip
    apart = model_of(spec=ProblemSpec(source_vocab=V, target_vocab=V + 2, shared_vocab=False), tie_output=False)
    assert apart.target_embedding is not apart.source_embedding
    assert apart.output_weight is not apart.target_embedding.weight
    assert apart(np.ones((1, 2), np.int32), np.array([2], np.int32), np.ones((1, 3), np.int32)).shape == (1, 3, V + 2)


# ---- the forward pass


@every_kind
def test_shapes_and_attention(kind: dict[str, Any]):
    model, batch = model_of(**kind), make_batch()
    encoded = model.encode(batch.src, batch.src_lengths)
    assert encoded.memory.shape == (5, 7, H) and [h.shape for h, _ in encoded.states] == [(5, H)] * 2
    hidden = model.decode(encoded, batch.src_lengths, batch.tgt_in)
    assert hidden.shape == (5, 6, D) and model.logits(hidden).shape == (5, 6, V)
    loss, weight = model.loss(batch, 0.1)
    assert loss.shape == () and weight.item() == batch.tgt_lengths.sum()
    weights = model.cross_attention(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    assert weights.shape == (5, 6, 7)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    assert not weights[np.arange(7) >= batch.src_lengths[:, None, None] + np.zeros((1, 6, 1), int)].any()


@every_kind
def test_attention_weights_are_those_of_the_forward_pass(kind: dict[str, Any]):
    model, batch = model_of(**kind), make_batch()
    encoded, lengths = model.encode(batch.src, batch.src_lengths), tensor(batch.src_lengths)
    keys = model.attention.keys(encoded.memory)
    query = tensor(np.random.default_rng(0).normal(size=(5, 6, H)).astype(np.float32))
    context = ops.matmul(model.attention.weights(query, keys, lengths), encoded.memory)
    np.testing.assert_allclose(
        model.attention(query, keys, encoded.memory, lengths).numpy(), context.numpy(), atol=1e-6
    )


@every_kind
def test_padding_and_neighbours_do_not_matter(kind: dict[str, Any]):
    model, batch = model_of(**kind).eval(), make_batch()
    expected = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    for r in range(5):
        s, t = batch.src_lengths[r], batch.tgt_lengths[r]
        alone = model(batch.src[r : r + 1, :s], np.array([s], np.int32), batch.tgt_in[r : r + 1, :t]).numpy()
        np.testing.assert_allclose(alone[0], expected[r, :t], atol=1e-5)
    src, tgt_in = batch.src.copy(), batch.tgt_in.copy()
    src[np.arange(7) >= batch.src_lengths[:, None]] = 5
    tgt_in[np.arange(6) >= batch.tgt_lengths[:, None]] = 6
    other = model(src, batch.src_lengths, tgt_in).numpy()
    inside = np.arange(6) < batch.tgt_lengths[:, None]
    np.testing.assert_array_equal(other[inside], expected[inside])


@every_kind
def test_the_future_is_not_seen(kind: dict[str, Any]):
    model, batch = model_of(**kind).eval(), make_batch()
    expected = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    changed = batch.tgt_in.copy()
    changed[:, 3:] = 7
    np.testing.assert_array_equal(model(batch.src, batch.src_lengths, changed).numpy()[:, :3], expected[:, :3])


# ---- learning


@every_kind
@pytest.mark.parametrize("compiled", [False, True])
def test_learns_a_small_batch(kind: dict[str, Any], compiled: bool):
    model, generator, batch = model_of(**kind, layers=1), Generator(0), make_batch()
    step, optimizer = training(model, generator, lr=2e-2)
    run = compile(step, [model, optimizer, generator]) if compiled else step
    steps = 150 if compiled else 60
    losses = [run(batch).item() for _ in range(steps)]
    assert losses[0] > 2.0 and losses[-1] < (0.1 if compiled else 1.0)


@every_kind
def test_compiled_equals_eager_to_the_bit(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    results = []
    for compiled in (False, True):
        model, generator = model_of(**kind, dropout=0.3), Generator(3)
        step, optimizer = training(model, generator)
        run = compile(step, [model, optimizer, generator]) if compiled else step
        losses = [run(make_batch(seed)).item() for seed in (0, 1, 0)]
        results.append((losses, model.state_dict()))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][name], value, err_msg=name)


def test_launches_do_not_grow_with_the_sentences():
    """Without input feeding: two LSTM launches a layer and direction, whatever the length."""
    model, generator = model_of(layers=1, dropout=0.1), Generator(0)
    step, optimizer = training(model, generator)
    run = compile(step, [model, optimizer, generator])
    run(make_batch())
    run(make_batch(s=20, t=30))
    launches = [p.launch_count for p in run.programs]
    print("launches of a train step:", launches)
    assert launches[0] == launches[1] < 120
    names = [launch.name for launch in run.programs[0].plan.launches]
    assert names.count("lstm") == names.count("lstm_bwd") == 3


@every_kind
@pytest.mark.parametrize("compiled", [False, True])
def test_second_gradients(compiled: bool, kind: dict[str, Any]):
    """The Hessian times a direction, against differences of gradients, in float64; compiled, against eager."""
    model, batch = model_of(**kind, layers=1, d_model=4, hidden=4, dropout=0.2), make_batch(rows=2, s=3, t=3)
    for variable in model.state_variables().values():
        variable.data = variable.numpy().astype(np.float64)
    params, generator, rng = model.trainable_parameters(), Generator(7), np.random.default_rng(0)
    direction = {name: rng.standard_normal(p.shape) for name, p in params.items()}

    def slopes(create_graph: bool) -> Any:
        generator.reseed(7)
        with use_generator(generator):
            return value_and_grad(lambda: model.loss(batch, 0.1)[0], params=params, create_graph=create_graph)()[1]

    def along() -> Any:
        slope = ops.zeros((), "float64")
        for name, g in slopes(create_graph=True).items():
            slope = slope + ops.sum(g * direction[name])
        return slope

    def hessian_times_direction() -> Any:
        return value_and_grad(along, params=params)()[1]

    eager = hessian_times_direction()
    if compiled:
        again = compile(hessian_times_direction, [model, generator])()
        for name, h in eager.items():
            np.testing.assert_array_equal(again[name].numpy(), h.numpy(), err_msg=name)
        return
    start, eps, ends = model.state_dict(), 1e-6, []
    for sign in (1, -1):
        model.load({name: value + sign * eps * direction[name] for name, value in start.items()})
        ends.append(slopes(create_graph=False))
    for name, h in eager.items():
        expected = (ends[0][name].numpy() - ends[1][name].numpy()) / (2 * eps)
        assert np.abs(h.numpy() - expected).max() < 1e-6 * max(1.0, np.abs(expected).max()), name


# ---- one token at a time


@every_kind
@pytest.mark.parametrize("compiled", [False, True])
def test_steps_equal_teacher_forcing(kind: dict[str, Any], compiled: bool):
    model, batch = model_of(**kind).eval(), make_batch()
    expected = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    cache = model.init_cache(model.encode(batch.src, batch.src_lengths), batch.src_lengths, 5, 9)
    run = compile(lambda t, p: model.step(t, p, cache), state=[model, cache]) if compiled else None
    for t in range(6):
        position = np.array(t, np.int32)
        tokens = batch.tgt_in[:, t]
        logits = run(tokens, position) if run else model.step(tokens, position, cache)
        np.testing.assert_allclose(logits.numpy(), expected[:, t], atol=1e-5)


@every_kind
def test_beams_follow_their_own_history_also_into_another_cache(kind: dict[str, Any]):
    """Random reordering, and in the middle a move of three sentences to a place for four with longer sources."""
    model, batch, beams = model_of(**kind).eval(), make_batch(), 3
    place = Place(model, Size(5, beams, 7, 8))
    place.fill(batch.src, batch.src_lengths)
    rng = np.random.default_rng(0)
    sentences = np.arange(5)
    histories = np.zeros((15, 0), np.int32)
    for t in range(6):
        rows = np.arange(len(histories))
        parents = (rows // beams * beams + rng.integers(0, beams, len(rows))).astype(np.int32)
        histories = histories[parents]
        if t == 3:
            keep = np.array([4, 0, 2])
            smaller = Place(model, Size(4, beams, 8, 16))
            smaller.take_over(place, keep, parents, t)
            histories = histories[(keep[:, None] * beams + np.arange(beams)).reshape(-1)]
            place, sentences = smaller, keep
        tokens = rng.integers(4, V, len(histories)).astype(np.int32)
        histories = np.concatenate([histories, tokens[:, None]], axis=1)
        all_tokens, all_parents = np.ones((2, place.size.sentences * beams), np.int32)
        all_tokens[: len(tokens)] = tokens
        all_parents[:] = np.arange(len(all_parents))
        if t != 3:
            all_parents[: len(parents)] = parents
        logits, _ = place.step(all_tokens, all_parents, t)
        src, lengths = (np.repeat(a[sentences], beams, axis=0) for a in (batch.src, batch.src_lengths))
        with no_grad():
            expected = model(src, lengths, histories).numpy()[:, -1]
        np.testing.assert_allclose(logits[: len(tokens)], expected, atol=1e-5)


def test_cache_errors():
    model, batch = model_of().eval(), make_batch()
    with pytest.raises(ShapeError, match="at most 32"):
        model.new_cache(2, 5, 4, 33)
    with pytest.raises(ShapeError, match="multiple of the 2"):
        model.new_cache(2, 5, 3, 8)
    cache = model.new_cache(2, 5, 4, 8)
    with pytest.raises(ShapeError, match="memory"):
        model.fill_cache(cache, model.encode(batch.src, batch.src_lengths), batch.src_lengths)
    with pytest.raises(ShapeError, match="parents"):
        cache.reorder(tensor(np.zeros(3, np.int32)))
