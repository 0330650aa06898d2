"""A classifier trained in seconds and served: clients in threads, the same answers as in Python, and what is refused.

10 seconds on a CPU.
"""

import json
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import seqlib
from seqlib.serve.config import Limits, ServeConfig
from seqlib.serve.server import Server
from seqlib.train.run import train
from seqlib.train.setup import make_config


def post(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main(folder: Path) -> None:
    config = {
        "problem": "classify_pydoc",
        "data": {"cache_dir": str(folder / "prepared")},
        "hparams_set": "bag_ngrams_base",
        "train_steps": 150,
        "eval_every": 150,
        "baselines": False,
        "report": False,
        "output_dir": str(folder / "run"),
    }
    train(make_config(config))
    model = seqlib.load(folder / "run")
    texts = [f"Return the number of {word} in the list." for word in "items words lines keys names files".split()] * 8

    settings = ServeConfig(port=0, max_wait_ms=5, limits=Limits(characters=200))
    with Server(model, settings, "pydoc") as server, ThreadPoolExecutor(8) as clients:
        print(f"{server.url} lets a person try it")
        found = list(clients.map(lambda text: post(f"{server.url}/classify", {"text": text})["outputs"][0], texts))
        assert found == [one.record() for one in model.classify(texts)]
        print(f"{texts[0]} -> {found[0]['label']} ({found[0]['probability']:.2f})")

        rows = post(f"{server.url}/v1/models/pydoc:predict", {"instances": texts[:2]})["predictions"]
        assert [row["label"] for row in rows] == [one["label"] for one in found[:2]]
        try:
            post(f"{server.url}/classify", {"text": "long " * 100})
        except urllib.error.HTTPError as error:
            print(f"{error.code}: {json.load(error)['error']}")
        with urllib.request.urlopen(f"{server.url}/health") as answer:
            health = json.load(answer)
        print(f"{health['texts']} texts of {health['requests']} requests in {health['batches']} batches")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
