"""The expected end of a run: evaluations and checkpoints count."""

import importlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from seqlib.train import run
from seqlib.train.config import RunConfig
from seqlib.train.progress import Due, End
from seqlib.train.scores import TranslationScorer as Scorer
from seqlib.train.setup import make_config


def _due(every: int | str, took: float) -> Due:
    due = Due(every, "eval_every", 0.0)
    due.took = took
    return due


def test_steps_evaluations_and_checkpoints_are_added_up() -> None:
    end = End(RunConfig(train_steps=1000), 0)
    assert end.remaining(400, 99.0, 0.5) == 300.0 and end.expected(400, 99.0, 0.5) == 1000
    actions = (_due(200, 10.0), _due(500, 3.0))  # after 600, 800; after 500; and both at the end
    assert end.remaining(400, 99.0, 0.5, actions) == pytest.approx(300 + 2 * 10 + 3 + 10 + 3)
    assert end.remaining(1000, 99.0, 0.5, actions) == 13.0
    assert end.remaining(0, 0.0, 1.0, (_due(0, 10.0),)) == 1010.0  # only at the end
    assert end.remaining(0, 0.0, 1.0, (_due("10m", 60.0),)) == pytest.approx(1000 / 0.9 + 60)


def test_a_time_limit_ends_when_it_says_and_the_last_step_is_expected() -> None:
    end = End(RunConfig(time_limit="10m"), 0)
    assert end.remaining(100, 200.0, 0.5) == 400.0 and end.expected(100, 200.0, 0.5) == 900
    actions = (_due(100, 50.0),)  # as long as the steps between
    assert end.remaining(100, 200.0, 0.5, actions) == 450.0 and end.expected(100, 200.0, 0.5, actions) == 500
    assert end.expected(100, 200.0, 0.5, (_due("100s", 50.0),)) == 500
    assert end.remaining(100, 700.0, 0.5) == 0.0 and end.expected(100, 700.0, 0.5) == 100
    both = End(RunConfig(time_limit="10m", train_steps=300), 0)
    assert both.remaining(100, 200.0, 0.5) == 100.0 and both.expected(100, 200.0, 0.5) == 300
    assert both.remaining(100, 590.0, 0.5) == 10.0


def test_a_run_tells_an_end_with_its_evaluations(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An evaluation that takes 40 seconds, measured once, is expected another three times, the last at the end."""
    scores, clock = Scorer.dev, time.perf_counter
    late = [0.0]

    def slow(self: Scorer) -> dict[str, float]:
        late[0] += 40.0
        return scores(self)

    monkeypatch.setattr(Scorer, "dev", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])
    settings |= {"train_steps": 12, "eval_every": 3, "log_every": 4}
    run.train(make_config(settings))
    found = [60 * int(m) + int(s) for m, s in re.findall(r"ETA (\d+):(\d+)", capfd.readouterr().err)]
    assert len(found) == 3 and 120 <= found[0] < 140 and 80 <= found[1] < 100 and 40 <= found[2] < 60


def test_a_timed_run_tells_the_step_it_expects_to_end_with(
    settings: dict[str, Any], tmp_path: Path, capfd: Any
) -> None:
    settings |= {"train_steps": 0, "time_limit": "2s", "log_every": 1}
    steps = run.train(make_config(settings)).position.step
    told = [int(n.replace(",", "")) for n in re.findall(r"step [\d,]+/~([\d,]+) ", capfd.readouterr().err)]
    assert len(told) >= steps - 1 and told[-1] >= steps - 1


def test_building_programs_does_not_count_as_the_time_of_a_step(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A minute for each program, on a clock that is set on meanwhile: steps are as quick as before."""
    clock, late = time.perf_counter, [0.0]
    compile_module = importlib.import_module("seqlib.core.compile")
    lower = compile_module.lower

    def slow(graph: Any) -> Any:
        late[0] += 60.0
        return lower(graph)

    monkeypatch.setattr(compile_module, "lower", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])
    run.train(make_config(settings | {"train_steps": 4, "log_every": 2}))
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert sum(r["seconds"] for r in records if r["kind"] == "program") >= 60
    assert all(r["seconds_per_step"] < 30 for r in records if r["kind"] == "train")
