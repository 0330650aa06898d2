"""The callbacks that come with seqlib: how a configuration names them, what they do, and that a resume keeps them."""

import csv
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import seqlib
from seqlib import bundle
from seqlib.train import callbacks, checkpoint, run
from seqlib.train.callback import Callback
from seqlib.train.monitor import Monitor
from seqlib.train.setup import make_config
from seqlib.train.trainer import Trainer
from seqlib.util.errors import SeqlibError, UsageError
from tests.train.conftest import Stop, same_checkpoint

OWN = """
from seqlib.train.callback import Callback

class Beep(Callback):
    def __init__(self, at: int, loud: bool = False):
        self.at, self.loud = at, loud

    def on_train_batch_end(self, trainer, step):
        if step == self.at:
            print("beep", self.loud)

def nothing():
    return 3
"""


class Dev(Callback):
    """Replaces the dev scores by a list, one an evaluation, the last one for ever."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def on_train_begin(self, trainer: Trainer) -> None:
        first = trainer.position.step // int(trainer.config.eval_every)
        left = iter([*self.losses[first:], *[self.losses[-1]] * 1000])
        trainer.scorer.dev = lambda: {"loss": next(left)}


class Rates(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        self.seen.append(float(trainer.optimizer.lr.numpy()))


def _train(settings: dict[str, Any], folder: Path, *further: Callback, **changes: Any) -> run.Result:
    return run.train(make_config(settings | changes | {"output_dir": str(folder)}), further)


def _records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_bytes().splitlines()
    return [record for record in map(msgspec.json.decode, lines) if record["kind"] == kind]


def test_names_and_settings() -> None:
    (one, two, three) = callbacks.make(
        ["early_stopping:patience=3:min_delta=0.1:restore_best=false", "EarlyStopping:monitor=val_loss", "csv"]
    )
    assert (one.patience, one.restore_best, one.monitor._min_delta) == (3, False, 0.1)
    assert (two.monitor.name, two.monitor.less, two.patience) == ("loss", True, 5)
    assert type(three).__name__ == "CSVLogger"
    assert set(callbacks.available()) >= {"model_checkpoint", "terminate_on_nan", "reduce_lr_on_plateau"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("early_stoping", "unknown callback 'early_stoping'; did you mean early_stopping"),
        ("early_stopping:patiense=3", "setting of callback early_stopping: 'patiense'; did you mean patience"),
        ("early_stopping:patience=soon", "callback early_stopping: patience: expected `int`"),
        ("early_stopping:patience=0", "patience 0 must be at least 1"),
        ("early_stopping:monitor=loss:mode=up", "unknown mode 'up'"),
        ("early_stopping:patience=3:3", "expected setting=value, got '3'"),
        ("reduce_lr_on_plateau:factor=2", "factor 2.0 must be above 0 and below 1"),
        ("model_checkpoint:filepath=a{epoch}", "may name {step} only"),
        ("model_checkpoint:save_freq=5:save_best_only=true", "leave save_freq out"),
        ("learning_rate_monitor:every=0", "every 0 must be at least 1"),
        ("csv:separator=xx", "must be one character"),
        ("absent.py:Beep", "there is no file absent.py"),
        ("seqlib.train.callbak:Beep", "there is no module"),
        ("seqlib.train.callback:Calback", "did you mean Callback"),
    ],
)
def test_what_cannot_be_made_is_answered_before_training(entry: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_config({"problem": "translate_bulletin_ende", "callbacks": [entry]})
    assert message in str(error.value)


def test_a_users_own(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"callback own\.py:Beep needs at"):
        make_config(settings | {"callbacks": ["own.py:Beep"]})
    with pytest.raises(UsageError, match=r"gives a int, not a seqlib\.train\.callback\.Callback"):
        make_config(settings | {"callbacks": ["own.py:nothing"]})
    config = make_config(settings | {"callbacks": ["own.py:Beep:at=2:loud=true"], "train_steps": 3})
    assert config.callbacks == (f"{tmp_path / 'own.py'}:Beep:at=2:loud=true",)
    monkeypatch.chdir("/")
    run.train(config)
    assert capsys.readouterr().out == "beep True\n"


def test_monitors() -> None:
    down, up = Monitor("loss", min_delta=0.5), Monitor("bleu")
    assert [down.improved({"loss": x}, n) for n, x in enumerate((3.0, 2.6, 2.4, np.nan, 1.0))] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert [up.improved({"bleu": x}, n) for n, x in enumerate((3.0, 2.0, 4.0))] == [True, False, True]
    assert (up.best, up.best_step) == (4.0, 2)


def test_early_stopping_ends_the_run_with_the_best_weights(settings: dict[str, Any], tmp_path: Path) -> None:
    changes = {"eval_every": 2, "train_steps": 40, "keep_last": 1, "callbacks": ["early_stopping:patience=3"]}
    result = _train(settings, tmp_path / "run", Dev([5.0, 3.0, 4.0, 4.0, 4.0, 1.0]), **changes)
    assert (result.stopped, result.position.step) == ("", 10)
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [4, 10]
    saved = bundle.read(tmp_path / "run")
    assert saved.record["training"]["weights"] == "step 4"
    best = checkpoint.load(tmp_path / "run/checkpoints/step-4").model
    assert all(np.array_equal(saved.weights()[name], array) for name, array in best.items())
    # A resume finds it stopped; with more patience it goes on.
    assert run.resume(tmp_path / "run").position.step == 10
    more = run.resumed_config(tmp_path / "run", {"callbacks": ["early_stopping:patience=9"], "train_steps": 12})
    assert run.resume(tmp_path / "run", more).position.step == 12


def test_counters_and_factors_survive_a_resume_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    losses = [5.0, 6.0, 6.0, 6.0, 6.0, 4.0, 6.0, 6.0, 6.0]
    changes = {
        "eval_every": 2,
        "train_steps": 18,
        "callbacks": ["reduce_lr_on_plateau:patience=2:factor=0.1:cooldown=1:min_lr=1e-5", "early_stopping"],
    }
    straight, halves = Rates(), [Rates(), Rates()]
    _train(settings, tmp_path / "straight", Dev(losses), straight, **changes)
    _train(settings, tmp_path / "halves", Dev(losses), halves[0], Stop(7), **changes)
    run.resume(tmp_path / "halves", callbacks=[Dev(losses), halves[1]])
    assert straight.seen == halves[0].seen + halves[1].seen
    assert straight.seen[10] < 0.2 * straight.seen[5], "the plateau lowers the rate"
    same_checkpoint(tmp_path / "straight", tmp_path / "halves", 18)
    states = [checkpoint.load(tmp_path / name / "checkpoints/step-18").state for name in ("straight", "halves")]
    assert states[0]["callbacks"] == states[1]["callbacks"]


def test_a_plateau_lowers_the_rate_and_rests(settings: dict[str, Any], tmp_path: Path) -> None:
    rates = Rates()
    changes = {
        "eval_every": 1,
        "train_steps": 8,
        "optim": {"lr": 0.01, "warmup": 0, "schedule": "constant"},
        "callbacks": ["reduce_lr_on_plateau:patience=2:factor=0.5:cooldown=1:min_lr=0.003"],
    }
    _train(settings, tmp_path / "run", Dev([5.0]), rates, **changes)
    expected = [0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.003, 0.003]  # 1 better, 2 worse, 1 rests, 2 worse
    assert rates.seen == pytest.approx(expected)


def test_what_is_watched_must_exist(settings: dict[str, Any], tmp_path: Path) -> None:
    for number, (changes, message) in enumerate(
        [
            ({"callbacks": ["early_stopping:monitor=blue"], "eval_every": 2}, "dev score 'blue'"),
            ({"callbacks": ["early_stopping"]}, "eval_every is 0"),
        ]
    ):
        with pytest.raises(UsageError, match=message):
            _train(settings, tmp_path / str(number), **changes)


def test_terminate_on_nan(settings: dict[str, Any], tmp_path: Path) -> None:
    class Poison(Callback):
        def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
            if step == 2:
                parameter = trainer.model.parameters()[0]
                parameter.assign(np.full(parameter.shape, np.nan, np.float32))

    with pytest.raises(SeqlibError, match=r"step 3: .* not finite in the last step; first NaN in the output of"):
        _train(settings, tmp_path / "run", Poison(), callbacks=["terminate_on_nan"])


def test_csv_and_rates(settings: dict[str, Any], tmp_path: Path) -> None:
    changes = {"log_every": 2, "eval_every": 4, "train_steps": 9, "callbacks": ["csv", "learning_rate_monitor:every=3"]}
    _train(settings, tmp_path / "run", Stop(6), **changes)
    with open(tmp_path / "run/log.csv", "a") as file:
        file.write("7,0,1,2,3,4,5,6,7,8\n5,0")  # as of a session killed after its checkpoint, in the middle of a line
    run.resume(tmp_path / "run")
    with open(tmp_path / "run/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 4, 6, 8, 8, 9, 9]
    assert [bool(row["dev_loss"]) for row in rows] == [False, False, True, False, False, True, False, True]
    logged = {record["step"]: record["loss"] for record in _records(tmp_path / "run", "train")}
    assert float(rows[0]["loss"]) == logged[2] and float(rows[4]["loss"]) == logged[8]
    assert [record["step"] for record in _records(tmp_path / "run", "rate")] == [3, 6, 9]


def test_model_checkpoint_writes_models_that_translate(settings: dict[str, Any], tmp_path: Path) -> None:
    entries = ["model_checkpoint:filepath=best:save_best_only=true", "model_checkpoint:save_freq=3"]
    changes = {"eval_every": 2, "train_steps": 7, "callbacks": entries}
    _train(settings, tmp_path / "run", Dev([5.0, 3.0, 4.0]), **changes)
    assert bundle.read(tmp_path / "run/best").record["training"]["steps"] == 4
    assert sorted(path.name for path in (tmp_path / "run/models").iterdir()) == ["step-3", "step-6"]
    (found,) = seqlib.load(tmp_path / "run/best").translate(["one two"])
    assert isinstance(found.text, str)


def test_tensorboard_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"tensorboardX is not installed \(extra `tensorboard`\)"):
        callbacks.make(["tensorboard"])


def test_tensorboard_scalars(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []
    purged: list[int | None] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            assert folder == str(tmp_path / "run/tensorboard")
            purged.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def flush(self) -> None: ...

        def close(self) -> None: ...

    module = types.ModuleType("tensorboardX")
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    changes = {"callbacks": ["TensorBoard"], "train_steps": 8, "log_every": 4, "eval_every": 4}
    _train(settings, tmp_path / "run", Stop(5), **changes)
    run.resume(tmp_path / "run")
    assert purged == [None, 6]
    assert [step for name, step in written if name == "train/loss"] == [4, 8]
    assert [step for name, step in written if name == "dev/loss"] == [4, 8]
