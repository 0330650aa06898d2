"""Changes of what compiled functions are keyed by beside their arguments: modes of modules, places of storage; and the
precision of products on the CPU."""

_mode_changes = 0


def note_mode_change() -> None:
    """To be called when `training`, a parameter's `frozen` or the device of storage changes: keys are read again."""
    global _mode_changes
    _mode_changes += 1


def mode_changes() -> int:
    """How often `note_mode_change` was called in this process."""
    return _mode_changes


_half_products = False


def set_half_products(half: bool) -> None:
    """Let large products of float32 matrices on the CPU round their operands to bfloat16, in the whole process."""
    global _half_products
    _half_products = half


def half_products() -> bool:
    """What `set_half_products` said last."""
    return _half_products
