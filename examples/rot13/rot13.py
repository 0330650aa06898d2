"""A problem and a model of one's own in one file: words → ROT13, by one look at the source for every letter."""

import codecs
import random

import msgspec

from seqlib.nn import Embedding, EncoderDecoder, Linear, MultiHeadAttention, SinusoidalPositions
from seqlib.problems.translation import Translation


class Rot13(Translation):
    name, source_language, target_language, tokenizer, vocab_size = "rot13", "en", "rot13", "characters", 300

    def splits(self):
        return ("train", "dev", "test")

    def samples(self, split):
        draw = random.Random(split)
        for _ in range(3000 if split == "train" else 100):
            word = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9)))
            yield word, codecs.encode(word, "rot13")


class Config(msgspec.Struct, frozen=True):
    width: int = 64
    max_length: int = 32


class Lookup(EncoderDecoder):
    def __init__(self, config: Config, spec):
        self.config, width = config, config.width
        self.letters, self.places = Embedding(spec.source_vocab, width), SinusoidalPositions(32, width)
        self.look, self.answer = MultiHeadAttention(width, heads=4), Linear(width, spec.target_vocab)

    def encode(self, src, src_lengths):
        return self.places(self.letters(src))

    def decode(self, memory, src_lengths, tgt_in):
        return self.answer(self.look(self.places(self.letters(tgt_in)), memory, src_lengths))
