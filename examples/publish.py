"""A translator trained here, given away: as a folder that transformers loads, through a static hub on a web server.

15 seconds on a CPU. The server is Python's own, on this machine; any that gives out files does.
"""

import importlib.util
import os
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import seqlib
from seqlib import bundle
from seqlib.hub import handles
from seqlib.hub.publish import to_transformers
from seqlib.problems.bulletin import Bulletin
from seqlib.train.run import train
from seqlib.train.setup import make_config


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing."""


def write_corpus(folder: Path) -> list[str]:
    """Two files in which line N of one translates line N of the other: prices."""
    sentences = Bulletin(seed=0).distinct("train", 30_000)
    pairs = [pair for pair in sentences if "euro" in pair.source and len(pair.source.split()) <= 6]
    for language, side in (("en", "source"), ("de", "target")):
        text = "".join(f"{getattr(pair, side)}\n" for pair in pairs)
        (folder / f"notes.{language}").write_text(text, encoding="utf-8")
    return [str(folder / "notes.en"), str(folder / "notes.de")]


def main(folder: Path) -> None:
    os.environ["SEQLIB_CACHE"] = str(folder / "cache")  # where downloads are kept
    config = make_config(
        {
            "data": {"paths": write_corpus(folder), "cache_dir": str(folder / "prepared"), "vocab_size": 600},
            "hparams_set": "transformer_bulletin",
            # What transformers has a form for: see docs/hub.md.
            "hparams": {"positions": "sinusoidal", "encoder_layers": 1, "decoder_layers": 1},
            "batch": {"tokens": 512, "shapes": 4},
            "optim": {"lr": 5e-3, "warmup": 40},
            "train_steps": 150,
            "decode": {"beam": 1, "dev_sentences": 20},
            "output_dir": str(folder / "run"),
        }
    )
    train(config)
    saved = bundle.read(folder / "run")
    published = to_transformers(saved, folder / "published")
    print(sorted(path.name for path in published.iterdir()))

    handles.push(published, str(folder / "www" / "en-de"))  # files and a manifest with their digests
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "www")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handle = f"http://127.0.0.1:{server.server_address[1]}/en-de"
    translator = seqlib.load(handle)  # downloaded, checked, cached
    handles.verify(handle)
    server.shutdown()
    server.server_close()
    sentences = ["The bread costs twelve euros.", "These books cost fifteen euros."]
    ours = [found.text for found in seqlib.load(folder / "run").translate(sentences, beam=1)]
    theirs = [found.text for found in translator.translate(sentences, beam=1)]
    assert theirs == ours, theirs
    if importlib.util.find_spec("transformers"):
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # pyright: ignore[reportMissingImports]

        model, tokenizer = (kind.from_pretrained(published) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
        found = model.generate(**tokenizer(sentences, return_tensors="pt", padding=True), num_beams=1)
        assert tokenizer.batch_decode(found, skip_special_tokens=True) == ours


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
