"""Named arrays as a safetensors file."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seqlib.util.atomic import umask

if TYPE_CHECKING:
    import numpy as np


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]", metadata: dict[str, str] | None = None) -> None:
    """Write named arrays as safetensors; a full disk is an `OSError` with ENOSPC, as for any other file."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path, metadata)
        path.chmod(0o666 & ~umask())  # the library's own is for the owner alone
    except SafetensorError as error:
        # The library reports a failed write in words only; the number in them is the system's.
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from error
