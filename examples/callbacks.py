"""Callbacks: those that come with seqlib, by name, and one of one's own. Ten seconds on a CPU.

On the command line they are `--callbacks early_stopping:patience=2,csv,"callbacks.py:Sample:sentence=Good day."`.
"""

import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlib.problems.bulletin import Bulletin
from seqlib.train.callback import Callback
from seqlib.train.run import train
from seqlib.train.setup import make_config
from seqlib.train.trainer import Trainer


class Sample(Callback):
    """Translates one sentence at every evaluation, and remembers how it went: also over a resume."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.history: list[str] = []

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        from seqlib.decode.translate import Translator

        translator = Translator(trainer.model, trainer.data.tokenizer, trainer.data.spec, beam=1)
        self.history.append(translator.translate([self.sentence])[0].text)
        print(f"  dev loss {scores['loss']:.3f}: {self.history[-1]}")

    def learning_rate(self, trainer: Trainer, step: int, rate: float) -> float:
        return rate * 0.5 if step <= 20 else rate  # twice as careful at the beginning

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load(self, state: Mapping[str, Any]) -> None:
        self.history = list(state["history"])


def main(folder: Path) -> None:
    pairs = [p for p in Bulletin(seed=0).distinct("train", 40_000) if "euro" in p.source and len(p.source.split()) <= 6]
    for suffix, lines in (("en", [p.source for p in pairs]), ("de", [p.target for p in pairs])):
        (folder / f"notes.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    config = make_config(
        {
            "data": {"paths": [f"{folder}/notes.en", f"{folder}/notes.de"], "cache_dir": f"{folder}/prepared"},
            "hparams_set": "transformer_bulletin",
            "hparams": {"encoder_layers": 1, "decoder_layers": 1},
            "batch": {"tokens": 512, "shapes": 3},
            "optim": {"lr": 1e-2, "warmup": 20},
            "train_steps": 1000,
            "eval_every": 40,
            "log_every": 20,
            "decode": {"beam": 1, "dev_sentences": 40},
            "callbacks": [
                "early_stopping:monitor=loss:patience=2:min_delta=0.1",
                "csv",
                "learning_rate_monitor:every=20",
            ],
            "report": False,
            "output_dir": f"{folder}/run",
        }
    )
    sample = Sample("The bread costs twelve euros.")
    result = train(config, callbacks=[sample])
    print(f"early_stopping ended the run after {result.position.step} of {config.train_steps} steps")
    rows = list(csv.DictReader((folder / "run" / "log.csv").open()))
    print(f"log.csv has {len(rows)} rows with {', '.join(list(rows[0])[:5])}, …")
    assert result.position.step < config.train_steps and len(sample.history) >= 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
