"""Does transformers, does CTranslate2 translate as we do? For a saved translator and lines of text, where both are
installed in a Python of their own:

    python tests/parity/check_published.py RUN LINES.txt --peer-python PEER [--beam 1]

The model is written for both, each translates all lines, and equal texts are counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LONGEST = 80  # tokens of an output


def ours(options):
    import seqlib
    from seqlib import bundle
    from seqlib.hub.ctranslate2 import to_ctranslate2
    from seqlib.hub.publish import to_transformers

    lines = Path(options.lines).read_text(encoding="utf-8").splitlines()
    translator = seqlib.load(options.run, device="cpu")
    # theirs by default: the mean log-probability
    search = {"beam": options.beam, "max_length": LONGEST, "alpha": 1.0, "penalty": "power"}
    texts = [found.text for found in translator.translate(lines, **search)]
    with tempfile.TemporaryDirectory() as folder:
        saved = bundle.read(options.run)
        to_transformers(saved, Path(folder, "transformers"))
        to_ctranslate2(saved, Path(folder, "ctranslate2"))
        Path(folder, "lines.json").write_text(json.dumps({"lines": lines, "beam": options.beam}))
        subprocess.run([options.peer_python, __file__, "--peer", folder], check=True)
        for name in ("transformers", "ctranslate2"):
            theirs = json.loads(Path(folder, f"{name}.json").read_text())
            print(f"{name}: {sum(a == b for a, b in zip(texts, theirs))} of {len(texts)} equal")


def peer(folder):
    import ctranslate2
    import sentencepiece
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    given = json.loads((folder / "lines.json").read_text())
    lines, beam = given["lines"], given["beam"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "transformers")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "transformers").eval()
    texts = []
    for at in range(0, len(lines), 25):
        batch = tokenizer(lines[at : at + 25], return_tensors="pt", padding=True)
        with torch.no_grad():
            found = model.generate(**batch, num_beams=beam, do_sample=False, max_new_tokens=LONGEST)
        texts += tokenizer.batch_decode(found, skip_special_tokens=True)
    (folder / "transformers.json").write_text(json.dumps(texts))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "ctranslate2" / "tokenizer.model"))
    translator = ctranslate2.Translator(str(folder / "ctranslate2"), compute_type="float32")
    sources = [pieces.encode(line, out_type=str) for line in lines]
    # With a patience of 1 it ends at the first `beam` hypotheses that end, though better ones may come.
    patience = 2 if beam > 1 else 1
    found = translator.translate_batch(sources, beam_size=beam, patience=patience, max_decoding_length=LONGEST)
    (folder / "ctranslate2.json").write_text(json.dumps([pieces.decode_pieces(x.hypotheses[0]) for x in found]))


if __name__ == "__main__":
    if sys.argv[1] == "--peer":
        peer(Path(sys.argv[2]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("run")
        parser.add_argument("lines")
        parser.add_argument("--peer-python", required=True)
        parser.add_argument("--beam", type=int, default=1)
        ours(parser.parse_args())
