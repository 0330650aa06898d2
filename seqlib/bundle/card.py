"""The model card: a README that says what a saved model does, how it scored and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown from the record that goes into seqlib.json."""
    problem, training = record["problem"], record["training"]
    pair = f"{problem.get('source_language', 'source')} → {problem.get('target_language', 'target')}"
    lines = [f"# {problem['name']}", "", f"A translation model, {pair}, trained with seqlib.", "", "## Scores", ""]
    lines += [line for split, scores in record["metrics"].items() for line in _scores(split, scores)] or ["None yet."]
    lines += ["", "## Training", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in training.items() if _plain(value)]
    for name in ("citation", "licence"):
        if problem.get(name):
            lines += ["", f"## {'Data' if name == 'citation' else 'Licence of the data'}", "", str(problem[name])]
    lines += ["", "## Use", "", "```python", "import seqlib", "", 'model = seqlib.load("THIS_FOLDER")']
    lines += ['print(model.translate(["..."])[0].text)', "```", ""]
    return "\n".join(lines)


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


def _scores(split: str, scores: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in scores.items():
        if isinstance(value, Mapping):
            signature = f" (`{value['signature']}`)" if "signature" in value else ""
            lines.append(f"- {split} {name}: {value.get('score')}{signature}")
        else:
            lines.append(f"- {split} {name}: {value}")
    return lines
