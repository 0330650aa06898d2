"""The tables of documents that repeat what the code says, say it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import seqlib
from seqlib.problems.spec import ProblemSpec

ROOT = Path(__file__).resolve().parent.parent.parent


def rows() -> list[list[str]]:
    """The presets of docs/models.md, by cells."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    lines = [line.strip("|\n ").split("|") for line in text.splitlines() if re.match(r"\| `\w+` \| \d\+\d", line)]
    return [[cell.strip() for cell in line] for line in lines]


def preset(name: str) -> tuple[Any, Any]:
    """(the model's module, the preset) of a name such as `transformer_base`."""
    from seqlib.train.setup import find_preset

    stem = next(stem for stem in ("transformer", "lstm_seq2seq") if name.startswith(stem))
    return import_module(f"seqlib.models.{stem}"), find_preset(name)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].strip("`"))
def test_presets(row: list[str]) -> None:
    module, found = preset(row[0].strip("`"))
    model = found.model
    layers = (model.layers,) * 2 if hasattr(model, "layers") else (model.encoder_layers, model.decoder_layers)
    assert re.findall(r"\d+", row[1]) == [str(n) for n in layers]
    assert re.findall(r"\d+", row[2]) == [str(model.d_model), str(getattr(model, "d_ff", None) or model.hidden)]
    assert row[3] == str(getattr(model, "heads", None) or model.attention)
    assert float(row[4]) == model.dropout
    vocabulary = int(row[5].replace(",", ""))
    with seqlib.meta():
        spec = ProblemSpec(source_vocab=vocabulary, target_vocab=vocabulary)
        count = module.build(model, spec, seqlib.Generator(0)).num_parameters()
    assert row[6] == f"{count / 1e6:.1f} M"


def test_all_presets_are_listed() -> None:
    from seqlib.util.lookup import available

    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in available("seqlib.models") if f"| `{name}` | " not in text] == []


@pytest.mark.parametrize("name", ["medium", "large", "characters"])
def test_presets_of_the_lstm_language_model(name: str) -> None:
    module = import_module("seqlib.models.lstm_lm")
    model = getattr(module, name)().model
    with seqlib.meta():
        count = module.LSTMLM(model, seqlib.Generator(0)).num_parameters()
    sizes = (
        f"{model.layers} | {model.d_model} / {model.hidden} | {'yes' if model.tie_output else 'no'} | {model.dropout}"
    )
    line = f"| `lstm_lm_{name}` | {sizes} | {model.vocab:,} | {count / 1e6:.1f} M |"
    assert line in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_all_factors_and_callbacks_are_listed() -> None:
    from seqlib.optim import FACTORS
    from seqlib.train import callbacks

    models, training = ((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("models", "training"))
    assert [factor for factor in FACTORS if f"| `{factor}` |" not in models] == []
    assert [name for name in callbacks.available() if f"| `{name}` |" not in training] == []


def test_all_switches_are_listed() -> None:
    """Every variable of the environment that the package reads stands in a document."""
    read: set[str] = set()
    for file in (ROOT / "seqlib").rglob("*.py"):
        read |= set(re.findall(r"""environ(?:\.get\(|\[)["'](SEQLIB_\w+)""", file.read_text(encoding="utf-8")))
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert read and [name for name in sorted(read) if f"{name}" not in pages] == []


def test_all_recipes_are_listed_with_their_ranges() -> None:
    from seqlib.recipes import has_quick, list_recipes, load_recipe

    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]
    listed = {(row[0].strip("`"), row[1].strip("`"), row[2]) for row in lines}
    expected = set()
    for name in list_recipes():
        for quick in (False, True) if has_quick(name) else (False,):
            found = load_recipe(name, quick)
            lower, upper = found.expected
            expected.add((f"{name} --quick" if quick else name, found.score, f"{lower:g} … {upper:g}"))
    assert listed == expected


@pytest.mark.parametrize(
    "name", ["bag_ngrams", "text_cnn", "lstm_classifier", "transformer_encoder", "ensemble", "bert"]
)
def test_presets_of_classification(name: str) -> None:
    from seqlib.problems.spec import Labels

    module = import_module(f"seqlib.models.{name}")
    with seqlib.meta():
        spec = ProblemSpec(source_vocab=8000, target_vocab=2, labels=Labels(names=("a", "b")))
        count = module.build(module.base().model, spec, seqlib.Generator(0)).num_parameters()
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert re.search(rf"\| `{name}_base` \| .* \| {count / 1e6:.1f} M \|", text), f"{count / 1e6:.1f} M"
