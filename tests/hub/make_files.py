"""Writes `files/`, what PyTorch itself saves, for the readers' tests; to be run where torch is (it was 2.13)."""

import argparse
from collections import OrderedDict
from pathlib import Path

import torch

FILES = Path(__file__).parent / "files"


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.register_buffer("steps", torch.tensor(7))


def weights():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
    return OrderedDict(
        [
            ("base", base),
            ("transposed", base.t()),  # three views of one storage
            ("part", base[1:3, ::2]),
            ("half", torch.tensor([1.5, -2.0], dtype=torch.float16)),
            ("bf16", torch.tensor([[1.5, -3.0]], dtype=torch.bfloat16)),
            ("long", torch.tensor([1, -(2**40)])),
            ("flags", torch.tensor([True, False])),
            ("scalar", torch.tensor(2.5)),
            ("empty", torch.zeros(0, 5)),
            ("parameter", torch.nn.Parameter(torch.tensor([4.0]))),
        ]
    )


def main():
    torch.manual_seed(0)
    FILES.mkdir(exist_ok=True)
    for name, new in (("zip", True), ("legacy", False)):
        torch.save(weights(), FILES / f"weights_{name}.pt", _use_new_zipfile_serialization=new)
    model = Inner()
    optimizer = torch.optim.Adam(model.parameters())
    training = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(rate=0.1, layers=[1, 2]),
        "epoch": 3,
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "path": Path("runs"),
    }
    torch.save(training, FILES / "training.pt")


if __name__ == "__main__":
    main()
