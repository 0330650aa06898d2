"""The model card: a README that says what a saved model does, how it scored and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown from the record that goes into seqlib.json."""
    problem, training = record["problem"], record["training"]
    what, use = _use(record)
    lines = [f"# {problem['name']}", "", f"{what}, trained with seqlib.", "", "## Scores", ""]
    lines += [line for split, scores in record["metrics"].items() for line in _scores(split, scores)] or ["None yet."]
    lines += ["", "## Training", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in training.items() if _plain(value)]
    for name in ("citation", "licence"):
        if problem.get(name):
            lines += ["", f"## {'Data' if name == 'citation' else 'Licence of the data'}", "", str(problem[name])]
    lines += ["", "## Use", "", "```python", "import seqlib", "", 'model = seqlib.load("THIS_FOLDER")']
    lines += [f"print({use})", "```", ""]
    return "\n".join(lines)


def _use(record: Mapping[str, Any]) -> tuple[str, str]:
    """What a model of the task is, and the expression that uses it."""
    problem = record["problem"]
    match record["spec"]["task"]:
        case "text_classification":
            return "A text classifier", 'model.classify(["..."])[0].label'
        case "language_model":
            return "A language model", 'model.generate("...").text'
        case _:
            pair = f"{problem.get('source_language', 'source')} → {problem.get('target_language', 'target')}"
            return f"A translation model, {pair}", 'model.translate(["..."])[0].text'


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
