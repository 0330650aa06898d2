"""`--batch auto`: a size is measured once, kept in the run's configuration, and bounded by memory and the corpus."""

from pathlib import Path
from typing import Any

import pytest

from seqlib.core.program import ARENAS
from seqlib.train import auto_batch, run
from seqlib.train import config as run_config
from seqlib.train.setup import make_config
from seqlib.util.errors import UsageError
from tests.train.conftest import Stop, same_checkpoint


def _settings(settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return settings | {"batch": settings["batch"] | {"tokens": "auto"} | changes}


def test_auto_is_a_value_and_other_words_are_not() -> None:
    assert run_config.build({"batch": {"tokens": "auto"}}).batch.tokens == "auto"
    with pytest.raises(UsageError, match=r"'batch\.tokens'"):
        run_config.build({"batch": {"tokens": "large"}})
    with pytest.raises(UsageError, match="must be measured"):
        _ = run_config.build({"batch": {"tokens": "auto"}}).batch.size


def test_the_smallest_size_near_the_best_speed_is_taken(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []
    speeds = {256: 100.0, 512: 180.0, 1024: 195.0, 2048: 200.0}

    def measured(step: Any, batches: Any, plan: Any) -> float:
        step(batches)
        tried.append(256 << len(tried))
        return speeds[tried[-1]]

    monkeypatch.setattr(auto_batch, "_speed", measured)
    config = make_config(_settings(settings))
    run.train(config, [Stop(5)])
    saved = run_config.read(tmp_path / "run/run.json")
    assert saved.batch.tokens == 1024 and tried[:3] == [256, 512, 1024]
    assert "batch.tokens auto: 1,024 (target tok/s: 100 at 256, 180 at 512, 195 at 1,024" in capsys.readouterr().err
    tried.clear()
    run.resume(tmp_path / "run")
    assert not tried, "a resume measures nothing"
    # A run that was told the number from the start is the same to the bit.
    run.train(make_config(_settings(settings, tokens=1024) | {"output_dir": str(tmp_path / "told")}))
    same_checkpoint(tmp_path / "run", tmp_path / "told", 12)


def test_it_ends_where_nothing_gets_faster(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_batch, "_UPDATES", 1)
    tried: list[int] = []
    monkeypatch.setattr(auto_batch, "_speed", lambda step, batches, plan: tried.append(1) or 100.0)
    assert _settled(settings).batch.tokens == 256 and len(tried) == 3


def test_memory_and_the_corpus_bound_it(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    speed = iter(range(1, 100))
    monkeypatch.setattr(auto_batch, "_speed", lambda step, batches, plan: float(2 ** next(speed)))
    by_corpus = _settled(settings).batch.size
    assert 256 <= by_corpus <= 1024, "an epoch of about 900 short pairs keeps its updates"
    monkeypatch.setattr(auto_batch, "_UPDATES", 1)
    assert _settled(settings).batch.size > by_corpus
    assert _settled(settings | {"memory_limit": "1MB"}).batch.size == 256


def test_measuring_works_and_gives_its_memory_back(settings: dict[str, Any]) -> None:
    ARENAS["cpu"].release()
    assert _settled(settings).batch.size in (256, 512, 1024)
    assert ARENAS["cpu"].nbytes == 0


def _settled(settings: dict[str, Any]) -> run_config.RunConfig:
    from seqlib.train.setup import open_problem, prepare_data

    config = make_config(_settings(settings))
    return auto_batch.settle_batch(config, prepare_data(config, open_problem(config)))
