"""Invented names of places and people, built from syllables and copied unchanged into German.

A name's hash decides whether training may see it: one name in ten is kept for ``test_names``.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

STARTS = tuple(
    "Ba Be Bo Bra Da Do Dre Fa Fe Fo Ga Gre Ha He Hu Ja Jo Ka Ke Kli Ko Kra La Le Lo Lu Ma Me Mo Na Ne No Pa Pe "
    "Plo Ra Re Ro Sa Se Ska So Ta Te Tro Va Ve Vi Wa We Wi Za Ze".split()
)
MIDDLES = tuple(
    "ba da du fa ga go ka ki la le li lo lu ma me mi mo na ne ni no ra re ri ro sa se ta te ti to va vi".split()
)
ENDS = {
    "place": tuple("burg dorf feld bach stadt berg hausen tal heim furt wald hafen".split()),
    "surname": tuple("mann ner ler ling sky rik dt low wick del".split()),
    "given": tuple("la na ra mir nor lin ris tan vin ya".split()),
}
HELD_OUT_PART = 10
EXCLUDED = frozenset({"Banana", "Kamera"})
"""Words of the language that the syllables would make, too."""


def is_held_out(name: str) -> bool:
    """Whether a name is kept for ``test_names``."""
    return crc32(name.encode()) % HELD_OUT_PART == 0


def all_names(kind: str) -> Iterator[str]:
    """Every name of a kind: place, surname or given."""
    for start in STARTS:
        for end in ENDS[kind]:
            if kind != "given":
                yield start + end
            yield from (name for middle in MIDDLES if (name := start + middle + end) not in EXCLUDED)
