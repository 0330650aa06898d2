"""Tables of plain text, for terminals and pipes."""

from collections.abc import Collection, Sequence

_BARS = "▁▂▃▄▅▆▇█"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Columns as wide as their widest text, two spaces between; `right` are those set to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]

    def cell(text: str, n: int) -> str:
        return text.rjust(widths[n]) if n in right else text.ljust(widths[n])

    return "\n".join("  ".join(cell(text, n) for n, text in enumerate(line)).rstrip() for line in lines)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve as one line of bars: the means of `width` equal parts of the finite values, the least one lowest."""
    known = [value for value in values if abs(value) < float("inf")]
    count = min(width, len(known))
    parts = [known[n * len(known) // count : (n + 1) * len(known) // count] for n in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(_BARS[round((mean - low) / span * (len(_BARS) - 1)) if span else 0] for mean in means)
