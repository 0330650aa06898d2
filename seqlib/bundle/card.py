"""The model card: a README that says what a saved model does, how it scored and how to use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TASKS = {
    "text_classification": ("text-classification", "SequenceClassification", 'classify(["..."])[0].label'),
    "language_model": ("text-generation", "CausalLM", 'generate("...").text'),
    "translation": ("translation", "Seq2SeqLM", 'translate(["..."])[0].text'),
}
"""The Hugging Face hub's name of a task, the class of such models in transformers, and their use here."""


def model_card(record: Mapping[str, Any], published: Mapping[str, str] | None = None) -> str:
    """Markdown from the record that goes into seqlib.json. With `published`, the sha256 of files by name, it is for a
    folder that transformers loads: it begins as the Hugging Face hub wants it, and lists them."""
    problem, training = record["problem"], record["training"]
    task = record["spec"]["task"]
    tag, head, use = _TASKS.get(task, _TASKS["translation"])
    what = {"text_classification": "A text classifier", "language_model": "A language model"}.get(task, "A translator")
    languages = [problem[name] for name in ("source_language", "target_language") if problem.get(name)]
    lines = [f"# {problem['name']}", "", f"{what}{', ' * bool(languages)}{' → '.join(languages)}, trained with seqlib."]
    if published is not None:
        front = {"library_name": ["transformers"], "pipeline_tag": [tag], "tags": ["[seqlib]"]}
        front |= {"language": [f"[{', '.join(languages)}]"]} if languages else {}
        lines = ["---", *(f"{name}: {value}" for name, (value,) in front.items()), "---", "", *lines]
    lines += ["", "## Scores", ""]
    lines += [line for split, scores in record["metrics"].items() for line in _scores(split, scores)] or ["None yet."]
    lines += ["", "## Training", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in training.items() if _plain(value)]
    files = {split: ", ".join(Path(name).name for name in names) for split, names in problem.get("files", {}).items()}
    lines += ["", "## Data", ""] if files or problem.get("citation") else []
    lines += [f"- {split}: {names}" for split, names in files.items()]
    lines += [str(problem["citation"])] if problem.get("citation") else []
    lines += ["", "## Licence of the data", "", str(problem["licence"])] if problem.get("licence") else []
    if published is not None:
        lines += ["", "## Files", "", "| file | sha256 |", "|---|---|"]
        lines += [f"| {name} | `{digest}` |" for name, digest in published.items()]
    lines += ["", "## Use", "", "```python", "import seqlib", "", 'model = seqlib.load("THIS_FOLDER")']
    lines += [f"print(model.{use})", "```", ""]
    if published is not None:
        lines += [f'In transformers: `AutoModelFor{head}.from_pretrained("THIS_FOLDER")`.', ""]
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
