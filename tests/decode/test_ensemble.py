"""Models that decode as one."""

from __future__ import annotations

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.decode.engine import Engine
from seqlib.decode.ensemble import Ensemble
from seqlib.decode.sampling import Sampling
from seqlib.decode.translate import Translator
from seqlib.models import lstm_seq2seq
from seqlib.models.lstm_seq2seq import LSTMSeq2SeqConfig
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import UsageError
from tests.decode.test_batches import all_ways
from tests.decode.test_engine import Letters, forced

SPEC = ProblemSpec(source_vocab=24, target_vocab=24)


def member(seed: int, **sizes):
    config = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "d_ff": 64, "heads": 4, "max_length": 60}
    model = build(TransformerConfig(**{**config, "tie_output": False, **sizes}), SPEC, Generator(seed))
    weights = model.state_dict()
    weights["output_weight"] = weights["output_weight"] * np.float32(3.0)
    model.load(weights)
    return model.eval()


@pytest.fixture(scope="module")
def members():
    return [member(1), member(2, decoder_layers=2, d_model=48, max_length=50)]


@pytest.fixture(scope="module")
def sources():
    rng = np.random.default_rng(0)
    return [rng.integers(4, 24, n).tolist() for n in (3, 7, 12, 1, 20, 5, 9)]


@pytest.mark.parametrize("beam", [1, 3])
def test_probabilities_are_the_mean_of_the_models(members, sources, beam):
    engine = Engine(Ensemble(members).eval(), SPEC)
    assert engine.longest_source == 49
    for source, (best, *_) in zip(sources, engine.decode(sources, beam=beam, max_length=12), strict=True):
        each = [np.exp(forced(model, source, best.tokens)) for model in members]
        targets = [*best.tokens, SPEC.eos_id][: len(best.token_log_probs)]
        expected = np.log(np.mean(each, axis=0))[np.arange(len(targets)), targets]
        np.testing.assert_allclose(best.token_log_probs, expected, atol=2e-4)


def test_a_model_with_itself_is_the_model(members, sources):
    alone = Engine(members[0], SPEC).decode(sources, beam=3, max_length=12)
    twice = Engine(Ensemble([members[0], members[0]]), SPEC).decode(sources, beam=3, max_length=12)
    assert [[h.tokens for h in a] for a in twice] == [[h.tokens for h in a] for a in alone]


def test_the_batch_does_not_matter(members, sources):
    all_ways(Engine(Ensemble(members), SPEC), sources * 5, beam=3, n_best=3, max_length=12)


def test_alignment_is_the_mean_of_the_models(members):
    ensemble = Ensemble(members)
    src, lengths, target = np.array([[5, 6, 2]]), np.array([3]), np.array([[1, 7]])
    each = [model.cross_attention(src, lengths, target).numpy() for model in members]
    np.testing.assert_allclose(ensemble.cross_attention(src, lengths, target).numpy(), np.mean(each, axis=0), atol=1e-6)
    (found,) = Translator(ensemble, Letters(), SPEC).translate(["abc"], alignment=True, min_length=3, max_length=6)
    assert len(found.token_alignment) == len(found.tokens)


def test_architectures_may_differ(members, sources):
    config = LSTMSeq2SeqConfig(layers=1, d_model=32, hidden=32, max_length=40)
    recurrent = lstm_seq2seq.build(config, SPEC, Generator(5)).eval()
    ensemble = Ensemble([members[0], recurrent])
    options = {"beam": 3, "n_best": 2, "max_length": 9, "min_length": 5, "no_repeat_ngram": 2, "banned": [[7]]}
    all_ways(Engine(ensemble, SPEC), sources, prefixes=(), **options)
    for model in (ensemble, recurrent):
        translator = Translator(model, Letters(), SPEC, beam=3)
        (found,) = translator.translate(["abcab"], prefixes=["ba"], min_length=6, max_length=9, alignment=True)
        assert found.text.startswith("ba") and len(found.token_alignment) == len(found.tokens) >= 5
        drawn = translator.translate(["abcab"], n_best=3, max_length=9, sampling=Sampling(seed=1))
        assert drawn == translator.translate(["abcab", "tt"], n_best=3, max_length=9, sampling=Sampling(seed=1))[:1]


def test_no_models_are_refused():
    with pytest.raises(UsageError, match="at least one model"):
        Ensemble([])
