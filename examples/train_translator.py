"""A translator of one's own: two files, a configuration, a run, a saved model, translations with their confidence.

20 seconds on a CPU.
"""

import tempfile
from pathlib import Path

import seqlib
from seqlib.problems.bulletin import Bulletin
from seqlib.train.run import train
from seqlib.train.setup import make_config


def write_corpus(folder: Path) -> str:
    """Two files in which line N of one translates line N of the other; any such files serve.

    These hold prices, from the bulletin grammar that comes with seqlib.
    """
    sentences = Bulletin(seed=0).distinct("train", 40_000)
    pairs = [pair for pair in sentences if "euro" in pair.source and len(pair.source.split()) <= 6]
    (folder / "notes.en").write_text("".join(f"{pair.source}\n" for pair in pairs), encoding="utf-8")
    (folder / "notes.de").write_text("".join(f"{pair.target}\n" for pair in pairs), encoding="utf-8")
    return f"{folder / 'notes.en'},{folder / 'notes.de'}"


def main(folder: Path) -> None:
    files = write_corpus(folder)
    # Names are those of the flags of `seqlib train`; the rest comes from the preset and the defaults.
    config = make_config(
        {
            "data": {"paths": files.split(","), "cache_dir": str(folder / "prepared"), "vocab_size": 800},
            "hparams_set": "transformer_bulletin",
            "hparams": {"encoder_layers": 1, "decoder_layers": 1, "d_model": 96, "d_ff": 384},
            "batch": {"tokens": 512, "shapes": 4},
            "optim": {"lr": 5e-3, "warmup": 40},
            "train_steps": 300,
            "eval_every": 150,
            "decode": {"beam": 1},
            "output_dir": str(folder / "run"),
        }
    )
    result = train(config)
    print(f"{result.position.step} steps, {result.position.target_tokens:,} target tokens")

    translator = seqlib.load(folder / "run")  # or the folder result.model, which may be moved anywhere
    sentences = [
        "The bread costs twelve euros.",
        "The old lamp costs 38 euros.",
        "These books cost fifteen euros.",
        "Quarterly revenue exceeded all expectations.",
    ]
    print(f"flagged below a confidence of {translator.threshold}:")
    for source, found in zip(sentences, translator.translate(sentences), strict=True):
        print(f"  {source}\n    {found.text}  ({found.confidence:.3f}{', flagged' if found.flagged else ''})")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
