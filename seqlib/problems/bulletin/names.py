"""Invented names of places and people, built from syllables and copied unchanged into German.

A name's hash decides whether training may see it: one name in ten is kept for ``test_names``.
"""

from zlib import crc32

from seqlib.problems.bulletin.lexicon import LEXICON

_NAMES = {part: tuple(text.split()) for part, text in LEXICON["names"].items()}
STARTS, MIDDLES = _NAMES["starts"], _NAMES["middles"]
ENDS = {kind: _NAMES[kind] for kind in ("place", "surname", "given")}
HELD_OUT_PART = 10
EXCLUDED = frozenset({"Banana", "Kamera"})
"""Words of the language that the syllables would make, too."""


def is_held_out(name: str) -> bool:
    """Whether a name is kept for ``test_names``."""
    return crc32(name.encode()) % HELD_OUT_PART == 0
