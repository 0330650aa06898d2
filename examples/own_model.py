"""A problem and a model of one's own, both in examples/rot13/rot13.py (40 lines), trained and used by the
commands. Ten seconds on a CPU.

From a checkout:

    seqlib train --problem examples/rot13/rot13.py:Rot13 --model examples/rot13/rot13.py:Lookup --output_dir runs/rot13
    seqlib translate runs/rot13 --model examples/rot13/rot13.py:Lookup
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import seqlib

FILE = Path(__file__).resolve().parent / "rot13" / "rot13.py"


def run(folder: Path, *words: str, text: str = "") -> str:
    """A `seqlib` command in `folder`; what it prints on standard output."""
    command = [sys.executable, "-m", "seqlib", *words]
    done = subprocess.run(
        command, cwd=folder, env=os.environ, input=text, text=True, stdout=subprocess.PIPE, check=True
    )
    return done.stdout


def main(folder: Path) -> None:
    settings = "--train_steps 300 --optim.lr 0.01 --batch.tokens 1024 --batch.shapes 4 --decode.beam 2".split()
    own = ["--problem", f"{FILE}:Rot13", "--model", f"{FILE}:Lookup", "--cache_dir", "prepared"]
    run(folder, "train", *own, *settings, "--output_dir", "run")
    print(run(folder, "evaluate", "run", *own[:4]))
    print(run(folder, "translate", "run", "--model", f"{FILE}:Lookup", text="hello\nworld\n"))

    translator = seqlib.load(folder / "run", model=f"{FILE}:Lookup")
    assert translator.translate(["seqlib"])[0].text == "frdyvo"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
