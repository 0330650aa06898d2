"""The page of prepared data: what was kept and dropped, how long sentences are, some of them read back."""

from pathlib import Path
from typing import Any

import numpy as np

from seqlib.data.prepare import CODE_VERSION
from seqlib.data.report import PrepareReport
from seqlib.data.store import TokenStore
from seqlib.data.tokenizer import load_tokenizer
from seqlib.problems.spec import ProblemSpec
from seqlib.train.inspection.page import Page, columns, sized
from seqlib.train.inspection.saved import checked, tokenizer_facts
from seqlib.util.manifest import check_manifest
from seqlib.util.table import text_table

_EXAMPLES = 4
_BINS = 12
_BAR = 40


def look(folder: Path, quick: bool) -> Page:
    """The page of a folder that `seqlib prepare` or a run wrote. DataError names what is damaged."""
    page = Page("prepared data", folder)
    if not quick:
        check_manifest(folder, CODE_VERSION)
    report = PrepareReport.read(folder / "report.json")
    spec = ProblemSpec.read(folder / "problem.json")
    languages = f"{spec.source_language} → {spec.target_language}"
    page.facts("problem", {"name": spec.name, "languages": languages, **_origin(report.problem)})
    page.facts("vocabulary", tokenizer_facts(folder / "tokenizer"))
    page.add("splits", {name: vars(split) for name, split in report.splits.items()}, report.table().split("\nclean")[0])
    if report.cleaning.read:
        page.add("cleaning", report.to_json()["cleaning"], report.cleaning.table())
    store = TokenStore.open(folder / "train")
    page.add("lengths", *_lengths(store.lengths()))
    page.add("examples", *_examples(store, load_tokenizer(folder / "tokenizer")))
    page.facts("files", {"size": sized(folder), "digest": report.digest, "digests": checked(quick)})
    return page


def _origin(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: problem[name] for name in ("files", "origin", "citation", "licence") if problem.get(name)}


def _lengths(lengths: np.ndarray) -> tuple[dict[str, Any], str]:
    """Pairs of train by length in tokens, end of sentence included: counts for each bin and side, and bars."""
    whole = lengths + 1
    width = max(1, -(-int(np.quantile(whole, 0.99)) // _BINS)) if len(whole) else 1
    edges = np.append(np.arange(_BINS + 1) * width + 1, np.iinfo(np.int64).max)
    counts = [np.histogram(whole[:, side], edges)[0] for side in (0, 1)]
    most = max(1, *(int(count.max()) for count in counts))
    names = [f"{a}-{a + width - 1}" for a in edges[:_BINS]] + [f"over {edges[_BINS] - 1}"]
    rows = [
        (name, f"{source:,}", f"{target:,}", "█" * round(_BAR * source / most), "█" * round(_BAR * target / most))
        for name, source, target in zip(names, *counts, strict=True)
        if source or target
    ]
    found = {"bins": names, "source": counts[0].tolist(), "target": counts[1].tolist()}
    return found, text_table(("tokens", "source", "target", "source", "target"), rows, right=(0, 1, 2))


def _examples(store: TokenStore, tokenizer: Any) -> tuple[list[dict[str, Any]], str]:
    """Pairs of train, evenly spread, as the tokenizer gives them back."""
    found: list[dict[str, Any]] = []
    for n in range(min(_EXAMPLES, len(store))):
        number = n * len(store) // _EXAMPLES if len(store) > _EXAMPLES else n
        source, target = (ids.tolist() for ids in store.pair(number))
        texts = tokenizer.decode(source), tokenizer.decode(target)
        pieces = " ".join(tokenizer.piece(token) for token in source)
        found.append({"pair": number, "source": texts[0], "target": texts[1], "source_pieces": pieces})
    return found, "\n\n".join(columns(example) for example in found)
