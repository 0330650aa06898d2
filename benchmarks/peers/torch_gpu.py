"""Workload W1's peer in PyTorch: the train step on a GPU, bf16 by autocast, eager and compiled. Run by gpu_train.py."""

from __future__ import annotations

import argparse

import serve
import torch
from torch_translation import Translation


def case(options: argparse.Namespace, compiled: bool) -> serve.Run:
    """Build model and optimizer, run three steps so that later ones are warm; returns a run of `steps` steps."""
    torch.manual_seed(0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    shape = (options.rows, options.length)
    src, tgt_in, tgt_out = (torch.randint(3, options.vocab, shape, device="cuda") for _ in range(3))
    model = Translation(
        options.vocab, options.width, options.heads, options.hidden, options.layers, 0.1, smoothing=0.1
    ).to("cuda").train()  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    forward = torch.compile(model) if compiled else model

    def step() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss = forward(src, tgt_in, tgt_out)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    for _ in range(3):
        step()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30
    print(f"torch {'compiled' if compiled else 'eager'}: peak memory {peak:.2f} GiB", flush=True)

    def run() -> float:
        for _ in range(options.steps - 1):
            step()
        return float(step())

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("vocab", "width", "heads", "hidden", "layers", "rows", "length", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    cases = {
        f"{'compiled' if compiled else 'eager'} bf16": lambda compiled=compiled: case(options, compiled)
        for compiled in (False, True)
    }
    serve.serve(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}", cases)


if __name__ == "__main__":
    main()
