"""Decoding of a model that has `encode` and `decode` only agrees with its forward pass."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor
from seqlib.decode.engine import Engine
from seqlib.nn import Embedding, EncoderDecoder, Linear, MultiHeadAttention, PrefixCache
from seqlib.problems.spec import ProblemSpec

SPEC = ProblemSpec(source_vocab=11, target_vocab=13)


class Config(msgspec.Struct, frozen=True):
    max_length: int = 16


class Small(EncoderDecoder):
    """Causal self-attention over the target, then a look at the source."""

    def __init__(self, config: Config, spec: ProblemSpec) -> None:
        self.config, self.spec = config, spec
        self.source, self.target = Embedding(spec.source_vocab, 8), Embedding(spec.target_vocab, 8)
        self.own, self.look = MultiHeadAttention(8, 2), MultiHeadAttention(8, 2)
        self.answer = Linear(8, spec.target_vocab)

    def encode(self, src: Tensor, src_lengths: Tensor) -> Tensor:
        return self.source(src)

    def decode(self, memory: Tensor, src_lengths: Tensor, tgt_in: Tensor) -> Tensor:
        x = self.target(tgt_in)
        x = x + self.own(x, causal=True)
        return self.answer(x + self.look(x, memory, src_lengths))


@pytest.fixture
def model() -> Small:
    with use_generator(Generator(3)):
        made = Small(Config(), SPEC)
    made.eval()
    return made


SRC = np.array([[4, 5, 6, 2], [7, 2, 0, 0]], np.int32)
LENGTHS = np.array([4, 2], np.int32)


@pytest.mark.parametrize("beams", [1, 3])
def test_steps_are_the_forward_pass(model: Small, beams: int) -> None:
    rows = 2 * beams
    cache = model.new_cache(2, 4, rows, 6)
    memory = model.encode(Tensor(SRC), Tensor(LENGTHS))
    model.fill_cache(cache, memory, LENGTHS)
    tokens = np.random.default_rng(0).integers(3, 13, (rows, 5)).astype(np.int32)
    steps = [model.step(tokens[:, t], np.array(t, np.int32), cache).numpy() for t in range(5)]
    wide = np.repeat(SRC, beams, axis=0), np.repeat(LENGTHS, beams)
    whole = model.decode(model.encode(Tensor(wide[0]), Tensor(wide[1])), Tensor(wide[1]), Tensor(tokens))
    np.testing.assert_allclose(np.stack(steps, 1), whole.numpy(), rtol=1e-5, atol=1e-6)


def test_beams_are_reordered(model: Small) -> None:
    cache = model.new_cache(1, 4, 2, 4)
    model.fill_cache(cache, model.encode(Tensor(SRC[:1]), Tensor(LENGTHS[:1])), LENGTHS[:1])
    model.step(np.array([3, 4], np.int32), np.array(0, np.int32), cache)
    cache.reorder(Tensor(np.array([1, 1], np.int32)))
    assert cache.prefix.numpy()[:, 0].tolist() == [4, 4]


def test_sentences_move_to_another_size(model: Small) -> None:
    old, new = PrefixCache(3, 4, 8, 6, 5), PrefixCache(1, 6, 8, 2, 8)
    old.prefix.assign(np.arange(30, dtype=np.int32).reshape(6, 5))
    old.lengths.assign(np.array([1, 2, 3], np.int32))
    new.take_over(old, np.array([2]), np.array([0, 1, 2, 3, 5, 4]), used=3)
    assert new.lengths.numpy().tolist() == [3]
    assert new.prefix.numpy()[:, :3].tolist() == [[25, 26, 27], [20, 21, 22]]


@pytest.mark.parametrize("beam", [1, 4])
def test_the_search_finds_what_one_sentence_alone_gives(model: Small, beam: int) -> None:
    engine = Engine(model, SPEC)
    sources = [[4, 5, 6], [7], [8, 9, 10, 4, 5]]
    together = engine.decode(sources, beam=beam, max_length=7)
    for source, found in zip(sources, together, strict=True):
        (alone,) = engine.decode([source], beam=beam, max_length=7)
        assert [hypothesis.tokens for hypothesis in alone] == [hypothesis.tokens for hypothesis in found]


def test_loss_counts_tokens(model: Small) -> None:
    batch: Any = SimpleNamespace(
        src=SRC,
        src_lengths=LENGTHS,
        tgt_in=np.array([[1, 5, 6], [1, 7, 0]], np.int32),
        tgt_out=np.array([[5, 6, 2], [7, 2, -1]], np.int32),
    )
    total, weight = model.loss(batch)
    assert weight.item() == 5 and 0 < total.item() < 5 * 10


def test_weights_count_a_pair_as_often(model: Small) -> None:
    tgt_in, tgt_out = np.array([[1, 5, 6], [1, 7, 0]], np.int32), np.array([[5, 6, 2], [7, 2, -1]], np.int32)
    every = np.array([0, 1, 1])
    twice: Any = SimpleNamespace(
        src=SRC[every], src_lengths=LENGTHS[every], tgt_in=tgt_in[every], tgt_out=tgt_out[every]
    )
    weights = np.array([[1, 1, 1], [2, 2, 2]], np.float32)
    weighted: Any = SimpleNamespace(src=SRC, src_lengths=LENGTHS, tgt_in=tgt_in, tgt_out=tgt_out, weights=weights)
    expected, found = model.loss(twice), model.loss(weighted)
    assert found[1].item() == expected[1].item() == 7
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-6)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(NotImplementedError, match="EncoderDecoder must define encode"):
        EncoderDecoder().encode(Tensor(SRC), Tensor(LENGTHS))
