"""Print the lines of code of each package against the budgets: small by budget, not by accident.

Counted as `cloc` counts: no blank lines, comments or docstrings. Kernels (`*_numpy.py`, `*_cpu.py`, `*_cuda.py`,
`.cu`, `.cuh`) are counted apart, for both budgets: every device has its own.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "seqlib"
CORE_BUDGET = 6_000
PACKAGE_BUDGET = 25_000
PACKAGE_LIMIT = 26_600  # stops growth while the package is over its budget; lower it with what goes, then remove it


_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def _lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sum(bool(line.strip()) and not line.strip().startswith("//") for line in text.splitlines())
    strings = {
        node.value.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    counted: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _LAYOUT and not (token.type == tokenize.STRING and token.start[0] in strings):
            counted.update(range(token.start[0], token.end[0] + 1))
    return len(counted)


def main() -> int:
    """Count, print, and return 1 when a budget is exceeded."""
    code: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    for path in sorted(ROOT.rglob("*")):
        if path.suffix not in (".py", ".cu", ".cuh"):
            continue
        parts = path.relative_to(ROOT).parts
        package = parts[0] if len(parts) > 1 else "(root)"
        is_kernel = path.suffix != ".py" or path.stem.endswith(("_numpy", "_cpu", "_cuda"))
        (kernels if is_kernel else code)[package] += _lines(path)
    for package in sorted(code):
        extra = f"  and {kernels[package]:,} of kernels" if kernels[package] else ""
        budget = f" of {CORE_BUDGET:,}" if package == "core" else ""
        print(f"lines  {package:<10} {code[package]:>6,}{budget}{extra}")
    total = code.total()
    print(f"lines  {'seqlib':<10} {total:>6,} of {PACKAGE_BUDGET:,}  and {kernels.total():,} of kernels")
    if total > PACKAGE_BUDGET:
        print(f"warning: {total - PACKAGE_BUDGET:,} lines over the package's budget")
    over = code["core"] > CORE_BUDGET or total > PACKAGE_LIMIT
    if over:
        print("error: a line budget is exceeded", file=sys.stderr)
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
