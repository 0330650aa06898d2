"""Add up the installed size of a default install: seqlib and everything its base dependencies bring, no extras.

The sizes are those of the files that the installed distributions list (compiled bytecode included) in the environment
this runs in, 1 MB = 10^6 bytes. Python itself and pip are not counted.
"""

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LIMIT_MB = 150.0
NAME = "seqlib-nlp"
SHOWN = 8


def closure(name: str) -> dict[str, Distribution]:
    """The distributions that an install of `name` without extras brings, by canonical name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(name)]
    while queue:
        wanted = queue.pop()
        key = canonicalize_name(wanted.name)
        if (key, frozenset(wanted.extras)) in seen:
            continue
        seen.add((key, frozenset(wanted.extras)))
        found[key] = distribution(key)
        for line in found[key].requires or ():
            requirement = Requirement(line)
            extras = {"", *wanted.extras}
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in extras):
                queue.append(requirement)
    return found


def size(installed: Distribution) -> int:
    """Bytes of a distribution's files."""
    paths = (Path(str(file.locate())) for file in installed.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _own_size() -> int:
    """Bytes of this package's files in the checkout: an editable install lists only a pointer to them."""
    root = Path(__file__).resolve().parent.parent / "seqlib"
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def main() -> int:
    """Add up, print the largest, and return 1 when the limit is exceeded."""
    try:
        sizes = {name: size(found) for name, found in closure(NAME).items()}
    except PackageNotFoundError as error:
        print(f"error: {error.name} is not installed here; run this with .venv/bin/python", file=sys.stderr)
        return 1
    sizes[NAME] = _own_size()
    total = sum(sizes.values()) / 1e6
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]
    print(f"size   base install {total:5.1f} MB of {LIMIT_MB:.0f} ({len(sizes)} distributions)")
    print("size   " + ", ".join(f"{name} {count / 1e6:.1f}" for name, count in largest))
    if total > LIMIT_MB:
        print(f"error: the base install is larger than {LIMIT_MB:.0f} MB", file=sys.stderr)
    return int(total > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
