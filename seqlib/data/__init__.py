"""Data: sources, cleaning, splits, tokenizers, the token store, batch plans and batches."""
