"""The words of the bulletin language: data files beside the grammar."""

import tomllib
from importlib.resources import files
from typing import Any


def text(name: str) -> str:
    """A text file of this package."""
    return files("seqlib.problems.bulletin").joinpath(name).read_text(encoding="utf-8")


LEXICON: dict[str, dict[str, Any]] = tomllib.loads(text("lexicon.toml"))
"""Nouns and verbs as lines, adjectives and closed lists as pairs, each under its kind."""


def rows(text: str) -> tuple[tuple[str, ...], ...]:
    """Rows of words from "new neu, old alt"; a space inside an expression is written "_", and nothing at all "-"."""
    return tuple(
        tuple("" if word == "-" else word.replace("_", " ") for word in row.split()) for row in text.split(",")
    )


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """(English, German) of every row."""
    return tuple((english, german) for english, german in rows(text))


ROWS = {name: rows(text) for name, text in LEXICON["rows"].items()}
"""Closed lists of more than two columns."""
