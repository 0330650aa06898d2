"""Memory of this process, and how much more it may have; sizes as people write them."""

import os
import platform
import re
from pathlib import Path

from seqlib.util.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def resident_bytes() -> int:
    """Resident memory of this process in bytes; its peak where the current value cannot be had."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """The most resident memory that this process has had, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def available_bytes() -> int | None:
    """Bytes that this process may still take: the least of what the machine, its control groups and its address-space
    limit leave. None where none of them can be read.
    """
    found = [_machine(), _address_space(), *_control_groups()]
    known = [value for value in found if value is not None]
    return max(0, min(known)) if known else None


def _machine() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return None


def _address_space() -> int | None:
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        with open("/proc/self/statm", encoding="ascii") as file:
            return limit - int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        return None


def _control_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What every control group around this process leaves of its limit (version 2, and the memory controller of 1)."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "memory" not in names:
            continue
        base = root / "memory" if controllers else root
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if (value := _number(group / limit)) is not None and value < 1 << 60:
                cache = _field(group / "memory.stat", "inactive_file")  # given back when it is wanted
                found.append(value - (_number(group / used) or 0) + cache)
            if group == base:
                break
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # no such limit ("max")


def _field(path: Path, name: str) -> int:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def parse_size(text: str) -> int:
    """Bytes in `8GB`, `512 MB`, `2GiB` or a bare number; `UsageError` otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", text.strip().lower())
    if not found or not float(found[1]):
        raise UsageError(f"{text!r} is not a size; expected 8GB, 512MB or 2GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def size_text(nbytes: float) -> str:
    """`512 MB`, `2.1 GB`, `0.6 kB`."""
    if nbytes < 1e5:
        return f"{nbytes / 1e3:.1f} kB"
    return f"{nbytes / 1e9:,.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:,.{0 if nbytes >= 1e7 else 1}f} MB"
