"""The page around a report's sections: one HTML file that needs nothing else, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple


class Section(NamedTuple):
    """A heading and what stands below it, as HTML."""

    title: str
    body: str


def page(title: str, subtitle: str, figures: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole document. `figures` are (name, value) shown large at the top; texts are escaped here."""
    cards = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    bodies = "".join(f"<section><h2>{escape(section.title)}</h2>{section.body}</section>" for section in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p></header>'
        f'<dl class="cards">{cards}</dl>{bodies}</main></body></html>\n'
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


_STYLE = """
:root{
--bg:#fbfbf9;--card:#fff;--ink:#1d2126;--soft:#626a73;--rule:#e4e4df;--a:#2f6690;--b:#c8702a;--c:#5b8c5a;--d:#8a6bb1;
--e:#a3a9b0}
@media (prefers-color-scheme:dark){:root{--bg:#15181c;--card:#1c2025;--ink:#e6e8ea;--soft:#99a2ab;--rule:#30363d;
--a:#74aede;--b:#e39a5c;--c:#86bb85;--d:#b59ad9;--e:#666e77}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:62rem;margin:0 auto;padding:3.5rem 1.5rem 5rem}
h1{font-size:2rem;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0}
h2{font-size:1.2rem;font-weight:650;letter-spacing:-.005em;margin:0 0 1rem}
.sub{color:var(--soft);margin:.4rem 0 0}
.cards{display:flex;flex-wrap:wrap;gap:1px;background:var(--rule);
border:1px solid var(--rule);border-radius:10px;overflow:hidden;margin:2rem 0 0}
.cards div{background:var(--card);padding:.9rem 1.1rem;flex:1 1 8.2rem}
dt{font-size:.78rem;color:var(--soft)}
dd{margin:.1rem 0 0;font-size:1.35rem;font-weight:600;letter-spacing:-.01em;white-space:nowrap}
section{margin-top:3.2rem}
p{margin:0 0 1rem;max-width:46rem}
.grid2 .tick{font-size:17px}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.4rem}
figure{min-width:0;margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:1rem 1.1rem .8rem}
figcaption{font-size:.9rem;font-weight:600;margin-bottom:.3rem}
figcaption small{color:var(--soft);font-weight:400}
svg{display:block;width:100%;height:auto;font:inherit}
.grid{stroke:var(--rule)}
.tick,.label{fill:var(--soft);font-size:12.5px}
.label{fill:var(--ink);font-size:13px}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.s0{stroke:var(--a)}.line.s1{stroke:var(--b)}.line.s2{stroke:var(--c)}.line.s3{stroke:var(--d)}
.dot.s0,.bar.s0{fill:var(--a)}.dot.s1,.bar.s1{fill:var(--b)}.dot.s2,.bar.s2{fill:var(--c)}.dot.s3,.bar.s3{fill:var(--d)}
.cell{fill:var(--a)}
.scroll{overflow-x:auto}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;
margin:.5rem 0 0;padding:0;font-size:.82rem;color:var(--soft)}
.legend i{display:inline-block;width:.7rem;height:.7rem;border-radius:3px;margin-right:.4rem;vertical-align:-.05rem}
.shares{display:flex;height:1.3rem;border-radius:6px;overflow:hidden;margin:.4rem 0}
i.s0,.part.s0{background:var(--a)}i.s1,.part.s1{background:var(--b)}i.s2,.part.s2{background:var(--c)}
i.s3,.part.s3{background:var(--d)}i.s4,.part.s4{background:var(--e)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .9rem .5rem 0;border-bottom:1px solid var(--rule)}
th{font-weight:600;color:var(--soft)}
.n{text-align:right;padding-right:1.4rem;white-space:nowrap}
.facts th{font-weight:400;width:16rem;padding-right:1rem}
.facts td{overflow-wrap:anywhere}
details{margin-top:1rem}
summary{cursor:pointer;color:var(--a);font-size:.95rem;margin-bottom:.6rem}
.pair{border-top:1px solid var(--rule);padding:.9rem 0;display:grid;grid-template-columns:5.5rem 1fr;gap:.15rem 1rem;
font-size:.95rem}
.pair span{color:var(--soft);font-size:.82rem;padding-top:.12rem}
.pair b{font-weight:600}
code{font:.86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
@media print{body{background:#fff}figure{break-inside:avoid}}
@media (max-width:40rem){.pair{grid-template-columns:1fr}main{padding-top:2rem}}
"""
