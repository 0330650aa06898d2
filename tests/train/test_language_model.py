"""Language models from text files to generated text: training, scores, resuming, own data, errors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import seqlib
from seqlib.bundle import read
from seqlib.cli import main
from seqlib.train import run
from seqlib.train.evaluation import bundle_problem
from seqlib.train.setup import make_config, open_problem, prepare_data
from seqlib.train.step import compiled_loss
from seqlib.train.tasks import task_of
from seqlib.train.tasks.language_model import stream_loss
from seqlib.util.errors import DataError, UsageError
from tests.train.conftest import Stop, same_checkpoint

WORDS = "the cat sat on the mat and the dog lay by the log while rain fell in the yard".split()


def write_text(folder: Path) -> Path:
    draw = random.Random(3)
    path = folder / "notes.txt"
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(900)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r".join(lines).encode())
    return path


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "data": {"paths": [str(write_text(tmp_path))], "cache_dir": str(tmp_path / "cache")},
        "hparams": {"layers": 1, "d_model": 32, "heads": 2, "max_length": 32},
        "batch": {"kind": "windows", "tokens": 256, "max_length": 32},
        "optim": {"lr": 1e-2, "warmup": 5},
        "train_steps": 60,
        "eval_every": 30,
        "save_every": 20,
        "average": 1,
        "report": False,
    }


LSTM = {"model": "lstm_lm", "hparams": {"layers": 2, "d_model": 16, "hidden": 24}}


def test_a_text_is_learnt_scored_and_continued(settings: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    longer = {"train_steps": 300, "eval_every": 150, "save_every": 0, "hparams": settings["hparams"] | {"layers": 2}}
    config = make_config({**settings, **longer, "output_dir": str(tmp_path / "run")})
    assert (config.model, config.hparams_set) == ("gpt2", "gpt2_tiny")
    run.train(config)
    told = capsys.readouterr().err
    assert "utf-8 with a byte-order mark, lines end in CR" in told and "tokenizer: characters" in told
    assert "baseline: unigram  dev loss 2." in told and f"use it with: seqlib generate {tmp_path / 'run'}" in told
    saved = read(tmp_path / "run")
    dev = saved.metrics["dev"]
    assert saved.metrics["dev, unigram"]["loss"] > saved.metrics["dev, 5-gram"]["loss"] > 0.5
    assert dev["loss"] < 1.8 and dev["bits_per_character"] == pytest.approx(dev["loss"] / np.log(2), rel=0.01)
    assert dev["perplexity"] == pytest.approx(np.exp(dev["loss"]))
    problem = bundle_problem(saved)
    task = task_of("language_model")
    options: dict[str, Any] = {"limit": 0, "device": "cpu", "precision": "fp32"}
    plain = task.evaluate(saved, problem, "dev", **options)
    assert plain["loss"] == pytest.approx(dev["loss"], abs=1e-4)
    strided = task.evaluate(saved, problem, "dev", stride=8, **options)
    assert strided["loss"] == pytest.approx(plain["loss"], abs=0.1) and strided["tokens"] == plain["tokens"]
    model = seqlib.load(tmp_path / "run")
    first, second = model.generate(["the cat ", "rain "], max_tokens=40, temperature=0)
    assert set(first.text.split()[:-1]) & set(WORDS) and len(second.tokens) == 40
    command = ["generate", str(tmp_path / "run")]
    flags = "--max_tokens 40 --temperature 0".split()
    result = CliRunner().invoke(main.group, [*command, "--prompt", "the cat ", *flags])
    assert result.output == f"the cat {first.text}\n"
    for command, said in (("inspect", "seqlib generate"), ("summary", "activations")):
        assert said in CliRunner().invoke(main.group, [command, str(tmp_path / "run")], catch_exceptions=False).output
    with pytest.raises(UsageError, match="does not translate"):
        main.group.main(["translate", str(tmp_path / "run")], standalone_mode=False)
    command = ["generate", str(tmp_path / "run")]
    (tmp_path / "prompts").write_text("the cat \nrain \n")
    flags = "-n 2 --max_tokens 9 --json --seed 4".split()
    result = CliRunner().invoke(main.group, [*command, "--prompts", str(tmp_path / "prompts"), *flags])
    rows = [json.loads(line) for line in result.output.splitlines()]
    expected = model.generate(["the cat ", "rain "], n=2, max_tokens=9, seed=4)
    assert [(row["prompt"], row["text"]) for row in rows] == [(one.prompt, one.text) for one in expected]


@pytest.mark.parametrize("model", ["gpt2", "lstm_lm"])
def test_a_resumed_run_is_the_uninterrupted_one(settings: dict[str, Any], tmp_path: Path, model: str) -> None:
    settings |= {"train_steps": 12, "save_every": 4} | (LSTM if model == "lstm_lm" else {})
    run.train(make_config({**settings, "output_dir": str(tmp_path / "whole")}))
    run.train(make_config({**settings, "output_dir": str(tmp_path / "parts")}), [Stop(7)])
    run.resume(tmp_path / "parts")
    same_checkpoint(tmp_path / "whole", tmp_path / "parts", 12)


def test_baselines_stand_beside_the_model(settings: dict[str, Any]) -> None:
    config = make_config(settings)
    problem = open_problem(config)
    data = prepare_data(config, problem)
    found = task_of("language_model").baselines(problem, data, config)
    assert list(found) == ["unigram", "5-gram"]
    assert 0.5 < found["5-gram"]["loss"] < found["unigram"]["loss"] < 3.0 and found["5-gram"]["seconds"] >= 0


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (50, 20), (7, 1)])
def test_strided_windows_score_every_token_once(window: int, stride: int) -> None:
    stream = np.random.default_rng(0).integers(0, 9, 50)
    seen: list[tuple[int, int]] = []

    class Scalar(float):
        def item(self) -> float:
            return float(self)

    def loss(batch: Any) -> tuple[Scalar, Scalar]:
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            seen.extend((int(inputs[0]), int(t)) for t in targets if t >= 0)
        counted = batch.targets >= 0
        return Scalar((batch.targets * counted).sum()), Scalar(counted.sum())

    total, count = stream_loss(loss, stream, window, stride)
    assert (count, total) == (49, stream[1:].sum())
    with pytest.raises(UsageError, match="stride: expected 1 to the window"):
        stream_loss(loss, stream, window, window + 1)


def documents(folder: Path) -> Path:
    path = folder / "posts.jsonl"
    path.write_text("".join(json.dumps({"body": f"{'ab' * (i % 5 + 1)}\n{i % 7}", "id": i}) + "\n" for i in range(400)))
    return path


@pytest.mark.parametrize("kind", ["packing", "buckets", "windows"])
def test_documents_packed_padded_or_in_windows(settings: dict[str, Any], tmp_path: Path, kind: str) -> None:
    data = settings["data"] | {"paths": [str(documents(tmp_path))], "text": ["body"]}
    settings |= {"data": data, "batch": {"kind": kind, "tokens": 128, "max_length": 32}, "train_steps": 200}
    run.train(make_config({**settings, "output_dir": str(tmp_path / "run")}))
    saved = read(tmp_path / "run")
    assert saved.metrics["dev"]["loss"] < 1.0
    made = seqlib.load(tmp_path / "run").generate(["", "ab"], max_tokens=30, temperature=0)
    assert made[0].text.startswith("ab") and (kind == "windows" or {one.stop_reason for one in made} == {"eos"})
    assert saved.generation["prompt_begins_with"] == [saved.spec.eos_id]


def test_packed_documents_have_the_loss_of_padded_ones(settings: dict[str, Any], tmp_path: Path) -> None:
    data = settings["data"] | {"paths": [str(documents(tmp_path))], "text": ["body"]}
    totals = []
    for kind in ("packing", "buckets"):
        config = make_config({**settings, "data": data, "batch": {"kind": kind, "tokens": 128, "max_length": 32}})
        trainer = run.make_trainer(config, None)
        loss, total, count = compiled_loss(trainer.model.eval()), 0.0, 0.0
        for planned in trainer.plan.batches:
            for batch in trainer.epochs.collated(planned, trainer.data.spec, 0):
                a, b = loss(batch)
                total, count = total + a.item(), count + b.item()
        totals.append((total / count, count))
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


@pytest.mark.parametrize(
    ("content", "text", "message"),
    [
        ('{"body": "a"}\n{"bady": "b"}\n', "body", r"posts.jsonl:2: has no text in the field 'body'; did you mean 'b"),
        ('{"body": "a"}\n{"body": 3}\n', "body", r"posts.jsonl:2: has no text"),
        ('{"body": "a"}\n{"body"\n', "body", r"posts.jsonl:2: not a JSON object"),
        ('{"body": ""}\n', "body", "no text to train on"),
    ],
)  # fmt: skip
def test_bad_documents_are_told(
    settings: dict[str, Any], tmp_path: Path, content: str, text: str, message: str
) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text(content)
    config = make_config(settings | {"data": settings["data"] | {"paths": [str(path)], "text": [text]}})
    with pytest.raises(DataError, match=message):
        prepare_data(config, open_problem(config))
    assert not [entry for entry in (tmp_path / "cache").glob("*") if entry.is_dir()]


def test_settings_that_do_not_fit(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one long text; use batch.kind windows"):
        run.make_trainer(make_config(settings | {"batch": {"kind": "buckets"}}), None)
    with pytest.raises(UsageError, match="can't be cut"):
        run.make_trainer(make_config(settings | LSTM | {"batch": settings["batch"] | {"accumulate": 2}}), None)
    with pytest.raises(UsageError, match="is no JSONL file"):
        open_problem(make_config(settings | {"data": settings["data"] | {"text": ["body"]}}))
    with pytest.raises(UsageError, match="subword_sampling: a language model's pieces"):
        config = make_config(settings | {"data": settings["data"] | {"subword_sampling": 0.2}})
        prepare_data(config, open_problem(config))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.txt file"):
        open_problem(make_config(settings | {"data": {"paths": [str(tmp_path / "empty")]}}))
