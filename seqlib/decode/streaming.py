"""The text of an output while its tokens come: whole characters only, ended by stop strings."""

from collections.abc import Callable, Collection, Sequence

from seqlib.util.errors import UsageError

_CONTEXT = 8  # tokens before the output that its first characters may depend on (a space, a character's first bytes)
_BROKEN = "�"


def check_stops(stops: Sequence[str]) -> tuple[str, ...]:
    """The stop strings. Raises UsageError for an empty one, and for one string in place of several."""
    if isinstance(stops, str) or not all(stops):
        raise UsageError(f"stop: expected a list of strings that are not empty, got {stops!r}")
    return tuple(stops)


class StreamedText:
    """What follows the tokens `before`, as `decode` writes it, up to the first of `stops` or of the tokens in `ends`
    (which is left out)."""

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        before: Sequence[int],
        stops: Sequence[str] = (),
        ends: Collection[int] = (),
    ) -> None:
        self._decode, self._stops, self._ends = decode, stops, ends
        self._ids = list(before[-_CONTEXT:])
        self._start, self._read = 0, len(self._ids)
        self._given = 0
        self.text = ""
        """Of the tokens so far."""
        self.stopped = False
        """Whether a stop string was met."""
        self.ended = False
        """Whether one of `ends` was met."""
        self.over = False
        """Whether no more tokens are to come."""

    def push(self, token: int) -> bool:
        """Take the next token; True when a stop string is complete, or it is an end."""
        self.ended = token in self._ends
        if self.ended:
            return True
        self._ids.append(token)
        self._take(last=False)
        return self.stopped

    def fresh(self, last: bool = False) -> str:
        """The text that was not given yet, without what may be the beginning of a stop string; after the `last` token
        all of it."""
        if last:
            self._take(last=True)
        end = len(self.text) if last or self.stopped else len(self.text) - self._doubtful()
        given, self._given = self._given, max(end, self._given)
        return self.text[given : self._given]

    def _take(self, last: bool) -> None:
        if self.stopped:
            return
        known = self._decode(self._ids[self._start : self._read])
        found = self._decode(self._ids[self._start :])
        if len(found) <= len(known) or (found.endswith(_BROKEN) and not last):
            return  # a character whose bytes are still to come
        before = len(self.text)
        self.text += found[len(known) :]
        self._start, self._read = self._read, len(self._ids)
        places = [
            (place, stop) for stop in self._stops if (place := self.text.find(stop, max(0, before - len(stop)))) >= 0
        ]
        if places:
            self.text, self.stopped = self.text[: min(places)[0]], True

    def _doubtful(self) -> int:
        """The length of the text's end that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        ends = range(min(longest, len(self.text)), 0, -1)
        return next((n for n in ends if any(stop.startswith(self.text[-n:]) for stop in self._stops)), 0)
