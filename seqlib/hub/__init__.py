"""Pretrained weights: handles, downloads and their cache, formats of other tools, fine-tuning, publishing."""
