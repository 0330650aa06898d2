"""Fine-tunes a classifier with transformers and PyTorch on the batches that finetune.py wrote; prints figures as JSON.

python hf_finetune.py WEIGHTS BATCHES.npz SEED DEVICE eager|compiled THREADS BEGAN
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

MODULES = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "attention.output.dense"}
MODULES |= {"up_proj": "intermediate.dense", "down_proj": "[0-9].output.dense"}


def adapted(model, told):
    """The model with peft's adapters where ours has its own, and the same head trainable."""
    from peft import LoraConfig, get_peft_model

    names = [MODULES[target.removeprefix("*.")] for target in told["lora_targets"]]
    rank = told["lora_rank"]
    config = LoraConfig(
        r=rank, lora_alpha=told["lora_alpha"] or 2 * rank, modules_to_save=["pooler", "classifier"],
        target_modules=f".*encoder.*({'|'.join(names)})",
    )  # fmt: skip
    return get_peft_model(model, config)


def main():
    weights, batches, seed, device, mode, threads, began = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(int(seed))
    data = np.load(batches)
    told, rates = json.loads(str(data["settings"])), data["rates"]
    model = AutoModelForSequenceClassification.from_pretrained(weights, num_labels=told["labels"])
    if told["lora_rank"]:
        model = adapted(model, told)
    model = model.to(device).train()
    cuda = device == "cuda"
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": told["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=torch.tensor(0.0) if mode == "compiled" and not cuda else 0.0, betas=tuple(told["betas"]), eps=told["eps"],
        fused=True,
    )  # fmt: skip
    steps = []
    for step in range(len(rates)):
        ids = torch.from_numpy(data[f"ids{step}"]).long()
        mask = (torch.arange(ids.shape[1]) < torch.from_numpy(data[f"lengths{step}"])[:, None]).long()
        targets, rows = torch.from_numpy(data[f"targets{step}"]).long(), torch.from_numpy(data[f"weights{step}"])
        parts = ids, mask, targets, rows
        steps.append(tuple(part.pin_memory() for part in parts) if cuda else parts)

    def loss_of(ids, mask, targets, rows):
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            logits = model(input_ids=ids, attention_mask=mask).logits
        each = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        return (each * rows).sum() / rows.sum()

    forward = loss_of
    if mode == "compiled":
        torch._dynamo.config.recompile_limit = 64
        # On a CPU one program for all shapes: to compile each takes longer than the run.
        forward = torch.compile(loss_of, mode="reduce-overhead" if cuda else None, dynamic=not cuda)

    def wait():
        if cuda:
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    moments = []
    wait()
    for step, batch in enumerate(steps, start=1):
        for group in optimizer.param_groups:
            group["lr"] = float(rates[step - 1])
        loss = forward(*(part.to(device, non_blocking=True) for part in batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, told["clip_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step in (len(steps) // 2, len(steps)):
            wait()
    accuracy = score(model.eval(), data, device, told["pad"])
    begin, half, end = moments
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    found = {
        "accuracy": accuracy, "train": end - begin, "step": 1e3 * (end - half) / (len(steps) - len(steps) // 2),
        "whole": time.time() - float(began), "peak": int(peak.split()[1]) / 1e3,
        "trainable": sum(p.numel() for p in trained), "parameters": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip
    print("RESULT " + json.dumps(found))


def score(model, data, device, pad):
    lengths = torch.from_numpy(data["test_lengths"])
    texts = torch.from_numpy(data["test_ids"]).long().split(lengths.tolist())
    order, right = lengths.argsort(), 0
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        for chosen in order.split(128):
            ids = torch.nn.utils.rnn.pad_sequence([texts[n] for n in chosen], batch_first=True, padding_value=pad)
            mask = (torch.arange(ids.shape[1]) < lengths[chosen][:, None]).long()
            found = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.argmax(-1).cpu()
            right += int((found == torch.from_numpy(data["test_targets"])[chosen]).sum())
    return right / len(lengths)


if __name__ == "__main__":
    main()
