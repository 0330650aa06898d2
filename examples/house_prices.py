"""House prices of California in 1990 from nine columns of a census: a network against linear regression.

The table (StatLib's, with `ocean_proximity`) is looked for in ../shared/data/tabular or at the path given; every fifth
row is held out. Forty seconds on a CPU.
"""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np

import seqlib
from seqlib.core.rng import use_generator
from seqlib.optim import AdamW, Schedule

HERE = Path(__file__).resolve().parent.parent.parent / "shared/data/tabular/california_housing.csv.gz"
path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
if not path.is_file():
    print(f"there is no {path}; give the path of california_housing.csv.gz")
    sys.exit()

rows = list(csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines()))
places = sorted({row["ocean_proximity"] for row in rows})
names = [name for name in rows[0] if name not in ("median_house_value", "ocean_proximity")]
numbers = np.array([[float(row[name] or "nan") for name in names] for row in rows])
price = np.array([float(row["median_house_value"]) for row in rows])
held_out = np.arange(len(rows)) % 5 == 0
numbers = np.where(np.isnan(numbers), np.nanmedian(numbers[~held_out], axis=0), numbers)
near = np.array([[row["ocean_proximity"] == place for place in places] for row in rows], float)
rooms, beds, people, homes = numbers[:, 3:7].T
shares = np.stack([rooms / homes, beds / rooms, people / homes], axis=1)
x = np.concatenate([numbers, np.log(numbers[:, 3:]), np.log(shares), near], axis=1)
x = ((x - x[~held_out].mean(0)) / (x[~held_out].std(0) + 1e-6)).clip(-6, 6).astype(np.float32)
scale = price[~held_out].std()
y = ((price - price[~held_out].mean()) / scale).astype(np.float32)


def rmse(found: np.ndarray) -> float:
    """Of the held-out rows, in dollars."""
    return float(scale * np.sqrt(np.mean((found - y[held_out]) ** 2)))


given = np.concatenate([numbers, near], axis=1)  # what the table has, as it is
weights = np.linalg.lstsq(given[~held_out], y[~held_out], rcond=None)[0]
linear = rmse(given[held_out] @ weights)

EPOCHS, ROWS, WIDTH = 40, 128, 192
with use_generator(seqlib.Generator(1)):
    layers = [seqlib.nn.Linear(a, b) for a, b in ((x.shape[1], WIDTH), (WIDTH, WIDTH), (WIDTH, 1))]
parameters = {f"{n}.{name}": p for n, layer in enumerate(layers) for name, p in layer.named_parameters().items()}
optimizer = AdamW(parameters, weight_decay=0.02)
steps = EPOCHS * int((~held_out).sum()) // ROWS
schedule = Schedule("constant*linear_warmup*cosine_decay", lr=3e-3, warmup=100, train_steps=steps)


def predict(x: seqlib.Tensor) -> seqlib.Tensor:
    """[B, columns] → [B]."""
    for layer in layers[:-1]:
        x = seqlib.silu(layer(x))
    return seqlib.reshape(layers[-1](x), (-1,))


def step(x: seqlib.Tensor, y: seqlib.Tensor) -> None:
    """One update."""
    error = seqlib.value_and_grad(lambda: seqlib.mean((predict(x) - y) ** 2), params=parameters)
    optimizer.update(error()[1])


fast, rng = seqlib.compile(step, state=[*layers, optimizer]), np.random.default_rng(0)
for number in range(1, steps + 1):
    chosen = rng.choice(np.flatnonzero(~held_out), ROWS)
    optimizer.lr.assign(np.float32(schedule(number)))
    fast(x[chosen], y[chosen])
with seqlib.no_grad():
    network = rmse(predict(seqlib.tensor(x[held_out])).numpy())
print(f"RMSE: linear regression ${linear:,.0f}, network ${network:,.0f}, {1 - network / linear:.1%} under it")
assert network <= 0.8 * linear
