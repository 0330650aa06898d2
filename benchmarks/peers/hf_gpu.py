"""Hugging Face's Marian on a GPU, the peer of gpu_decode.py: random weights, greedy and with a beam of 4."""

from __future__ import annotations

import argparse
import os

import serve

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers


def case(options: argparse.Namespace, beams: int) -> serve.Run:
    """Build the model, translate once; returns a run over one batch, whose value is the number of tokens made."""
    o = options
    config = transformers.MarianConfig(
        vocab_size=o.vocab, decoder_vocab_size=o.vocab, d_model=o.width, max_position_embeddings=512,
        encoder_layers=o.layers, decoder_layers=o.layers, encoder_ffn_dim=o.hidden, decoder_ffn_dim=o.hidden,
        encoder_attention_heads=o.heads, decoder_attention_heads=o.heads, pad_token_id=o.vocab - 1, eos_token_id=0,
        decoder_start_token_id=o.vocab - 1, forced_eos_token_id=None, activation_function="relu", scale_embedding=True,
    )  # fmt: skip
    model = transformers.MarianMTModel(config).to("cuda").bfloat16().eval()
    source = torch.randint(1, o.vocab - 1, (o.rows, o.source), device="cuda")

    def run() -> float:
        found = model.generate(
            input_ids=source, num_beams=beams, min_new_tokens=o.target, max_new_tokens=o.target, do_sample=False
        )
        return float(found.cpu().numel() - len(found))

    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("vocab", "width", "heads", "hidden", "layers", "rows", "source", "target"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    cases = {f"beam {beams} bf16": (lambda beams=beams: case(options, beams)) for beams in (1, 4)}
    serve.serve(f"transformers {transformers.__version__}, PyTorch {torch.__version__}", cases)


if __name__ == "__main__":
    main()
