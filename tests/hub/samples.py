"""Small files of weights in every format, written by the formats' own libraries or, for Marian, by hand."""

import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

FILES = Path(__file__).parent / "files"
YML = b"type: transformer\ndim-emb: 8\ndim-vocabs:\n  - 6\n  - 6\n\0"


def arrays(seed=0):
    draw = np.random.default_rng(seed)
    return {
        "embed.weight": draw.standard_normal((6, 8)).astype(np.float32),
        "layer.bias": draw.standard_normal(3).astype(np.float16),
        "steps": np.array(7, np.int64),
        "none": np.zeros((0, 4), np.float32),
    }


def safetensors_file(path, seed=0):
    bf16 = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    save_file(arrays(seed) | {"low": bf16}, path, {"format": "pt"})
    return path


def npz_file(path, compressed=False, **more):
    (np.savez_compressed if compressed else np.savez)(path, **arrays(), config=np.array("{}"), **more)
    return path


def quantised(matrix):
    """Marian's 8-bit form of a matrix: its columns one after the other, then the scale."""
    scale = np.float32(127 / np.abs(matrix).max())
    whole = np.round(matrix * scale).astype(np.int8)
    return whole, scale


def marian_arrays():
    draw = np.random.default_rng(1)
    return {
        "Wemb": draw.standard_normal((6, 8)).astype(np.float32),
        "encoder_l1_self_Wq": draw.standard_normal((8, 4)).astype(np.float32),
        "encoder_l1_self_bq": draw.standard_normal((1, 4)).astype(np.float32),
    }


def marian_file(path, yml=YML):
    parts = []
    for name, array in marian_arrays().items():
        if name.endswith("bq"):
            parts.append((name, 0x404, array.shape, array.tobytes()))
            continue
        whole, scale = quantised(array)
        data = (whole if name == "Wemb" else whole.T).tobytes() + scale.tobytes()
        parts.append((name, 0x4101, array.shape, data + bytes(-len(data) % 256)))
    parts.append(("special:model.yml", 0x101, (len(yml),), yml))
    out = struct.pack("<2Q", 1, len(parts))
    out += b"".join(struct.pack("<4Q", len(n) + 1, kind, len(shape), len(data)) for n, kind, shape, data in parts)
    out += b"".join(n.encode() + b"\0" for n, *_ in parts)
    out += b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in parts)
    pad = -(len(out) + 8) % 256
    path.write_bytes(out + struct.pack("<Q", pad) + bytes(pad) + b"".join(data for *_, data in parts))
    return path


def gguf_file(path):
    """Tensors of several quantisations; gives the path and what should be read."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "▁a", "b"])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.0, -2.5])
    draw = np.random.default_rng(2)
    expected = {"plain.weight": draw.standard_normal((4, 3)).astype(np.float32)}
    writer.add_tensor("plain.weight", expected["plain.weight"])
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.BF16):
        matrix = draw.standard_normal((5, 64)).astype(np.float32)
        raw = gguf.quants.quantize(matrix, kind)
        writer.add_tensor(f"{kind.name}.weight", raw, raw_dtype=kind)
        expected[f"{kind.name}.weight"] = gguf.quants.dequantize(raw, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, expected


def pickled(path, payload):
    """A zip archive as PyTorch's, with `payload` as its pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    return path
