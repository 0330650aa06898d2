"""The tiles that products by oneDNN are cut into, by sizes alone. M rows, K inner size, N columns."""

WIDTH = 64
"""Columns of a panel of a packed matrix."""
_LEAST, _MOST = 1 << 24, 1 << 28
"""Multiply-adds of a tile: between 35 and 550 µs in bfloat16, where a call costs 5."""
_TILES = 4
_DEEP, _PART = 4096, 512
"""From this inner size on a product is made of parts, each added to those before: oneDNN goes through all of b for
every few rows."""


def bounds(m: int, k: int, n: int) -> tuple[list[int], list[int], list[int]]:
    """Where tiles begin and end in rows and in columns, and parts in the inner size; by sizes alone."""
    rows, columns = m, n
    deep = k >= _DEEP and m * n * _PART >= _LEAST
    depth = _PART if deep else k
    while (size := rows * columns * depth) >= 2 * _LEAST and (
        size > _MOST or -(-m // rows) * -(-n // columns) < _TILES
    ):
        if rows >= columns or (deep and rows >= 128):
            rows = -(-rows // 32) * 16
        else:
            columns = -(-columns // 32) * 16
    return _even(m, rows), _even(n, columns), [*range(0, k, depth), k]


_FEW = 16
"""Fewer rows take as long by a packed matrix, which is read as a whole."""


def packed_bounds(m: int, k: int, n: int) -> tuple[list[int], list[int], list[int]]:
    """As `bounds`; columns, in whole panels, are cut where there are few rows."""
    rows, columns = m, n
    while (size := max(rows, _FEW) * columns * k) >= 2 * _LEAST and (
        -(-m // rows) * -(-n // columns) < _TILES or (size > _MOST and rows >= 128)
    ):
        if rows < 128 and columns > WIDTH:
            columns = -(-columns // (2 * WIDTH)) * WIDTH
        elif rows > 16:
            rows = -(-rows // 32) * 16
        else:
            break
    return _even(m, rows), _even(n, columns, WIDTH), [0, k]


def _even(total: int, size: int, step: int = 16) -> list[int]:
    """Bounds of about equal parts of about `size`, at multiples of `step`."""
    count = -(-total // size)
    return sorted({*(total * i // count // step * step for i in range(count)), total})
