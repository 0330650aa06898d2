"""Schedules against their closed formulas."""

import math

import pytest

from seqlib.optim.schedule import FACTORS, Schedule
from seqlib.util.errors import UsageError


@pytest.mark.parametrize("step", [1, 2, 4000, 8000, 8001, 100_000])
def test_t2t_default_is_the_noam_formula(step: int):
    schedule = Schedule("constant*linear_warmup*rsqrt_decay*rsqrt_hidden_size", lr=2.0, warmup=8000, hidden_size=512)
    expected = 2.0 * 512**-0.5 * min(step**-0.5, step * 8000**-1.5)
    assert schedule(step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("step", [1, 99, 100, 400, 5000])
def test_rsqrt_normalized_decay_peaks_at_lr(step: int):
    schedule = Schedule("constant*linear_warmup*rsqrt_normalized_decay", lr=0.005, warmup=100)
    expected = 0.005 * min(step / 100, math.sqrt(100 / step) if step > 100 else 1.0)
    assert schedule(step) == pytest.approx(expected, rel=1e-12)


def test_decays_go_from_one_after_warmup_to_their_end():
    for name, middle, end in (("cosine_decay", 0.5, 0.0), ("linear_decay", 0.5, 0.0), ("exponential_decay", 0.1, 0.01)):
        schedule = Schedule(name, warmup=10, train_steps=110)
        assert schedule(1) == schedule(10) == 1.0
        assert schedule(60) == pytest.approx(middle)
        assert schedule(110) == pytest.approx(end) == schedule(500)


def test_the_end_may_be_told_late():
    schedule = Schedule("cosine_decay", warmup=0)
    assert schedule(50, train_steps=100) == pytest.approx(0.5)
    with pytest.raises(UsageError, match="train_steps"):
        schedule(50)


def test_no_warmup_is_full_rate_at_once():
    assert Schedule("constant*linear_warmup", lr=3.0)(1) == 3.0
    assert Schedule("rsqrt_decay")(4) == 0.5


def test_bad_schedules_are_answered():
    with pytest.raises(UsageError, match="linear_warmup"):
        Schedule("constant*linear_warmpu")
    with pytest.raises(UsageError, match="hidden_size"):
        Schedule("constant*rsqrt_hidden_size")
    with pytest.raises(UsageError, match="step"):
        Schedule("constant")(0)
    with pytest.raises(UsageError, match="warmup"):
        Schedule("constant", warmup=-1)


def test_every_factor_states_its_formula():
    assert all(factor.__doc__ for factor in FACTORS.values())
