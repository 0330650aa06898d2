"""The recurrent translator: `lstm_seq2seq` with attention, and where it looked for each word. 15 seconds on a CPU.

The commands are those of the Transformer: `seqlib train --model lstm_seq2seq …`. Numbers in words become digits in the
other order ("seven two nine" → "9 2 7"), which only a model that looks at the source can learn.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import seqlib
from seqlib.problems.translation import Translation
from seqlib.train.run import train
from seqlib.train.setup import make_config

WORDS = "zero one two three four five six seven eight nine".split()


class Backwards(Translation):
    """Two to six digits; whole words are pieces, so alignments are between words."""

    name, source_language, target_language = "backwards", "en", "digits"
    tokenizer, vocab_size = "unigram", 300

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test")

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        self.check_split(split)
        draw = random.Random(split)
        for _ in range(4000 if split == "train" else 60):
            digits = [draw.randrange(10) for _ in range(draw.randint(2, 6))]
            yield " ".join(WORDS[d] for d in digits), " ".join(str(d) for d in reversed(digits))


def main(folder: Path) -> None:
    settings = {
        "problem": f"{Path(__file__).resolve()}:Backwards",
        "model": "lstm_seq2seq",
        "hparams_set": "lstm_seq2seq_multi30k",
        # Bahdanau's score; the attention vector of a step goes into the next one, so that it knows where it was.
        "hparams": {"d_model": 48, "hidden": 64, "attention": "bahdanau", "input_feeding": True, "dropout": 0.0},
        "data": {"cache_dir": str(folder / "prepared")},
        "batch": {"tokens": 768, "shapes": 2, "max_length": 16},
        "optim": {"lr": 1e-2, "warmup": 20, "smoothing": 0.0},
        "train_steps": 250,
        "eval_every": 0,
        "average": 0,
        "decode": {"beam": 1, "dev_sentences": 60},
        "report": False,
        "output_dir": str(folder / "run"),
    }
    train(make_config(settings))
    translator = seqlib.load(folder / "run")
    sources, answers = zip(*Backwards().samples("test"), strict=True)
    found = translator.translate(sources, alignment=True)
    for source, item in list(zip(sources, found, strict=True))[:3]:
        words, digits = source.split(), item.text.split()
        print(f"{source} → {item.text}  ({', '.join(f'{words[s]}–{digits[t]}' for s, t in item.alignment or ())})")
    right = sum(item.text == answer for item, answer in zip(found, answers, strict=True))
    print(f"{right} of {len(answers)} right")
    assert right > 0.8 * len(answers)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
