"""A search as a part of the model's program gives what the search on the host gives, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqlib.core.rng import Generator
from seqlib.decode import advance, device_search, programs
from seqlib.decode.engine import Engine
from seqlib.decode.search import Rules, start
from seqlib.models.transformer import TransformerConfig, build
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import SeqlibError

SPEC = ProblemSpec(source_vocab=24, target_vocab=24)


@pytest.fixture(scope="module")
def model() -> Any:
    config = TransformerConfig(
        encoder_layers=1, decoder_layers=2, d_model=32, d_ff=32, heads=2, max_length=70, tie_output=False
    )
    model = build(config, SPEC, Generator(5))
    weights = model.state_dict()
    weights["output_weight"] = weights["output_weight"] * 3.0  # decided enough for ends to come at all lengths
    weights["output_weight"][SPEC.eos_id] *= 1.6
    model.load(weights)
    return model.eval()


def sources(count: int) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(4, 24, n).tolist() for n in rng.integers(1, 20, count)]


def found(engine: Engine, on_device: bool, count: int, **options: Any) -> tuple[list[Any], int]:
    """Every hypothesis, as bytes where it has numbers, and the steps taken."""
    engine.search_on_device, before = on_device, engine.steps
    answers = engine.decode(sources(count), **options)
    told = [
        [(h.tokens, h.score, h.log_prob, h.stop_reason, h.token_log_probs.tobytes()) for h in answer]
        for answer in answers
    ]
    return told, engine.steps - before


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 1},
        {"beam": 1, "max_length": 5},
        {"beam": 4},
        {"beam": 5, "n_best": 3, "alpha": 1.2},
        {"beam": 3, "n_best": 3, "penalty": "power", "alpha": 1.0, "early_stop": False, "max_length": 21},
        {"beam": 12, "n_best": 12, "alpha": -0.5},
    ],
)
def test_the_same_as_on_the_host(model: Any, options: dict[str, Any]) -> None:
    engine = Engine(model, SPEC)
    host, host_steps = found(engine, False, 6, **options)
    device, device_steps = found(engine, True, 6, **options)
    assert device == host
    assert host_steps <= device_steps < host_steps + device_search._STEPS
    assert found(engine, True, 6, **options)[0] == host  # again, with the state left by the first


def test_the_cache_grows(model: Any) -> None:
    engine = Engine(model, SPEC)
    weights = model.state_dict()
    longer = dict(weights, output_weight=weights["output_weight"].copy())
    longer["output_weight"][SPEC.eos_id] = 0.0  # others are always more probable
    model.load(longer)
    try:
        host, steps = found(engine, False, 3, beam=3)
        assert steps > 40 and found(engine, True, 3, beam=3)[0] == host
        assert len({place.size.length for place in engine.programs._places.values()}) > 1
    finally:
        model.load(weights)


def test_what_is_left_to_the_host(model: Any) -> None:
    penalties = np.ones(9, np.float32)
    limits = np.array([8])
    assert device_search.can_run(start(limits, Rules(4, 1, penalties, 1, 2)), 24)
    assert not device_search.can_run(start(limits, Rules(13, 1, penalties, 1, 2)), 24)  # fewer words than candidates
    assert not device_search.can_run(start(limits, Rules(advance.MOST_BEAMS + 1, 1, penalties, 1, 2)), 1000)
    engine = Engine(model, SPEC)
    options: dict[str, Any] = {"beam": 3, "no_repeat_ngram": 2}
    assert found(engine, True, 4, **options) == found(engine, False, 4, **options)


def test_logits_that_are_not_finite_are_told(model: Any) -> None:
    weights = model.state_dict()
    model.load(dict(weights, output_weight=np.full_like(weights["output_weight"], np.nan)))
    engine = Engine(model, SPEC)
    engine.search_on_device = True
    try:
        with pytest.raises(SeqlibError, match="decoding step 1: the model's logits are not finite for sentence 0"):
            engine.decode(sources(2), beam=4)
    finally:
        model.load(weights)


@pytest.mark.parametrize("beam", [1, 4])
def test_on_a_gpu_a_step_is_kernels_alone_and_copies_no_state(model: Any, beam: int) -> None:
    place = programs.Place(model, programs.Size(2, beam, 8, 16))
    state = device_search._State.of(place, Rules(beam, 1, np.ones(71, np.float32), 1, 2), 70)
    state._step.device = "cuda"
    program = state._step.lower()
    assert not [x.name for x in program.plan.launches if x.op is not None and x.kernel is None]
    assert not program.plan.copies
    names = [x.name for x in program.plan.launches]
    assert names.count("advance") == names.count("top_k") == 1
