"""Whole runs on the corpus of number words: resumed = uninterrupted, stops, errors, the saved model."""

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import seqlib
from seqlib import bundle
from seqlib.core.ops import product_cuda
from seqlib.train import checkpoint, run
from seqlib.train.callback import Callback
from seqlib.train.setup import make_config
from seqlib.train.trainer import Trainer
from seqlib.train.window import Window
from seqlib.util.errors import DataError, SeqlibError, UsageError
from tests.train.conftest import KINDS, Stop, same_checkpoint


class Order(Callback):
    """Writes down where in the data every step was, and its rate."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float]] = []

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        at = trainer.position
        self.seen.append((at.epoch, at.batch, float(trainer.optimizer.lr.numpy())))


def _run(settings: dict[str, Any], folder: Path, *callbacks: Callback) -> run.Result:
    return run.train(make_config({**settings, "output_dir": str(folder)}), callbacks)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_and_twenty_steps_are_forty(settings: dict[str, Any], tmp_path: Path, kind: str) -> None:
    settings |= {"train_steps": 40} | KINDS[kind]
    straight, halves = Order(), [Order(), Order()]
    _run(settings, tmp_path / "straight", straight)
    stopped = _run(settings, tmp_path / "halves", halves[0], Stop(20))
    assert (stopped.stopped, stopped.model, stopped.position.step) == ("callback", None, 20)
    finished = run.resume(tmp_path / "halves", callbacks=[halves[1]])
    assert (finished.stopped, finished.position.step) == ("", 40)
    assert straight.seen == halves[0].seen + halves[1].seen
    assert straight.seen[-1][0] > 0, "the runs should cross the end of an epoch"
    same_checkpoint(tmp_path / "straight", tmp_path / "halves", 40)


def test_the_log_of_a_resumed_run_has_every_step_once(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"log_every": 1, "save_every": 4}
    _run(settings, tmp_path / "run", Stop(6))
    # As if the run had been killed after step 6 with its last checkpoint at step 4, in the middle of a log line.
    checkpoint.remove(tmp_path / "run/checkpoints/step-6")
    with open(tmp_path / "run/log.jsonl", "ab") as log:
        log.write(b'{"kind": "train", "st')
    run.resume(tmp_path / "run")
    records = [msgspec.json.decode(line) for line in (tmp_path / "run/log.jsonl").read_bytes().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, 13))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(
    settings: dict[str, Any], tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _run(settings, tmp_path / "run", Stop(5, number))
    assert result.stopped == signal.Signals(number).name
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [5]
    assert f"seqlib train --resume {tmp_path / 'run'}" in capsys.readouterr().err


def test_a_second_interrupt_stops_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    class Twice(Callback):
        def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
            if step == 5:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _run(settings, tmp_path / "run", Twice())
    assert checkpoint.steps(tmp_path / "run/checkpoints") == []


def test_checkpoints_kept_are_the_last_and_the_best(settings: dict[str, Any], tmp_path: Path) -> None:
    class Judge(Callback):
        """Makes step 4 the best."""

        def on_train_begin(self, trainer: Trainer) -> None:
            trainer.scorer.rank = lambda scores: float(trainer.position.step == 4)

    settings |= {"save_every": 2, "eval_every": 2, "keep_last": 2, "average": 0}
    result = _run(settings, tmp_path / "run", Judge())
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [4, 10, 12]
    assert result.position.best_step == 4


def test_a_damaged_checkpoint_is_passed_over(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings["save_every"] = 3
    _run(settings, tmp_path / "straight")
    _run(settings, tmp_path / "run", Stop(6))
    (tmp_path / "run/checkpoints/step-6/model.safetensors").write_bytes(b"x")
    run.resume(tmp_path / "run")
    assert "using step-3" in capsys.readouterr().err
    same_checkpoint(tmp_path / "straight", tmp_path / "run", 12)


def test_a_resume_refuses_what_would_change_the_run(settings: dict[str, Any], tmp_path: Path) -> None:
    _run(settings, tmp_path / "run", Stop(2))
    with pytest.raises(UsageError, match=r"keeps its settings: seed: 1 in the run, 2 asked"):
        run.resumed_config(tmp_path / "run", {"seed": 2})
    with pytest.raises(UsageError, match=r"settings: optim\.lr: \S+ in the run, 3\.0 asked$"):
        run.resumed_config(tmp_path / "run", {"optim": {"lr": 3.0}})
    longer = run.resumed_config(tmp_path / "run", {"train_steps": 14, "keep_last": 1})
    assert run.resume(tmp_path / "run", longer).position.step == 14


def test_a_resume_elsewhere_says_so(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(settings, tmp_path / "run", Stop(2))
    assert "another environment" not in capsys.readouterr().err
    monkeypatch.setenv("OMP_NUM_THREADS", "63")
    run.resume(tmp_path / "run")
    said = capsys.readouterr().err
    assert "resumed in another environment" in said and "OMP_NUM_THREADS" in said and "63 now" in said


def test_the_algorithms_of_products_go_with_a_run(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: dict[str, int] = {}
    monkeypatch.setattr(product_cuda, "_used", {"a plan": 2})
    monkeypatch.setattr(product_cuda, "_choices", lambda: table)
    _run({**settings, "train_steps": 2}, tmp_path / "run", Stop(1))
    run.resume(tmp_path / "run")
    assert table == {"a plan": 2}


def test_a_folder_holds_one_run(settings: dict[str, Any], tmp_path: Path) -> None:
    _run(settings, tmp_path / "run", Stop(1))
    with pytest.raises(UsageError, match=r"already holds a run: go on with it by `seqlib train --resume"):
        _run(settings, tmp_path / "run")
    with pytest.raises(UsageError, match="no run can be read here"):
        run.resume(tmp_path / "nothing")


def test_two_processes_do_not_train_in_one_folder(settings: dict[str, Any], tmp_path: Path) -> None:
    class Second(Callback):
        def on_train_begin(self, trainer: Trainer) -> None:
            with pytest.raises(UsageError, match="another process is training here"):
                run.resume(tmp_path / "run")

    _run(settings, tmp_path / "run", Second(), Stop(1))


def test_other_data_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    files = [tmp_path / "own.en", tmp_path / "own.de"]
    for file, original in zip(files, settings["data"]["paths"], strict=True):
        file.write_bytes(Path(original).read_bytes())
    settings["data"] = settings["data"] | {"paths": [str(file) for file in files]}
    _run(settings, tmp_path / "run", Stop(2))
    for file in files:
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-50]))
    with pytest.raises(DataError, match="trained on other data"):
        run.resume(tmp_path / "run")


def test_a_tokenizer_that_was_trained_again_and_differs_is_refused(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(settings, tmp_path / "run", Stop(2))
    monkeypatch.setattr(type(run.make_trainer(make_config(settings), None).data.tokenizer), "digest", "other")
    with pytest.raises(DataError, match="was trained with another tokenizer than that in"):
        run.resume(tmp_path / "run")


def test_a_loss_that_is_not_finite_ends_the_run_unsaved(settings: dict[str, Any], tmp_path: Path) -> None:
    class Poison(Callback):
        def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
            if step == 6:
                parameter = trainer.model.parameters()[0]
                parameter.assign(np.full(parameter.shape, np.nan, np.float32))

    settings |= {"save_every": 5, "log_every": 4}
    with pytest.raises(
        SeqlibError,
        match=r"step 12: the loss or its gradient was not finite in the last 6 steps; first NaN in the output of "
        r"\w+, shape .*, layer \S+ .*source_embedding.weight held it before",
    ):
        _run(settings, tmp_path / "run", Poison())
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [5]


def test_a_disk_that_fills_up_leaves_a_run_that_can_be_resumed(
    settings: dict[str, Any], tmp_path: Path, small_disk: Path
) -> None:
    settings |= {"save_every": 1, "keep_last": 100, "train_steps": 100}
    with pytest.raises(SeqlibError, match=r"no space left|cannot be written"):
        _run(settings, small_disk / "run")
    folder = small_disk / "run/checkpoints"
    newest = checkpoint.newest(folder)
    assert newest.step == checkpoint.steps(folder)[-1] >= 2
    for step in checkpoint.steps(folder)[:-1]:  # space is made
        checkpoint.remove(folder / f"step-{step}")
    changes = {"train_steps": newest.step + 1, "keep_last": 1}
    assert run.resume(small_disk / "run", run.resumed_config(small_disk / "run", changes)).model is not None


def test_one_step_that_is_not_finite_is_left_out() -> None:
    window = Window()
    for total, norm in ((4.0, 1.0), (np.inf, 1.0), (2.0, np.nan), (8.0, 1.0)):
        window.add(np.float32(total), np.float32(4), np.float32(norm), tokens=4, padded=4, seconds=1.0, rate=0.1)
    assert window.skipped(4) == 2
    assert not window.check(4)
    assert window.close(4)["loss"] == pytest.approx(12 / 8)


def test_a_time_limit_ends_the_run_and_the_rate_falls_to_it(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"time_limit": "2s", "train_steps": 0}
    order = Order()
    result = _run(settings, tmp_path / "run", order)
    assert result.stopped == "" and 2.0 <= result.position.seconds < 4.0
    rates = [rate for _, _, rate in order.seen]
    assert max(rates) == pytest.approx(0.01, rel=0.2)
    assert rates[-1] < 0.1 * max(rates)


def test_the_run_saves_a_model_that_translates(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"train_steps": 30, "eval_every": 10, "average": 2, "save_every": 10}
    settings["decode"] = {"dev_sentences": 20, "beam": 2}
    settings["data"] = settings["data"] | {"dev_size": 80}
    result = _run(settings, tmp_path / "run")
    assert result.model == tmp_path / "run/model"
    saved = bundle.read(tmp_path / "run")
    assert saved.record["training"]["steps"] == 30
    assert saved.metrics["dev"]["bleu"]["signature"].startswith("nrefs:1|case:mixed")
    assert saved.generation["num_beams"] == 2
    model = seqlib.load(tmp_path / "run")
    (found,) = model.translate(["one two"])
    assert isinstance(found.text, str) and 0.0 <= found.confidence <= 1.0
    assert saved.confidence is not None and found.flagged is not None
    assert model.threshold == saved.confidence["threshold"]


def test_figures_of_a_window() -> None:
    window = Window()
    for total, weight in ((10.0, 4.0), (20.0, 8.0)):
        window.add(np.float32(total), np.float32(weight), np.float32(1.5), tokens=6, padded=16, seconds=0.5, rate=0.1)
    values = window.close(2)
    assert values["loss"] == pytest.approx(30 / 12)
    assert values["target_tokens_per_second"] == pytest.approx(12.0)
    assert values["padding"] == pytest.approx(1 - 12 / 32)
    assert window.steps == 0
