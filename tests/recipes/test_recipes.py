"""Recipes: all of the library's are whole; one of a user's own is run, judged and refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from seqlib.cli.main import main
from seqlib.recipes import Recipe, has_quick, list_recipes, load_recipe, reproduce
from seqlib.train.setup import make_config
from seqlib.util.errors import UsageError
from tests.train.conftest import write_corpus

OWN = """
from seqlib.recipes import Recipe
from seqlib.train.setup import make_config


def numbers(quick: bool = False) -> Recipe:
    config = make_config(
        {{
            "data": {{"paths": {files!r}, "tokenizer": "characters", "cache_dir": {cache!r}, "test_size": 20}},
            "hparams_set": "transformer_tiny",
            "hparams": {{"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "d_ff": 16, "heads": 2}},
            "optim": {{"lr": 1e-3, "schedule": "constant"}},
            "batch": {{"tokens": 512, "max_length": 48, "shapes": 2}},
            "train_steps": 2 if quick else 4,
            "eval_every": 0,
            "average": 0,
            "report": False,
            "decode": {{"beam": 1, "dev_sentences": -1}},
        }}
    )
    return Recipe(
        about="number words", config=config, score={score!r}, expected={expected}, measured="two seeds", cost="a second"
    )


def fixed() -> Recipe:
    return numbers()


def wrong() -> int:
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Writes a recipe of a score and a range to a file, and gives its path."""
    files = [str(file) for file in write_corpus(tmp_path, 120)]

    def write(expected: tuple[float, float], score: str = "chrf.score") -> str:
        path = tmp_path / f"own_{score}_{expected[1]}.py"
        path.write_text(OWN.format(files=files, cache=str(tmp_path / "cache"), expected=expected, score=score))
        return str(path)

    return write


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """(exit code, the JSON, what was said on standard error)."""
    code = main(["reproduce", *arguments, "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_of_the_library_is_whole(name: str) -> None:
    for quick in (False, True) if has_quick(name) else (False,):
        recipe = load_recipe(name, quick)
        lower, upper = recipe.expected
        assert lower < upper and recipe.measured and recipe.cost and recipe.about
        assert recipe.config.train_steps > 0 and not recipe.config.time_limit  # by steps: the same on every machine


def test_seeds_have_a_mean_a_spread_and_folders_of_their_own(
    own: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    code, found, err = run(capsys, f"{own((0, 100))}:numbers", "--quick", "--seeds", "2", "--output_dir", str(folder))
    assert code == 0 and found["passed"] and found["quick"]
    assert [trial["seed"] for trial in found["runs"]] == [1, 2]
    scores = [trial["scores"]["chrf"]["score"] for trial in found["runs"]]
    assert found["mean"] == pytest.approx(sum(scores) / 2, abs=1e-4) and found["spread"] is not None
    assert [trial["folder"] for trial in found["runs"]] == [str(folder / f"seed-{n}" / "model") for n in (1, 2)]
    assert "seed 2: chrf.score" in err and "bleu_lowercased" in found["runs"][0]["scores"]
    code, _, err = run(capsys, f"{own((0, 100))}:numbers", "--quick", "--output_dir", str(folder))
    assert code == 2 and "already holds a run" in err


def test_outside_of_the_range_is_1(own: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, err = run(capsys, f"{own((101, 102))}:numbers", "--quick", "--output_dir", str(tmp_path / "runs"))
    assert code == 1 and not found["passed"] and found["expected"] == [101, 102] and "OUTSIDE of 101 … 102" in err


def test_what_is_asked_wrongly(own: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="has no quick form"):
        load_recipe(f"{own((0, 1))}:fixed", quick=True)
    with pytest.raises(UsageError, match=r"gives a int, not a seqlib\.recipes\.Recipe"):
        load_recipe(f"{own((0, 1))}:wrong")
    code, _, err = run(capsys, "translate_bulletin_endee")
    assert code == 2 and "did you mean translate_bulletin_ende" in err
    recipe = load_recipe(f"{own((0, 1), 'rouge.score')}:numbers", quick=True)
    with pytest.raises(UsageError, match=r"gives no score 'rouge\.score'; it has bleu, "):
        reproduce(recipe, tmp_path / "runs", device="cpu")


def test_a_stopped_run_is_told_with_the_way_on(
    own: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqlib.train import run as runs

    monkeypatch.setattr(runs.Trainer, "fit", lambda trainer: "SIGTERM")
    code, _, err = run(capsys, f"{own((0, 1))}:numbers", "--seeds", "2", "--output_dir", str(tmp_path / "runs"))
    assert code == 143 and f"seqlib train --resume {tmp_path / 'runs' / 'seed-1'}" in err
    assert not (tmp_path / "runs" / "seed-2").exists()


def test_without_a_name_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    out = capsys.readouterr().out
    for name in list_recipes():
        lower, upper = load_recipe(name).expected
        assert name in out and f"{lower:g} … {upper:g}" in out
    assert isinstance(load_recipe(list_recipes()[0]), Recipe)


def test_baselines_stand_beside_a_classifier(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"{w} {n},{w}\n" for n in range(60) for w in ("good", "bad"))
    )
    data = {
        "paths": [str(tmp_path / "a.csv")],
        "text": ["text"],
        "label": "label",
        "cache_dir": str(tmp_path / "cache"),
    }
    settings: dict[str, Any] = {"data": data | {"vocab_size": 300}, "train_steps": 2, "eval_every": 0, "average": 0}
    config = make_config(settings | {"report": False, "baselines": False})
    recipe = Recipe(about="one", config=config, score="accuracy", expected=(0, 1), measured="one", cost="a second")
    (trial,) = reproduce(recipe, tmp_path / "runs", device="cpu")
    found = trial.scores["baselines"]
    assert (
        trial.score is not None
        and found["TF-IDF n-grams, linear"]["accuracy"] == 1 > found["majority class"]["accuracy"]
    )
