"""Loads the checkpoint of load_checkpoint.py with safetensors and PyTorch; prints seconds, bytes, sum as JSON."""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file


def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


folder = Path(sys.argv[1])
torch.set_num_threads(1)
weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
before, began = peak(), time.perf_counter()
model = torch.nn.Module()
for file in dict.fromkeys(weight_map.values()):
    shard = load_file(folder / file)
    with torch.device("meta"):
        for name, tensor in shard.items():
            parameter = torch.nn.Parameter(torch.empty_like(tensor, device="meta"))
            model.register_parameter(name.replace(".", "_"), parameter)
    model.load_state_dict({name.replace(".", "_"): tensor for name, tensor in shard.items()}, strict=False, assign=True)
total = sum(float(parameter.detach().flatten()[::512].sum()) for parameter in model.parameters())
print(json.dumps({"seconds": time.perf_counter() - began, "bytes": peak() - before, "sum": total}))
