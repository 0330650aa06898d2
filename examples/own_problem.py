"""A problem of one's own: dates as people write them → ISO 8601. The whole of it is one class. 20 seconds on a CPU.

As a command, from a checkout (names of files and classes are locations, nothing is registered):

    seqlib train --problem examples/own_problem.py:Dates --train_steps 1000 --output_dir runs/dates
    seqlib evaluate runs/dates --problem examples/own_problem.py:Dates
    echo "3 May 2021" | seqlib translate runs/dates
"""

import datetime
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import seqlib
from seqlib.problems.translation import Translation
from seqlib.train.run import train
from seqlib.train.setup import make_config

FORMS = ("{d} {month} {y}", "{month} {d}, {y}", "{d}.{m}.{y}", "{weekday}, {d} {month} {y}")
SIZES = {"train": 4000, "dev": 200, "test": 200}


class Dates(Translation):
    """Pairs such as ("Monday, 3 May 2021", "2021-05-03"); the days of dev and test never occur in train."""

    name = "dates"
    source_language = "en"
    target_language = "iso"
    tokenizer = "characters"
    vocab_size = 400  # special ids and 256 bytes are part of it; characters take what they need

    def splits(self) -> tuple[str, ...]:
        return tuple(SIZES)

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        """The same pairs at every call: training may be resumed, and prepared data are found again."""
        self.check_split(split)
        days = [datetime.date(1990, 1, 1) + datetime.timedelta(n) for n in range(sum(SIZES.values()) * 3)]
        random.Random(0).shuffle(days)
        start = sum(size for name, size in SIZES.items() if name < split)
        forms = random.Random(split)
        for day in days[start : start + SIZES[split]]:
            parts = {"d": day.day, "m": day.month, "y": day.year}
            names = {"month": day.strftime("%B"), "weekday": day.strftime("%A")}
            yield forms.choice(FORMS).format(**parts, **names), day.isoformat()

    def digest(self) -> str:
        """Changes when the data do; without it every pair is read to tell."""
        return f"dates 1 {SIZES} {FORMS}"


def main(folder: Path) -> None:
    problem = Dates()
    settings = {
        "problem": f"{Path(__file__).resolve()}:Dates",
        "data": {"cache_dir": str(folder / "prepared")},
        "hparams_set": "transformer_bulletin",
        "hparams": {"encoder_layers": 1, "decoder_layers": 1, "d_model": 64, "d_ff": 256},
        "batch": {"tokens": 768, "shapes": 4},
        "optim": {"lr": 5e-3, "warmup": 50},
        "train_steps": 500,
        "eval_every": 0,
        "decode": {"beam": 1, "dev_sentences": -1},
        "output_dir": str(folder / "run"),
    }
    train(make_config(settings))
    translator = seqlib.load(folder / "run")
    sources, answers = zip(*problem.samples("test"), strict=True)
    found = translator.translate(sources)
    for source, item in zip(sources[:4], found[:4], strict=True):
        print(f"  {source} → {item.text}")
    right = sum(item.text == answer for item, answer in zip(found, answers, strict=True))
    print(f"{right} of {len(answers)} days right that were not in training")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
