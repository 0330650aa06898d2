"""Check what `import seqlib` and `seqlib --help` cost: seconds, and libraries that they must not import.

The aims are 0.3 s and 0.5 s. Times are printed; because other programs may use the machine, the check fails only at
three times the aim. A library that is imported too early fails it always.
"""

import statistics
import subprocess
import sys

RUNS = 5
SLACK = 3.0
HEAVY = (
    "cupy numba nvmath datasets sklearn scipy sentencepiece tokenizers sacrebleu huggingface_hub rich requests "
    "safetensors pandas torch jax tensorflow transformers onnx tensorboardX starlette"
).split()

IMPORT = "import seqlib"
HELP = """
import contextlib, io
from seqlib.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main(["--help"])
assert code == 0, code
"""
CASES = (("import seqlib", IMPORT, 0.3), ("seqlib --help", HELP, 0.5))


def _measure(program: str) -> tuple[float, list[str]]:
    """Seconds that `program` takes in a fresh process (its start excluded), and the heavy modules it imported."""
    script = (
        "import sys, time; start = time.perf_counter()\n"
        f"{program}\n"
        "print(time.perf_counter() - start)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    seconds, modules = done.stdout.splitlines()[-2:]
    return float(seconds), modules.split()


def main() -> int:
    """Measure, print, and return 1 when something is wrong."""
    wrong: list[str] = []
    for name, program, aim in CASES:
        results = [_measure(program) for _ in range(RUNS)]
        seconds = statistics.median(seconds for seconds, _ in results)
        print(f"time   {name:<14} {seconds * 1000:5.0f} ms of {aim * 1000:.0f} (median of {RUNS} fresh processes)")
        if seconds > SLACK * aim:
            wrong.append(f"{name} takes {seconds:.2f} s, more than {SLACK:g} times its aim of {aim} s")
        if results[0][1]:
            wrong.append(f"{name} imports {', '.join(results[0][1])}")
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
