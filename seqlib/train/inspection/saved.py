"""Pages of a checkpoint and of a saved model."""

from pathlib import Path
from typing import Any

import msgspec

from seqlib import bundle
from seqlib.bundle.architecture import builder, config_type, is_location
from seqlib.bundle.folder import read_object
from seqlib.train import checkpoint
from seqlib.train.inspection.page import Page, folder_size, usage
from seqlib.train.runlog import duration
from seqlib.util.files import read_json
from seqlib.util.manifest import check_manifest
from seqlib.util.memory import size_text


def checked(quick: bool) -> str:
    """What is said of digests once they have been read, or not."""
    return "not verified (--quick)" if quick else "agree"


def look_at_checkpoint(folder: Path, quick: bool) -> Page:
    """The page of a folder `step-N`. DataError names what is damaged."""
    page = Page("a checkpoint", folder)
    state = read_state(folder, quick)
    position = state["position"]
    page.facts(
        "position",
        {
            "step": position["step"],
            "epoch": position["epoch"],
            "batch of the epoch": position["batch"],
            "time": duration(position["seconds"]),
            "target tokens": position["target_tokens"],
            "best step": position["best_step"] if position["best_step"] >= 0 else "none yet",
            "last scores": state["evaluation"]["scores"],
            "callbacks": [one["kind"] for one in state["callbacks"]],
        },
    )
    files = {name: size_text(folder_size(folder / name)) for name in checkpoint.FILES}
    page.facts("files", files | {"digests": checked(quick)})
    page.facts("belongs_to", {"data": state["data_folder"], "configuration": state["config_digest"][:12]})
    page.environment(state["environment"])
    page.weights(folder / "model.safetensors", quick)
    run = folder.resolve().parent.parent
    if (run / "run.json").is_file():
        page.then(f"seqlib inspect {run}", f"seqlib train --resume {run}")
    return page


def read_state(folder: Path, quick: bool) -> dict[str, Any]:
    """The state of a checkpoint, its files checked unless `quick`."""
    if not quick:
        check_manifest(folder, checkpoint.FORMAT_VERSION)
    return read_json(folder / "state.json")


def look_at_bundle(folder: Path, quick: bool) -> Page:
    """The page of a saved model. BundleError names what is damaged."""
    page = Page("a saved model", folder)
    _, record = bundle.read_record(folder, check_digests=not quick)
    problem, training = record["problem"], record["training"]
    languages = f"{problem.get('source_language', '?')} → {problem.get('target_language', '?')}"
    page.facts(
        "problem",
        {
            "name": problem["name"],
            "languages": languages,
            **{name: problem.get(name) for name in ("files", "origin", "licence")},
        },
    )
    config = read_object(folder / "config.json")
    page.facts("model", model_facts(config))
    page.facts("vocabulary", tokenizer_facts(folder))
    page.facts("training", {name: value for name, value in training.items() if name != "environment"})
    for split, scores in record["metrics"].items():
        page.facts(f"{split}_scores", {name: _score(value) for name, value in scores.items()})
    page.facts("decoding", read_object(folder / "generation_config.json"))
    confidence = record["confidence"]
    page.facts("confidence", {"threshold": "none was set" if confidence is None else confidence["threshold"]})
    files = {name: size_text(entry["bytes"]) for name, entry in record["files"].items()}
    page.facts("files", files | {"digests": checked(quick)})
    page.environment(training["environment"])
    page.weights(folder / "model.safetensors", quick)
    own = " --model FILE.py:NAME" if is_location(page.record["model"]["architecture"]) else ""
    place = " --problem FILE.py:NAME" if is_location(problem["data"]["problem"]) else ""
    page.then(
        usage(record["spec"]["task"], f"{folder}{own}"),
        f"seqlib evaluate {folder}{own}{place} --split test",
        f"seqlib summary {folder}{own}",
    )
    return page


def model_facts(config: dict[str, Any]) -> dict[str, Any]:
    """The architecture, and those of its settings that differ from its defaults (all, of somebody's own, whose code is
    not run)."""
    settings = {name: value for name, value in config.items() if name != "architecture"}
    name = str(config.get("architecture"))
    if is_location(name):
        return {"architecture": name, **settings}
    defaults = msgspec.to_builtins(config_type(builder(name))())
    return {"architecture": name} | {key: v for key, v in settings.items() if v != defaults.get(key)}


def tokenizer_facts(folder: Path) -> dict[str, Any]:
    """Kind, size and the first pieces of a tokenizer's folder."""
    from seqlib.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    first = [tokenizer.piece(n) for n in range(min(tokenizer.vocab_size, 2000)) if n > 2]
    pieces = [piece for piece in first if not piece.startswith("<")][:16]
    return {"kind": tokenizer.kind, "pieces": tokenizer.vocab_size, "the first": " ".join(pieces)}


def _score(value: Any) -> Any:
    if isinstance(value, dict) and "signature" in value:
        return f"{value['score']:.4g}  {value['signature']}"
    return value
