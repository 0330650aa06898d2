"""The Transformer: shapes, ties, masks, gradients, learning, compiled bits."""

from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import tensor
from seqlib.models.transformer import Transformer, TransformerConfig, build
from seqlib.nn.attention import MultiHeadAttention
from seqlib.optim import AdamW
from seqlib.problems.spec import ProblemSpec
from seqlib.train.step import training_step
from seqlib.util.errors import SeqlibError, ShapeError, UsageError

V, D = 23, 16
CONFIG = TransformerConfig(
    encoder_layers=2, decoder_layers=2, d_model=D, d_ff=32, heads=4, dropout=0.0, attention_dropout=0.0,
    ff_dropout=0.0, max_length=32,
)  # fmt: skip
SPEC = ProblemSpec(source_vocab=V, target_vocab=V)


class Batch(NamedTuple):
    src: np.ndarray
    src_lengths: np.ndarray
    tgt_in: np.ndarray
    tgt_out: np.ndarray
    tgt_lengths: np.ndarray


SSRU = {"decoder_history": "ssru", "norm": "post", "zero_begin": True, "output_bias": True}
STRUCTURES = [
    {},
    {"norm": "post", "attention_bias": True},
    {"positions": "rotary", "kv_heads": 2},
    {"positions": "rotary", "norm_kind": "rms", "activation": "swiglu", "kv_heads": 1},
    {"positions": "learned", "norm": "post", "activation": "geglu"},
    {"positions": "relative", "kv_heads": 2, "norm_kind": "rms"},
    {"positions": "relative", "norm": "post", "norm_kind": "rms", "activation": "reglu"},
    SSRU,
    {"positions": "sinusoidal", "activation": "glu", "kv_heads": 4, "tie_output": False},
]
"""Every choice at least once, with others beside it."""


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


def model_of(seed: int = 0, spec: ProblemSpec = SPEC, **changes) -> Transformer:
    return build(msgspec.structs.replace(CONFIG, **changes), spec, Generator(seed))


def test_shapes():
    model, batch = model_of(), make_batch()
    memory = model.encode(batch.src, batch.src_lengths)
    hidden = model.decode(memory, batch.src_lengths, batch.tgt_in)
    assert memory.shape == (5, 7, D) and hidden.shape == (5, 6, D)
    assert model.logits(hidden).shape == (5, 6, V)
    loss, weight = model.loss(batch, 0.1)
    assert loss.shape == () and weight.item() == batch.tgt_lengths.sum()
    np.testing.assert_array_equal(
        model(batch.src, batch.src_lengths, batch.tgt_in).numpy(), model.logits(hidden).numpy()
    )


def test_parameter_names():
    names = list(model_of().named_parameters())
    assert names[0] == "source_embedding.weight" and names[-1] == "decoder_norm.bias"
    assert "encoder.1.attention.q_proj.weight" in names
    assert "decoder.0.cross_attention.out_proj.weight" in names
    assert "decoder.1.feed_forward.in_proj.bias" in names
    assert all(name == p.name for name, p in model_of().named_parameters().items())
    assert model_of(norm="post", attention_bias=True).encoder_norm is None


@pytest.mark.parametrize(
    "shared,tie_source,tie_output,tables",
    [
        (True, True, True, 1),
        (True, False, True, 2),
        (False, True, True, 2),
        (True, True, False, 2),
        (False, True, False, 3),
    ],
)
def test_ties(shared: bool, tie_source: bool, tie_output: bool, tables: int):
    spec = ProblemSpec(source_vocab=V, target_vocab=V, shared_vocab=shared)
    model = model_of(spec=spec, tie_source=tie_source, tie_output=tie_output)
    assert sum(p.shape == (V, D) for p in model.parameters()) == tables
    other = model_of(seed=1, spec=spec, tie_source=tie_source, tie_output=tie_output)
    other.load(model.state_dict())
    batch = make_batch()
    assert other.loss(batch, 0.0)[0].item() == model.loss(batch, 0.0)[0].item()


def test_two_vocabularies():
    spec = ProblemSpec(source_vocab=V, target_vocab=9, shared_vocab=False)
    model = model_of(spec=spec)
    assert model.output_weight.shape == (9, D) and model.source_embedding.weight.shape == (V, D)
    with pytest.raises(UsageError, match="shared vocabulary"):
        model_of(spec=ProblemSpec(source_vocab=V, target_vocab=9, shared_vocab=True))


def test_the_loss_is_the_cross_entropy_of_the_logits():
    model, batch = model_of(), make_batch()
    logits = model(batch.src, batch.src_lengths, batch.tgt_in).numpy().astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows, columns = np.nonzero(batch.tgt_out >= 0)
    expected = -logp[rows, columns, batch.tgt_out[rows, columns]].sum()
    assert model.loss(batch, 0.0)[0].item() == pytest.approx(expected, rel=1e-5)


def test_padding_and_the_future_do_not_matter():
    model, batch = model_of(), make_batch()
    before = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    src, tgt = batch.src.copy(), batch.tgt_in.copy()
    for r in range(5):
        src[r, batch.src_lengths[r] :] = 9
    tgt[:, 4:] = 5
    after = model(src, batch.src_lengths, tgt).numpy()
    np.testing.assert_allclose(after[:, :4], before[:, :4], atol=1e-6)
    assert np.abs(after[:, 4:] - before[:, 4:]).max() > 1e-3
    src[:, 0] = 11
    assert np.abs(model(src, batch.src_lengths, tgt).numpy() - after).max() > 1e-3


@pytest.mark.parametrize("changes", [*STRUCTURES, {"activation": "gelu", "tie_output": False}], ids=str)
def test_gradients_reach_every_parameter(changes: dict):
    model, batch = model_of(**changes), make_batch()
    _, grads = value_and_grad(lambda: model.loss(batch, 0.1), params=model.trainable_parameters())()
    assert grads.keys() == model.named_parameters().keys()
    for name, grad in grads.items():
        # A bias of keys shifts all scores of a query alike, which the softmax takes out.
        assert np.abs(grad.numpy()).max() > 0 or name.endswith("k_proj.bias"), name


def test_relative_positions_are_shared_by_the_layers_of_a_stack():
    model = model_of(positions="relative", relative_buckets=8)
    names = [name for name in model.named_parameters() if "relative" in name]
    assert names == ["encoder_relative.weight", "decoder_relative.weight"]
    assert all(model.named_parameters()[name].shape == (8, 4) for name in names)
    batch = make_batch()
    before = model.eval()(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    model.decoder_relative.weight.assign(model.decoder_relative.weight.numpy() * 3)
    after = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-5)  # a first token has no distances
    assert np.abs(after[:, -1] - before[:, -1]).max() > 1e-3


def test_learned_positions_are_a_table_a_side():
    model, batch = model_of(positions="learned"), make_batch()
    assert model.source_positions is not model.target_positions
    _, grads = value_and_grad(lambda: model.loss(batch), params=model.trainable_parameters())()
    slope = grads["source_positions.weight"].numpy()
    assert np.abs(slope[:7]).max() > 0 and not slope[7:].any()


def test_directional_gradient():
    model, batch = model_of(), make_batch()
    params = model.trainable_parameters()
    _, grads = value_and_grad(lambda: model.loss(batch, 0.1), params=params)()
    rng = np.random.default_rng(0)
    steps = {n: rng.standard_normal(p.shape).astype(np.float32) for n, p in params.items()}
    slope = sum(float((grads[n].numpy().astype(np.float64) * s).sum()) for n, s in steps.items())
    start, eps, values = model.state_dict(), 1e-3, []
    for sign in (1, -1):
        model.load({n: start[n] + np.float32(sign * eps) * steps[n] for n in start})
        values.append(model.loss(batch, 0.1)[0].item())
    assert (values[0] - values[1]) / (2 * eps) == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "rotary", "norm": "post"},
        {"dropout": 0.2, "attention_dropout": 0.2, "ff_dropout": 0.2, "checkpoint_layers": True},
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_second_gradients(compiled: bool, changes: dict):
    """The Hessian times a direction, against differences of gradients, in float64."""
    model, batch, generator = model_of(activation="gelu", **changes), make_batch(rows=3), Generator(7)
    for variable in model.state_variables().values():
        variable.data = variable.numpy().astype(np.float64)
    params, rng = model.trainable_parameters(), np.random.default_rng(0)
    direction = {name: rng.standard_normal(p.shape) for name, p in params.items()}

    def slopes(create_graph: bool):
        generator.reseed(7)
        with use_generator(generator):
            return value_and_grad(lambda: model.loss(batch, 0.1)[0], params=params, create_graph=create_graph)()[1]

    def along():
        slope = ops.zeros((), "float64")
        for name, g in slopes(create_graph=True).items():
            slope = slope + ops.sum(g * direction[name])
        return slope

    def hessian_times_direction(batch):
        return value_and_grad(along, params=params)()[1]

    eager = hessian_times_direction(batch)
    if compiled:
        generator.reseed(7)
        again = compile(lambda: hessian_times_direction(batch), [model, generator])()
        for name, h in eager.items():
            assert np.array_equal(h.numpy(), again[name].numpy()), name
        return
    start, eps, ends = model.state_dict(), 1e-6, []
    for sign in (1, -1):
        model.load({name: value + sign * eps * direction.get(name, 0.0) for name, value in start.items()})
        ends.append(slopes(create_graph=False))
    for name, h in eager.items():
        expected = (ends[0][name].numpy() - ends[1][name].numpy()) / (2 * eps)
        assert np.abs(h.numpy() - expected).max() < 1e-6 * max(1.0, np.abs(expected).max()), name


def test_dropout_is_random_in_training_and_absent_in_evaluation():
    model, batch = model_of(dropout=0.3, attention_dropout=0.2, ff_dropout=0.2), make_batch()
    with use_generator(Generator(0)):
        assert model.loss(batch)[0].item() != model.loss(batch)[0].item()
        model.eval()
        assert model.loss(batch)[0].item() == model.loss(batch)[0].item()


def test_the_same_seed_gives_the_same_bits():
    a, b, c = model_of(7).state_dict(), model_of(7).state_dict(), model_of(8).state_dict()
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert not np.array_equal(a["source_embedding.weight"], c["source_embedding.weight"])


def training(model: Transformer, generator: Generator):
    optimizer = AdamW(model.trainable_parameters(), lr=3e-3, clip_norm=1.0)

    def step(batch: Batch):
        with use_generator(generator):
            (loss, weight), grads = value_and_grad(lambda: model.loss(batch, 0.1), params=optimizer.params)()
            return loss, weight, optimizer.update(grads)

    return step, optimizer


def test_overfits_eight_pairs():
    model, batch = model_of(), make_batch(rows=8)
    step, _ = training(model, Generator(0))
    compiled = compile(step, state=[model, _])
    for _ in range(300):
        compiled(batch)
    logits = model.eval()(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    learnt = batch.tgt_out >= 0
    assert np.array_equal(logits.argmax(-1)[learnt], batch.tgt_out[learnt])


def test_compiled_steps_equal_eager_steps_to_the_bit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    results = []
    for compiled in (False, True):
        model = model_of(dropout=0.1, attention_dropout=0.1, ff_dropout=0.1)
        generator = Generator(5)
        step, optimizer = training(model, generator)
        run = compile(step, state=[model, optimizer, generator]) if compiled else step
        losses = [run(make_batch(seed % 3, s=7 + seed % 2))[0].item() for seed in range(20)]
        results.append((losses, model.state_dict() | optimizer.state_dict()))
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][name], value, err_msg=name)


def test_checkpointed_layers_give_the_same_bits_with_less_memory():
    """Rotary positions and all three dropouts; 6+6 layers."""
    found, planned = [], []
    for checkpointed in (False, True):
        model = model_of(
            dropout=0.1, attention_dropout=0.1, ff_dropout=0.1, encoder_layers=6, decoder_layers=6,
            checkpoint_layers=checkpointed, positions="rotary",
        )  # fmt: skip
        generator, batch = Generator(5), make_batch(rows=16, s=24, t=20)
        optimizer = AdamW(model.trainable_parameters(), 1e-2)

        def step(batch, model=model, generator=generator, optimizer=optimizer):
            with use_generator(generator):
                loss, grads = value_and_grad(lambda: model.loss(batch)[0], params=model.trainable_parameters())()
            optimizer.update(grads)
            return loss

        compiled = compile(step, [model, optimizer, generator])
        losses = [compiled(batch).item(), compiled(batch).item(), step(batch).item()]
        found.append((losses, model.state_dict()))
        planned.append(compiled.programs[0].arena_bytes)
    assert found[0][0] == found[1][0]
    assert all(np.array_equal(found[0][1][name], found[1][1][name]) for name in found[0][1])
    assert planned[1] < 0.6 * planned[0]


def test_frozen_parameters_stay():
    model, batch = model_of(), make_batch()
    model.freeze("encoder*")
    frozen = {n: p.numpy() for n, p in model.named_parameters().items() if n.startswith("encoder")}
    step, optimizer = training(model, Generator(0))
    assert not frozen.keys() & optimizer.params.keys()
    step(batch)
    for name, value in frozen.items():
        np.testing.assert_array_equal(model.named_parameters()[name].numpy(), value)


def test_too_long_sentences_are_refused():
    model = model_of()
    with pytest.raises(ShapeError, match="at most 32"):
        model.encode(np.full((1, 33), 4, np.int32), np.array([33], np.int32))


# ---- incremental decoding


def stepped(model: Transformer, batch: Batch, rows: int, tokens: np.ndarray, compiled: bool, max_length: int = 9):
    """Logits [R,T,V] of feeding tokens [R,T] one by one."""
    model.eval()
    memory = model.encode(batch.src, batch.src_lengths)
    cache = model.init_cache(memory, batch.src_lengths, rows, max_length)
    run = compile(lambda t, p: model.step(t, p, cache), state=[model, cache]) if compiled else None
    out = []
    for t in range(tokens.shape[1]):
        position = np.array(t, np.int32)
        logits = run(tokens[:, t], position) if run else model.step(tokens[:, t], position, cache)
        out.append(logits.numpy())
    if run:
        assert len(run.programs) == 1
    return np.stack(out, axis=1), cache


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("changes", STRUCTURES, ids=str)
def test_steps_equal_teacher_forcing(compiled: bool, changes: dict):
    model, batch = model_of(**changes), make_batch()
    model.eval()
    expected = model(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    got, _ = stepped(model, batch, 5, batch.tgt_in, compiled)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    "changes,compiled",
    [({}, False), ({}, True), ({"positions": "relative", "kv_heads": 2}, True), (SSRU, False), (SSRU, True)],
    ids=str,
)
def test_beams_follow_their_own_history(changes: dict, compiled: bool):
    """Random reordering: each row's logits equal teacher forcing of the row's own history."""
    model, batch = model_of(**changes).eval(), make_batch()
    sentences, beams, steps = 5, 3, 6
    rows = sentences * beams
    memory = model.encode(batch.src, batch.src_lengths)
    cache = model.init_cache(memory, batch.src_lengths, rows, 8)

    def plain(tokens, position, parents):
        cache.reorder(parents)
        return model.step(tokens, position, cache)

    run = compile(plain, state=[model, cache]) if compiled else lambda t, p, r: plain(t, p, _tensor(r))
    rng = np.random.default_rng(0)
    histories = np.zeros((rows, 0), np.int32)
    for t in range(steps):
        parents = (np.arange(rows) // beams * beams + rng.integers(0, beams, rows)).astype(np.int32)
        tokens = rng.integers(4, V, rows).astype(np.int32)
        histories = np.concatenate([histories[parents], tokens[:, None]], axis=1)
        logits = run(tokens, np.array(t, np.int32), parents).numpy()
        src, lengths = np.repeat(batch.src, beams, axis=0), np.repeat(batch.src_lengths, beams)
        with no_grad():
            expected = model(src, lengths, histories).numpy()[:, -1]
        np.testing.assert_allclose(logits, expected, atol=1e-5)


def _tensor(values):
    from seqlib.core.tensor import tensor

    return tensor(values)


@pytest.mark.parametrize("changes", [{}, SSRU], ids=str)
def test_a_cache_is_used_again_and_compacted(changes):
    model, batch, other = model_of(**changes), make_batch(0), make_batch(1)
    _, cache = stepped(model, other, 10, np.repeat(other.tgt_in, 2, axis=0), False)
    model.fill_cache(cache, model.encode(batch.src, batch.src_lengths), batch.src_lengths)
    tokens = np.repeat(batch.tgt_in, 2, axis=0)
    expected, _ = stepped(model, batch, 10, tokens, False)
    for t in range(3):
        logits = model.step(tokens[:, t], np.array(t, np.int32), cache).numpy()
        np.testing.assert_array_equal(logits, expected[:, t])
    smaller = model.new_cache(2, 7, 4, 10)
    smaller.take_over(cache, np.array([4, 1]), np.arange(10), 3)
    rows = [8, 9, 2, 3]
    for t in range(3, 6):
        logits = model.step(tokens[rows, t], np.array(t, np.int32), smaller).numpy()
        np.testing.assert_allclose(logits, expected[rows, t], atol=1e-5)


def test_cache_errors():
    model, batch = model_of().eval(), make_batch()
    memory = model.encode(batch.src, batch.src_lengths)
    with pytest.raises(ShapeError, match="multiple of the 5"):
        model.init_cache(memory, batch.src_lengths, 7, 8)
    with pytest.raises(ShapeError, match="at most 32"):
        model.init_cache(memory, batch.src_lengths, 5, 33)
    cache = model.new_cache(4, 7, 8, 8)
    with pytest.raises(SeqlibError, match="memory"):
        model.fill_cache(cache, memory, batch.src_lengths)
    with pytest.raises(ShapeError, match="parents"):
        cache.reorder(_tensor(np.zeros(3, np.int32)))


@pytest.mark.parametrize(
    "changes", [c for c in STRUCTURES if c.get("positions") not in ("learned", "relative") and c is not SSRU], ids=str
)
def test_a_training_step_copies_no_activations(changes: dict):
    """Projections of one input are packed at the weight: what comes of it is read and differentiated as it lies."""
    model, batch, generator = model_of(**changes), make_batch(), Generator(0)
    optimizer = AdamW(model.trainable_parameters())
    step = compile(training_step(model, optimizer, generator, 0.1), state=[model, optimizer, generator])
    launches = step.lower(batch).plan.launches
    names = {launch.name for launch in launches}
    assert not names & {"contiguous", "slice", "slice_grad", "stage", "reshape", "transpose", "pad"}, names
    joins = [launch for launch in launches if launch.name == "concatenate"]
    assert joins and all(p.buffer.kind == "location" for join in joins for p in join.ins if p is not None)
    assert len([launch for launch in launches if launch.name == "attention"]) == 6


@pytest.mark.parametrize("changes", [{}, {"norm": "post", "decoder_layers": 1}])
def test_cross_attention_is_what_the_decoder_weighs_the_memory_by(changes):
    model, batch = model_of(**changes).eval(), make_batch()
    weights = model.cross_attention(batch.src, batch.src_lengths, batch.tgt_in).numpy()
    assert weights.shape == (5, 6, 7)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-5)
    for row, length in enumerate(batch.src_lengths):
        assert not weights[row, :, length:].any()
    first = model.cross_attention(batch.src, batch.src_lengths, batch.tgt_in, layer=0).numpy()
    assert np.array_equal(first, weights)  # the last but one of two, the only one of one
    if model.config.decoder_layers > 1:
        last = model.cross_attention(batch.src, batch.src_lengths, batch.tgt_in, layer=1).numpy()
        assert not np.allclose(last, first)


@pytest.mark.parametrize("kv_heads", [0, 2])
def test_attention_weights_give_the_layers_output(kv_heads):
    layer = MultiHeadAttention(16, 4, kv_heads=kv_heads)
    rng = np.random.default_rng(0)
    x, memory = (rng.normal(size=(3, n, 16)).astype(np.float32) for n in (5, 6))
    lengths = tensor(np.array([6, 2, 4], np.int32))
    weights = layer.weights(tensor(x), tensor(memory), lengths).numpy()
    values = layer.keys_values(tensor(memory)).numpy()[:, :, layer.kv_heads :]
    values = np.repeat(values, 4 // layer.kv_heads, axis=2)
    mixed = np.einsum("bhts,bshk->bthk", weights, values).reshape(3, 5, 16)
    np.testing.assert_allclose(
        layer.out_proj(tensor(mixed)).numpy(), layer(tensor(x), tensor(memory), lengths).numpy(), atol=1e-5
    )
