"""Layers: plain classes whose parameters are found by walking their attributes."""

from seqlib.nn import init
from seqlib.nn.attention import MultiHeadAttention
from seqlib.nn.cache import DecodeCache
from seqlib.nn.dropout import Dropout
from seqlib.nn.embedding import Embedding
from seqlib.nn.encoder_decoder import EncoderDecoder, PrefixCache
from seqlib.nn.feed_forward import FeedForward
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.nn.norm import LayerNorm, RMSNorm
from seqlib.nn.positions import LearnedPositions, SinusoidalPositions, sinusoid_table
from seqlib.nn.recurrent import GRU, LSTM, SSRU, BahdanauAttention, GRUCell, LSTMCell, LuongAttention, RecurrentCache
from seqlib.nn.relative import RelativeBias, relative_buckets
from seqlib.nn.transformer_layers import DecoderLayer, EncoderLayer
