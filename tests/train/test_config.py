from pathlib import Path

import msgspec
import pytest

from seqlib.train import config as run_config
from seqlib.train.config import ALIASES, RunConfig, build, nested, parse_duration, parse_interval
from seqlib.train.setup import find_preset, make_config, model_config
from seqlib.util.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("45", 45), ("1.5m", 90)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0s", "-3m", "2 weeks", "1h 30"])
def test_bad_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="time limit"):
        parse_duration(text)


def test_intervals_are_steps_or_time() -> None:
    assert parse_interval(1000, "eval_every") == (1000, 0.0)
    assert parse_interval("1000", "eval_every") == (1000, 0.0)
    assert parse_interval("5m", "eval_every") == (0, 300.0)
    with pytest.raises(UsageError, match="eval_every 'often' is neither"):
        parse_interval("often", "eval_every")


def test_layers_win_in_order() -> None:
    config = build({"optim": {"lr": 1.0, "warmup": 3}}, {"optim": {"lr": 2.0}})
    assert (config.optim.lr, config.optim.warmup, config.optim.smoothing) == (2.0, 3, 0.1)


@pytest.mark.parametrize("preset", ["transformer_tiny", "lstm_seq2seq_base", "gpt2_tiny", "lstm_lm_characters"])
def test_a_preset_names_its_model(preset: str) -> None:
    assert make_config({"hparams_set": preset}, source=False).model == preset.rpartition("_")[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_step": 1}, "no setting 'train_step'; did you mean train_steps"),
        ({"optim.lrr": 1}, "no setting 'optim.lrr'; did you mean optim.lr"),
        ({"optim": 1}, "'optim' is a group, not a value"),
        ({"optim.lr": "fast"}, r"'optim.lr': expected `float`"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"precision": "bf61"}, "unknown precision 'bf61'.*bf16"),
        ({"optim.name": "adamx"}, "adamw"),
        ({"data.tokenizer": "unigrams"}, "did you mean unigram"),
        ({"batch.tokens": 0}, "batch.tokens 0 must be at least 1"),
        ({"seed": -1}, "seed -1 must be at least 0"),
        ({"optim.lr": float("nan")}, "optim.lr nan must be a finite number"),
        ({"optim.smoothing": 1.0}, "optim.smoothing"),
        ({"time_limit": "long"}, "time limit 'long'"),
        ({"save_every": "x"}, "save_every 'x'"),
    ],
)
def test_bad_settings_are_answered(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(nested(given))


def test_aliases_stand_for_paths() -> None:
    assert set(ALIASES.values()) <= set(run_config.paths())
    assert not set(ALIASES) & set(run_config.paths())


def test_saved_and_read_back(tmp_path: Path) -> None:
    config = build({"problem": "x", "optim": {"betas": (0.5, 0.25)}, "eval_every": "5m", "hparams": {"heads": 2}})
    path = tmp_path / "run.json"
    path.write_bytes(run_config.to_json(config))
    assert run_config.read(path) == config


def test_an_unknown_field_in_a_saved_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"problem": "x", "layers": 3}')
    with pytest.raises(UsageError, match=r"run\.json: not a run configuration of this version"):
        run_config.read(path)
    with pytest.raises(UsageError, match="no run can be read here"):
        run_config.read(tmp_path / "absent.json")


def test_only_what_decides_a_step_is_in_the_digest() -> None:
    config = RunConfig(problem="x")
    assert run_config.digest(config) == run_config.digest(msgspec.structs.replace(config, keep_last=9, train_steps=3))
    assert run_config.digest(config) != run_config.digest(msgspec.structs.replace(config, seed=2))


def test_the_preset_fills_what_was_not_given() -> None:
    config = make_config({"problem": "translate_bulletin_ende", "optim": {"lr": 0.5}})
    assert config.hparams_set == "transformer_bulletin"
    assert config.optim.lr == 0.5
    preset = find_preset("transformer_bulletin")
    assert config.optim.warmup == preset.optim["warmup"]
    assert model_config(config) == preset.model


def test_presets_are_proposed_for_own_files(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("a\n")
    (tmp_path / "a.de").write_text("b\n")
    config = make_config({"data": {"paths": [str(tmp_path / "a.en"), str(tmp_path / "a.de")]}})
    assert config.hparams_set == "transformer_multi30k"


def test_file_settings_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_config({"data": {"paths": ["a.en", "a.de"]}})
    assert config.data.paths == (str(tmp_path / "a.en"), str(tmp_path / "a.de"))


def test_hparams_change_the_model_under_either_name() -> None:
    given = {"problem": "translate_bulletin_ende", "hparams": {"hidden_size": 64, "dropout": 0.25}}
    found = model_config(make_config(given))
    assert (found.d_model, found.dropout) == (64, 0.25)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "what to train on is missing"),
        ({"problem": "x", "hparams_set": "transformer_bas"}, "did you mean transformer_base"),
        (
            {"problem": "translate_bulletin_ende", "model": "transfomer"},
            "unknown model 'transfomer'; did you mean transformer",
        ),
        ({"problem": "translate_bulletin_ende", "hparams": {"d_modle": 3}}, "did you mean d_model"),
        ({"problem": "translate_bulletin_ende", "hparams": {"d_model": "wide"}}, "--hparams"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(given)


def test_a_problem_in_a_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from seqlib.problems.translation import Translation as Mine\n")
    assert make_config({"problem": "mine.py:Mine"}).problem == f"{tmp_path / 'mine.py'}:Mine"


def test_a_preset_tells_the_model() -> None:
    for name in ("transformer_tiny", "transformer_multi30k", "lstm_seq2seq_base"):
        config = make_config({"hparams_set": name, "data": {"paths": ["a.en", "a.de"]}}, source=False)
        assert name.startswith(config.model + "_"), name
