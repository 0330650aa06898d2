"""Weights of another format as safetensors, with the files beside them."""

import shutil
from pathlib import Path

import ml_dtypes
import numpy as np

from seqlib import bundle
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.load import load, read_config
from seqlib.hub.save import save_pretrained
from seqlib.nn.lora import load_adapter, merge_lora
from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_folder, write_json

_BESIDE = (".json", ".txt", ".model", ".spm", ".jinja", ".yml", ".md")


def to_safetensors(source: Path, folder: Path, dtype: str | None = None) -> Path:
    """Write ``model.safetensors`` with the arrays of a file or folder, under their names, and copy the configuration
    and tokenizer that lie beside them; what a Marian model says of itself becomes a config.json. `dtype` (float32,
    float16, bfloat16) is what floats become. Gives `folder`.

    Raises DataError for a damaged source, errors of `atomic_folder`.
    """
    checkpoint = open_checkpoint(source)
    wanted = None if dtype is None else np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    def converted(array: np.ndarray) -> np.ndarray:
        is_float = array.dtype.kind in "fV"  # the kind of ml_dtypes' floats is V
        return array.astype(wanted) if wanted is not None and is_float else array

    beside = source if source.is_dir() else source.parent
    with atomic_folder(folder) as aside:
        write_arrays(aside / "model.safetensors", {name: converted(array) for name, array in checkpoint.items()})
        for path in beside.iterdir():
            if path.suffix in _BESIDE and not path.name.endswith(".index.json"):
                shutil.copyfile(path, aside / path.name)
        if checkpoint.format == "marian":
            write_json(aside / "config.json", read_config(source))
    return folder


def merged(source: Path, adapter: Path, folder: Path) -> Path:
    """Write the model of a folder, a bundle or a pretrained one, with the adapters of a file (`nn.lora.save_adapter`)
    in its weights; as what it was, without scores and confidence, which were those of other weights. Gives `folder`.

    Raises DataError for adapters of another model, and the errors of `seqlib.load`.
    """
    ready = load(source, device="cpu")
    load_adapter(ready.model, adapter)
    merge_lora(ready.model)
    if bundle.locate(source) is None:
        return save_pretrained(ready, folder)
    saved = bundle.read(source)
    return bundle.write(
        folder,
        architecture=saved.architecture,
        model_config=saved.model_config,
        weights=ready.model.state_dict(),
        tokenizer=saved.tokenizer,
        spec=saved.spec,
        problem=saved.problem,
        generation=saved.generation,
        training=saved.record["training"],
        metrics={},
    )
