"""Text classification end to end: a table in, a model out that is used on the command line and in Python."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.cli.main import main
from seqlib.decode.classify import Classifier
from seqlib.problems.spec import Labels
from seqlib.train import run
from seqlib.train.baselines import LINEAR, MAJORITY
from seqlib.train.label_scores import label_scores, score_names
from seqlib.train.setup import make_config, make_epochs, open_problem, prepare_data
from seqlib.train.tasks.text_classification import parse_class_weights
from seqlib.util.errors import UsageError

WORDS = {"good": "fine great lovely superb", "bad": "dull awful boring poor", "odd": "weird strange queer curious"}


def _table(folder: Path, count: int = 300) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for n in range(count):
        label = list(WORDS)[n % 3]
        rows.append(
            f"the {rng.choice(WORDS[label].split())} film number {n} was {rng.choice(['long', 'short'])},{label}"
        )
    (folder / "reviews.csv").write_text("review,stars\n" + "\n".join(rows) + "\n")
    return folder / "reviews.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classification")
    settings: dict[str, Any] = {
        "data": {
            "paths": [str(_table(folder))],
            "text": ["review"],
            "label": "stars",
            "cache_dir": str(folder / "cache"),
        },
        "output_dir": str(folder / "run"),
        "train_steps": 150,
        "eval_every": 50,
        "optim": {"lr": 0.03, "warmup": 10},
        "hparams": {"d_model": 16, "buckets": 500},
    }
    settings["data"] |= {"vocab_size": 400, "dev_size": 0.1, "test_size": 0.1}
    result = run.train(make_config(settings))
    assert result.model is not None
    return result.folder


def test_the_model_and_its_baselines(trained: Path) -> None:
    record = json.loads((trained / "model" / "seqlib.json").read_text())
    assert record["metrics"]["dev"]["accuracy"] >= 0.95
    assert record["metrics"][f"dev, {MAJORITY}"]["accuracy"] < 0.5
    assert record["metrics"][f"dev, {LINEAR}"]["seconds"] >= 0
    report = (trained / "REPORT.html").read_text()
    assert "Confusion matrix" in report and "Worst dev texts" in report and LINEAR in report
    assert "text classifier" in (trained / "model" / "README.md").read_text()


def test_a_text_alone_and_in_a_batch_has_the_same_bits(trained: Path) -> None:
    model = seqlib.load(trained, device="cpu")
    assert isinstance(model, Classifier)
    texts = [f"a {word} one {'and on ' * (n % 9)}" for n, word in enumerate(" ".join(WORDS.values()).split() * 6)]
    together = model.classify(texts)
    assert [model.classify([text])[0] for text in texts] == together
    assert together[0].label == "good"
    assert sum(together[0].probabilities.values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="single texts"):
        model.classify([("one", "two")])


def test_the_command_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(trained), "--text", "a superb film", "--text", ""]) == 0
    label, probability = capsys.readouterr().out.splitlines()[0].split("\t")
    assert label == "good" and float(probability) > 0.5
    (tmp_path / "in.txt").write_text("an awful film\n")
    assert main(["classify", str(trained), "--file", str(tmp_path / "in.txt"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["label"] == "bad" and set(told["probabilities"]) == set(WORDS)
    assert main(["evaluate", str(trained), "--baselines"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] > 0.9 and MAJORITY in scores["baselines"] and scores["texts"] == 30
    assert main(["evaluate", str(trained), "--beam", "2"]) == 2
    assert "--beam: not for a model of text classification" in capsys.readouterr().err
    assert main(["inspect", str(trained / "model")]) == 0


def test_standard_input(trained: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seqlib", "classify", str(trained)], input=b"a poor film\n", capture_output=True
    )
    assert done.stdout.startswith(b"bad\t")


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'transformer' is for translation, and this is text classification"):
        make_config({"problem": "classify_pydoc", "model": "transformer"})


def test_scores() -> None:
    two = Labels(names=("no", "yes"))
    outputs = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    found = label_scores(np.array([0, 1, 1, 1]), outputs, two)
    assert found["accuracy"] == 0.75 and found["f1"] == pytest.approx(0.8) and found["auc"] == 1
    assert found["mcc"] == pytest.approx(0.5774, abs=1e-4) and (*found,) == score_names(two)
    several = Labels(kind="multi_label", names=("a", "b"))
    found = label_scores(np.array([[1, 0], [1, 1.0]]), np.array([[0.9, 0.2], [0.6, 0.4]]), several)
    assert found["accuracy"] == 0.5 and found["micro_f1"] == pytest.approx(0.8)
    found = label_scores(np.array([1.0, 2, 3]), np.array([[1.0], [2], [9]]), Labels(kind="regression"))
    assert found["spearman"] == pytest.approx(1) and found["mean_squared_error"] == 12


def test_class_weights() -> None:
    labels, targets = Labels(names=("ham", "spam")), np.array([0, 0, 0, 1])
    assert parse_class_weights("", labels, targets) is None
    np.testing.assert_allclose(parse_class_weights("balanced", labels, targets), [4 / 6, 2])
    np.testing.assert_allclose(parse_class_weights("spam=3", labels, targets), [1, 3])
    for text, message in (("spma=3", "did you mean spam"), ("spam=0", "above 0"), ("spam", "unknown class")):
        with pytest.raises(UsageError, match=message):
            parse_class_weights(text, labels, targets)


def test_scores_that_are_not_defined_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The majority's numbers are constant, and so correlate with nothing; a file of one class has no ROC curve."""
    for name, label in (("numbers", "{}.5"), ("classes", "class {}")):
        lines = [f"{'good ' * (n % 2)}word {n},{label.format(n % 2)}\n" for n in range(120)]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(lines))
        data = {"paths": [str(tmp_path / f"{name}.csv")], "text": ["text"], "label": "label"}
        data |= {"cache_dir": str(tmp_path / "cache"), "vocab_size": 300}
        settings = {"data": data, "output_dir": str(tmp_path / name), "train_steps": 5, "report": False}
        run.train(make_config(settings))
    kept = json.loads((tmp_path / "numbers" / "model" / "seqlib.json").read_text())["metrics"]
    assert "spearman" in kept[f"dev, {LINEAR}"] and "spearman" not in kept[f"dev, {MAJORITY}"]
    (tmp_path / "one.csv").write_text("text,label\n" + "good word,class 1\n" * 9)
    flags = ["--data", str(tmp_path / "one.csv"), "--text", "text", "--label", "label"]
    assert main(["evaluate", str(tmp_path / "classes"), *flags]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert "accuracy" in printed and "auc" not in printed


def test_a_summary(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(trained), "--rows", "2"]) == 0
    assert "embedding" in capsys.readouterr().out


def test_words_are_cut_anew_in_every_epoch(tmp_path: Path) -> None:
    """Labels stay with their texts, texts that are too long are cut as before, and the epochs' shapes hold them all."""
    words, draw = " ".join(WORDS.values()).split(), np.random.default_rng(1)
    lines = [f"{' '.join(draw.choice(words, 1 + n % 15))},{('good', 'bad')[n % 2]}\n" for n in range(300)]
    (tmp_path / "a.csv").write_text("review,stars\n" + "".join(lines))
    data = {"paths": [str(tmp_path / "a.csv")], "text": ["review"], "label": "stars", "cache_dir": str(tmp_path)}
    settings: dict[str, Any] = {"data": data | {"vocab_size": 330, "subword_sampling": 0.3}}
    config = make_config(settings | {"batch": {"tokens": 256, "max_length": 32, "shapes": 2}})
    prepared = prepare_data(config, open_problem(config))
    epochs, other = make_epochs(config, prepared), 0
    store = prepared.store("train")
    for epoch in (0, 1):
        plan = epochs.plan(epoch)
        assert sorted(n for planned in plan.batches for n in planned.indices.tolist()) == list(range(len(store)))
        for planned in plan.batches:
            (batch,) = epochs.collated(planned, prepared.spec, epoch)
            for row, number in enumerate(planned.indices.tolist()):
                found, (plain, _) = batch.ids[row, 1 : batch.lengths[row] - 1], store.pair(number)
                text, cut = (prepared.tokenizer.decode(ids) for ids in (plain, found))
                assert text.startswith(cut) and (cut == text or batch.lengths[row] == 32)
                assert batch.targets[row] == prepared.targets("train")[number]
                other += not np.array_equal(plain[: len(found)], found)
    assert other > 50 and plan.shapes == epochs.plan(0).shapes
