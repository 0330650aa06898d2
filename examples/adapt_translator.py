"""A translator adapted to a domain, in full and by low-rank adapters, and what that does to everything else.

    python examples/adapt_translator.py                          # a small one, trained here first: 60 seconds on a CPU.
    python examples/adapt_translator.py MODEL examples/sailing   # a pretrained English-Portuguese one: five minutes

The small one knows the bulletin's weather (English to German) and learns its trains; a part of what it was trained on
goes along, as it forgets easily; docs/hub.md does so with a pretrained one. `examples/sailing`: terms, everyday text.
"""

import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

from sacrebleu import corpus_bleu

import seqlib
from seqlib.hub.fine_tune import fine_tune
from seqlib.nn.lora import load_adapter
from seqlib.problems.bulletin import Bulletin
from seqlib.train.run import train
from seqlib.train.setup import make_config

QUIET = {"report": False, "average": 0, "eval_every": 0}
WAYS = {"in full": {}, "by adapters": {"lora_rank": 8}}


def small_corpus(folder: Path) -> None:
    pairs = [(p.source, p.target) for p in Bulletin(seed=0).distinct("train", 6000)]
    trains = [p for p in pairs if "train" in p[0] or "platform" in p[0]]
    other = [p for p in pairs if p not in trains and "euro" not in p[0]]
    parts = {"train": trains[160:], "dev": trains[:60], "heldout": trains[60:160], "general": other[:80]}
    for name, rows in (parts | {"base": other[80:]}).items():
        (folder / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")


def small_model(folder: Path) -> str:
    data = {"paths": [str(folder / "base.tsv")], "languages": ["en", "de"], "cache_dir": str(folder / "cache")}
    given = {**QUIET, "data": data, "hparams_set": "transformer_bulletin", "train_steps": 900}
    return str(train(make_config({**given, "output_dir": str(folder / "base")})).model)


def scores(model: Any, folder: Path) -> str:
    """BLEU on held-out sentences of the domain, and on others."""
    found: list[str] = []
    for name in ("heldout", "general"):
        lines = (folder / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        sources, targets = zip(*(line.split("\t") for line in lines), strict=True)
        texts = [each.text for each in model.translate(sources)]
        found.append(f"{name} BLEU {corpus_bleu(texts, [targets]).score:.1f}")
    return ", ".join(found)


def main(work: Path, base: str = "", data: str = "") -> None:
    folder = Path(data or work)
    train_, dev, test = ([str(folder / f"{name}.tsv")] for name in ("train", "dev", "heldout"))
    languages = ["en", "pt" if data else "de"]
    files: dict[str, Any] = {"paths": train_, "dev_paths": dev, "test_paths": test, "languages": languages}
    optim, steps = {"warmup": 10}, 60
    if data:
        runpy.run_path(str(folder / "make.py"))["write"](folder)
    else:
        small_corpus(folder)
        base = small_model(folder)
        optim, steps = {"warmup": 10, "lr": 5e-3}, 100
        files["mix"] = f"{folder / 'base.tsv'}*0.3"
    given = {**QUIET, "data": files | {"cache_dir": str(work / "cache")}, "train_steps": steps}
    model = seqlib.load(base)
    print("before:", scores(model, folder))
    for name, way in WAYS.items():
        tuned = fine_tune(base, {**given, "optim": optim | way, "output_dir": str(work / name)}).model
        print(f"{name}:", scores(seqlib.load(tuned), folder))
    load_adapter(model.model, work / "by adapters/model/adapter.safetensors", "domain")
    print(*(model.translate(["The next train leaves at 10:15."], adapter=a)[0].text for a in ("", "domain")), sep="\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), *sys.argv[1:3])
