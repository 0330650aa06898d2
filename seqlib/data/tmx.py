"""TMX translation memories as pairs, by a parser that never holds more than one unit.

A unit (`tu`) has variants (`tuv`) in some languages; of inline markup the text of `hi` and `sub` counts, native codes
(`bpt`, `ept`, `ph`, `it`, `ut`) do not. TMX 1.4b, https://www.gala-global.org/tmx-14b.
"""

import xml.parsers.expat as expat
from collections.abc import Iterator
from typing import Any, NamedTuple

from seqlib.data.lines import open_bytes
from seqlib.data.records import Record
from seqlib.util.errors import DataError

_CHUNK = 1 << 16
_LONGEST = 1 << 24  # characters of a unit
_CODES = frozenset(["bpt", "ept", "ph", "it", "ut"])


class _Unit(NamedTuple):
    line: int
    texts: list[tuple[str, str]]
    """(language, text) of the variants, in order."""
    problem: str


def best_language(wanted: str, there: list[str]) -> str:
    """Of the languages that are there the one that serves for a wanted one, or "".

    The same first; then the language without a region; then with any other region, the first of them.
    """
    plain = {language.lower().replace("_", "-"): language for language in reversed(there)}
    asked = wanted.lower().replace("_", "-")
    primary = asked.partition("-")[0]
    regions = [name for name in reversed(plain) if name.partition("-")[0] == primary]
    return next((plain[name] for name in (asked, primary, *regions) if name in plain), "")


def tmx_languages(file: str, encoding: str = "utf-8") -> tuple[str, str]:
    """The two languages of a file: those of its first unit. Raises DataError unless that has two."""
    for unit in _units(file, encoding):
        found = list(dict.fromkeys(language for language, _ in unit.texts))
        if len(found) == 2:
            return found[0], found[1]
        if found:
            raise DataError(
                f"{file}:{unit.line}: the unit has {', '.join(found)}; name two languages, --languages SOURCE,TARGET"
            )
    raise DataError(f"{file}: there are no translation units")


def read_tmx(file: str, languages: tuple[str, str], encoding: str = "utf-8") -> Iterator[Record]:
    """The pairs of a file, the line of a record being that of its unit. Units with neither language are passed over,
    one without one of them has an empty side.

    ``encoding`` other than utf-8 is taken instead of the one that the file declares. Raises DataError, naming file and
    line, for what is no well-formed XML, no TMX or declares entities, and when no unit has both languages.
    """
    whole, seen = False, dict[str, int]()
    for unit in _units(file, encoding):
        if unit.problem:
            yield Record("", "", file, unit.line, f"{file}:{unit.line}: {unit.problem}")
            continue
        texts = dict(reversed(unit.texts))  # the first variant of a language counts
        for language in texts:
            seen[language] = seen.get(language, 0) + 1
        found = [best_language(language, list(dict(unit.texts))) for language in languages]
        if any(found):
            whole = whole or (all(found) and found[0] != found[1])
            source, target = (texts[language] if language else "" for language in found)
            yield Record(source, target, file, unit.line)
    if not whole:
        counts = ", ".join(f"{language} in {count:,}" for language, count in seen.items()) or "none"
        raise DataError(
            f"{file}: no unit has both {languages[0]} and {languages[1]}; languages of the file: {counts}; "
            "name two of them, --languages SOURCE,TARGET"
        )


def _units(file: str, encoding: str) -> Iterator[_Unit]:
    reader = _Reader(file, encoding)
    with open_bytes(file) as stream:
        while chunk := stream.read(_CHUNK):
            reader.feed(chunk, last=False)
            yield from reader.taken()
        reader.feed(b"", last=True)
        yield from reader.taken()


class _Reader:
    """Collects units while it is fed."""

    def __init__(self, file: str, encoding: str) -> None:
        self._file = file
        self._done: list[_Unit] = []
        self._stack: list[str] = []
        self._hidden: list[bool] = []  # for each element inside a segment: its own text does not count
        self._line, self._language, self._problem = 0, "", ""
        self._texts: list[tuple[str, str]] = []
        self._pieces: list[str] = []
        self._size = 0
        self._parser: Any = expat.ParserCreate(None if encoding.lower() in ("utf-8", "utf8") else encoding)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._entity
        self._parser.SkippedEntityHandler = self._skipped

    def feed(self, data: bytes, last: bool) -> None:
        """Raises DataError naming file and line."""
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise DataError(
                f"{self._file}:{error.lineno}: not well-formed XML: {what} (column {error.offset + 1}); "
                "mend the line, or export the file again if it was cut short"
            ) from None
        except (LookupError, ValueError) as error:  # an encoding that is not known, or of many bytes a character
            raise DataError(f"{self._file}:1: {error}; convert the file to UTF-8") from None

    def taken(self) -> list[_Unit]:
        """The units that have ended since the last call."""
        done, self._done = self._done, []
        return done

    def _here(self) -> str:
        return f"{self._file}:{self._parser.CurrentLineNumber}"

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._stack and name != "tmx":
            raise DataError(f"{self._here()}: the root element is <{name}>, expected <tmx>: not a translation memory")
        self._stack.append(name)
        if name == "tu":
            self._line, self._problem, self._texts, self._size = self._parser.CurrentLineNumber, "", [], 0
        elif name == "tuv":
            self._language, self._pieces = attributes.get("xml:lang") or attributes.get("lang", ""), []
            if not self._language:
                self._problem = self._problem or "a variant (tuv) has no xml:lang"
        elif name == "seg":
            self._hidden = [False]
        elif self._hidden:
            self._hidden.append(name in _CODES or (self._hidden[-1] and name != "sub"))

    def _end(self, name: str) -> None:
        self._stack.pop()
        if name == "seg":
            self._hidden = []
        elif self._hidden:
            self._hidden.pop()
        elif name == "tuv":
            self._texts.append((self._language, " ".join("".join(self._pieces).split())))
        elif name == "tu":
            self._done.append(_Unit(self._line, self._texts, self._problem))

    def _text(self, text: str) -> None:
        if not self._hidden or self._hidden[-1]:
            return
        self._size += len(text)
        if self._size > _LONGEST:
            raise DataError(f"{self._file}:{self._line}: the unit that begins here has over {_LONGEST:,} characters")
        self._pieces.append(text)

    def _entity(self, name: str, *_: Any) -> None:
        raise DataError(
            f"{self._here()}: the file declares an entity, {name!r}; such files are refused, since entities may expand "
            "without end: replace it by its text"
        )

    def _skipped(self, name: str, *_: Any) -> None:
        self._problem = self._problem or f"the entity &{name}; is not known here; write the character itself"
