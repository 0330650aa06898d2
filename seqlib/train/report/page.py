"""The page around a report's sections: one HTML file that needs nothing else, in light and dark."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple


class Section(NamedTuple):
    """A heading and what stands below it, as HTML."""

    title: str
    body: str


def page(title: str, subtitle: str, figures: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole document. `figures` are (name, value) shown large at the top; texts are escaped here."""
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "charts.js"))
    cards = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    bodies = "".join(f"<section><h2>{escape(section.title)}</h2>{section.body}</section>" for section in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p></header>'
        "<noscript><p>The charts of this page are drawn by its own script, which is switched off here.</p></noscript>"
        f'<dl class="cards">{cards}</dl>{bodies}</main><script>{script}</script></body></html>\n'
    )


def paragraph(text: str) -> str:
    """A sentence, escaped."""
    return f"<p>{escape(text)}</p>"


def facts(values: Mapping[str, Any]) -> str:
    """A table of two columns; nested mappings are written with dotted names."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _flat(values))
    return f'<table class="facts">{rows}</table>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table with a head; `numbers` are the columns set to the right."""
    style = [' class="n"' if n in numbers else "" for n in range(len(head))]
    top = "".join(f"<th{style[n]}>{escape(text)}</th>" for n, text in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{style[n]}>{escape(text)}</td>" for n, text in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def compared(*texts: tuple[str, str]) -> str:
    """Texts below each other, as (name, text); the last is the one to look at."""
    shown = [escape(text) for _, text in texts]
    shown[-1] = f"<b>{shown[-1]}</b>"
    rows = zip(texts, shown, strict=True)
    return f'<div class="pair">{"".join(f"<span>{name}</span><div>{text}</div>" for (name, _), text in rows)}</div>'


def folded(summary: str, body: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            found.append((prefix + str(name), text))
    return found
