"""What a trained model can be asked: n best, samples, prefixes, bans, alignment, two models. 30 seconds on a CPU.

On the command line: `seqlib translate DIR [DIR …] --n_best 3 --sample --prefixes FILE --ban TEXT --alignment`.
"""

import tempfile
from pathlib import Path
from typing import Any

import seqlib
from seqlib.decode.sampling import Sampling
from seqlib.problems.bulletin import Bulletin
from seqlib.train.run import train
from seqlib.train.setup import make_config


def trained(folder: Path, seed: int) -> Any:
    """A small translator of prices; both have one tokenizer, since the data are the same."""
    config = make_config(
        {
            "data": {"paths": [f"{folder}/notes.en", f"{folder}/notes.de"], "cache_dir": f"{folder}/prepared"},
            "hparams_set": "transformer_bulletin",
            "hparams": {"encoder_layers": 1, "decoder_layers": 1, "d_model": 96, "d_ff": 384},
            "batch": {"tokens": 512, "shapes": 3},
            "optim": {"lr": 6e-3, "warmup": 30},
            "train_steps": 240,
            "eval_every": 0,
            "average": 0,
            "decode": {"beam": 1, "dev_sentences": 60},
            "report": False,
            "seed": seed,
            "output_dir": f"{folder}/run{seed}",
        }
    )
    return train(config).folder


def main(folder: Path) -> None:
    pairs = [p for p in Bulletin(seed=0).distinct("train", 40_000) if "euro" in p.source and len(p.source.split()) <= 6]
    for suffix, lines in (("en", [p.source for p in pairs]), ("de", [p.target for p in pairs])):
        (folder / f"notes.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    runs = [trained(folder, seed) for seed in (1, 2)]
    one = seqlib.load(runs[0])
    text = ["The old lamp costs twelve euros."]

    best = one.translate(text, beam=4, n_best=3)[0]
    print("three best")
    for item in (best, *best.alternatives):
        print(f"  {item.score:7.3f}  {item.text}")
    assert best.score >= best.alternatives[0].score >= best.alternatives[1].score

    print("drawn, not searched for; the same seed draws the same again, alone or in a batch")
    drawn = one.translate(text, n_best=3, sampling=Sampling(temperature=1.5, top_k=20, seed=1))[0]
    for item in (drawn, *drawn.alternatives):
        print(f"  {item.score:7.3f}  {item.text}")
    assert (
        one.translate([*text, "The bread is old."], n_best=3, sampling=Sampling(temperature=1.5, top_k=20, seed=1))[0]
        == drawn
    )

    print("with a beginning that is given, without a word, and no shorter than twelve tokens")
    begun = one.translate(text, prefixes=["Ihre"])[0].text
    without = one.translate(text, banned=["Die"])[0].text
    long = one.translate(text, min_length=12)[0]
    print(f"  {begun}\n  {without}\n  {long.text}")
    assert begun.startswith("Ihre") and "Die" not in without and len(long.tokens) >= 11

    aligned = one.translate(text, alignment=True)[0]
    source, target = text[0].split(), aligned.text.split()
    print("where it looked:", ", ".join(f"{source[s]} – {target[t]}" for s, t in aligned.alignment or ()))

    both = seqlib.load(*runs)  # the mean of the probabilities that two models give each token
    print(f"two models: {both.translate(text)[0].text}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
