"""Who survived the Titanic: small networks over a few columns, judged by cross-validation in five folds.

The table (Kaggle's train.csv, 891 people) is looked for in ../shared/data/tabular or at the path given. A title is
taken from the name; families and tickets tell who travelled together. Fifteen seconds on a CPU.
"""

import csv
import gzip
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import seqlib
from seqlib.core.rng import use_generator
from seqlib.optim import AdamW

HERE = Path(__file__).resolve().parent.parent.parent / "shared/data/tabular/titanic_train.csv.gz"
path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
if not path.is_file():
    print(f"there is no {path}; give the path of titanic_train.csv.gz")
    sys.exit()

FOLDS, STEPS, MODELS = 5, 150, 5
rows = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
survived = np.array([int(row["Survived"]) for row in rows], np.int32)
tickets = Counter(row["Ticket"] for row in rows)
ages = [float(row["Age"]) for row in rows if row["Age"]]


def features(row: dict[str, str]) -> list[float]:
    """Class, sex, title, age, company, fare and port as numbers."""
    title, family = row["Name"].split(", ")[1].split(".")[0], 1 + int(row["SibSp"]) + int(row["Parch"])
    age, fare = float(row["Age"] or np.median(ages)), float(row["Fare"]) / tickets[row["Ticket"]]
    return [
        *(row["Pclass"] == number for number in "123"),
        *(row["Sex"] == "female", *(title == name for name in ("Mr", "Mrs", "Miss", "Master"))),
        *(age / 30, age < 13, family / 4, family == 1, family > 4, tickets[row["Ticket"]] / 4),
        *(np.log1p(fare) / 2, bool(row["Cabin"]), *(row["Embarked"] == port for port in "SCQ")),
    ]


x = np.array([features(row) for row in rows], np.float32)
folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS


def fitted(x: np.ndarray, y: np.ndarray, asked: np.ndarray, seed: int) -> np.ndarray:
    """Log-probabilities [n, 2] of the rows `asked`, by a network that is trained on x and y."""
    generator = seqlib.Generator(seed)
    with use_generator(generator):
        first, second = seqlib.nn.Linear(x.shape[1], 24), seqlib.nn.Linear(24, 2)
    dropout = seqlib.nn.Dropout(0.2)
    parameters = {"first": first.weight, "first bias": first.bias, "second": second.weight, "second bias": second.bias}
    optimizer = AdamW(parameters, lr=0.01, weight_decay=0.05)

    def step() -> None:
        def loss() -> seqlib.Tensor:
            hidden = dropout(seqlib.relu(first(seqlib.tensor(x))))
            return seqlib.cross_entropy(second(hidden), seqlib.tensor(y), smoothing=0.1)[0] / len(y)

        with use_generator(generator):
            optimizer.update(seqlib.value_and_grad(loss, params=parameters)()[1])

    fast = seqlib.compile(step, state=[first, second, optimizer, generator])
    for _ in range(STEPS):
        fast()
    with seqlib.no_grad():
        return seqlib.log_softmax(second(seqlib.relu(first(seqlib.tensor(asked))))).numpy()


scores = []
for fold in range(FOLDS):
    train, test = folds != fold, folds == fold
    votes = sum(fitted(x[train], survived[train], x[test], seed) for seed in range(MODELS))
    scores.append(float((np.argmax(votes, 1) == survived[test]).mean()))
print("right in each fold:", ", ".join(f"{score:.3f}" for score in scores))
women = (x[:, 3] == survived).mean()
print(f"mean {np.mean(scores):.3f}; if nobody survives: {1 - survived.mean():.3f}, if women do: {women:.3f}")
assert np.mean(scores) >= 0.80
