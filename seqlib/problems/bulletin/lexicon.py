"""The words of the bulletin language: data files beside the grammar."""

import tomllib
from importlib.resources import files
from typing import Any


def text(name: str) -> str:
    """A text file of this package."""
    return files("seqlib.problems.bulletin").joinpath(name).read_text(encoding="utf-8")


LEXICON: dict[str, dict[str, Any]] = tomllib.loads(text("lexicon.toml"))
"""Nouns and verbs as lines, adjectives and closed lists as pairs, each under its kind."""
