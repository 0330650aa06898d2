"""Tokenizers that come with pretrained models: `tokenizer.json`, WordPiece and byte-level BPE vocabularies,
SentencePiece models."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from seqlib.data.vocabulary import META_FILE, read_meta, write_meta
from seqlib.util.atomic import write_bytes
from seqlib.util.errors import DataError, UsageError

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")
_PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_SIDES = ("vocab.*.spm", "[st]*vocab.*.spm")  # Marian's: one for both languages, or srcvocab and trgvocab
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "bos": ("[CLS]", "<s>"),
    "eos": ("[SEP]", "</s>", "<|endoftext|>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What special tokens are called where no file says it."""
_TOLD = "told"  # of the metadata: what the model said
_NONE = -1  # the id of a special token that a tokenizer does not have


class Encoded(NamedTuple):
    """A text, or a pair of them, as a model reads it: token `ids` with the special ones, and the `types` of
    segments."""

    ids: list[int]
    types: list[int]


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model that writes text says of its tokenizer: the size of its vocabulary, special ids, what its sources
    and outputs begin with, and what no output has in it."""

    vocab_size: int = 0
    pad_id: int | None = None
    bos_id: int | None = None
    """What outputs are started with: the first one the model reads."""
    eos_id: int | None = None
    source_begin: tuple[int, ...] = ()
    target_begin: tuple[int, ...] = ()
    never: tuple[tuple[int, ...], ...] = ()


class _Files:
    """What both kinds have: the `files` that they were read from, and what a model has `told`."""

    files: dict[str, bytes]
    told = Told()
    _own_size: int

    @property
    def vocab_size(self) -> int:
        """Tokens, special and added ones included; as many as the model has."""
        return self.told.vocab_size or self._own_size

    @property
    def digest(self) -> str:
        """sha256 (hex) of the files, and of what the model said."""
        total = hashlib.sha256(msgspec.json.encode(self.told) if self.told != Told() else b"")
        for name in sorted(self.files):
            total.update(f"{name} {len(self.files[name])}\n".encode() + self.files[name])
        return total.hexdigest()

    def tell(self, told: Told) -> Self:
        """The tokenizer of a model that says this."""
        self.told = told
        for name in ("pad_id", "bos_id", "eos_id"):
            if (token := getattr(told, name)) is not None:
                setattr(self, name, token)
        return self

    def save(self, folder: str | Path) -> None:
        """Writes the files that it was read from, and the metadata of all tokenizers, into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            write_bytes(Path(folder) / name, content)
        write_meta(folder, self, {_TOLD: msgspec.to_builtins(self.told)})  # pyright: ignore[reportArgumentType]


class PretrainedTokenizer(_Files):
    """A tokenizer of Hugging Face's `tokenizers`, read from the `files` of its folder by name (`read_tokenizer`).

    `encode` and `decode` know no special ids, `template` puts them around a text as the model was trained. `pad_id`,
    `bos_id`, `eos_id`, `unk_id` and `mask_id` are -1 for a token that it does not have. A special token that is written
    in a text (``[SEP]``) is read as that token.
    """

    kind = "pretrained"

    def __init__(self, files: Mapping[str, bytes], where: str = "tokenizer"):
        self.files, self.settings = dict(files), _settings(files, where)
        self._tokenizer: Any = _tokenizer(files, self.settings, where)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ids = {name: self._special(name) for name in ("pad", "bos", "eos", "unk", "mask", "cls", "sep")}
        self.pad_id, self.unk_id, self.mask_id = ids["pad"], ids["unk"], ids["mask"]
        self.bos_id = ids["bos"] if ids["bos"] >= 0 else ids["cls"]
        self.eos_id = ids["eos"] if ids["eos"] >= 0 else ids["sep"]
        self._own_size = self._tokenizer.get_vocab_size()
        self.byte_level = self._tokenizer.token_to_id("Ġ") is not None

    def _special(self, name: str) -> int:
        named = self.settings.get(f"{name}_token")
        for token in (named,) if named else _USUAL.get(name, ()):
            if (found := self._tokenizer.token_to_id(token)) is not None:
                return found
        return _NONE

    @property
    def pair_ends(self) -> int:
        """Ids of the end between the texts of a pair: RoBERTa's two, else one."""
        return max(1, self.template(["a"], ["a"])[0].ids.count(self.eos_id) - 1)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special ones before and behind it."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def template(self, texts: Sequence[str], others: Sequence[str] | None = None, limit: int = 0) -> list[Encoded]:
        """Each text, or each pair of one of `texts` and one of `others`, with the special tokens around it, cut such
        that it has at most `limit` tokens (0: as many as it has): of a pair, the longer one is cut."""
        first = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        second = self._tokenizer.encode_batch(list(others), add_special_tokens=False) if others is not None else None
        room = limit - self._tokenizer.num_special_tokens_to_add(second is not None)
        if limit and room < 1:
            raise UsageError(f"a limit of {limit} tokens leaves no room beside the special ones")
        out: list[Encoded] = []
        for row, one in enumerate(first):
            two = None if second is None else second[row]
            if limit:
                other = 0 if two is None else len(two.ids)
                keep = max(room - other, min(room - room // 2, len(one.ids)) if other else room)
                one.truncate(min(len(one.ids), keep))
                if two is not None:
                    two.truncate(min(other, room - len(one.ids)))
            whole = self._tokenizer.post_process(one, two, True)
            out.append(Encoded(whole.ids, whole.type_ids))
        return out

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special tokens are left out."""
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)

    def piece(self, token: int) -> str:
        """What one id stands for. Raises UsageError for an id outside the vocabulary."""
        found = self._tokenizer.id_to_token(int(token))
        if found is None:
            raise UsageError(f"token id {token} leaves the vocabulary of {self.vocab_size}")
        return found


class SentencePieceFile(_Files):
    """A SentencePiece model of others, with the ids of its own pieces; `extra` pieces (T5's sentinels) follow these.

    Text is normalised as the model says. `vocab`, piece → id, gives other ids (Marian's vocab.json); a piece that it
    lacks is `unk_id`. `name` is the file of the model; `target` names that of the other language, and is then what
    reads its texts, by `target_vocab` where that has ids of its own. `decode` takes ids of the target.
    """

    kind = "pretrained"

    def __init__(
        self,
        files: Mapping[str, bytes],
        name: str,
        target: str | None = None,
        *,
        extra: int = 0,
        vocab: Mapping[str, int] | None = None,
        target_vocab: Mapping[str, int] | None = None,
    ):
        import sentencepiece

        self.files, self.settings, self.extra = dict(files), _settings(files, name), extra
        try:
            self._pieces: Any = sentencepiece.SentencePieceProcessor(model_proto=files[name])
        except RuntimeError as error:
            raise DataError(f"{name}: not a SentencePiece model: {error}") from None
        p = self._pieces
        self._ids = vocab
        self._named = {token: piece for piece, token in vocab.items()} if vocab is not None else None
        if vocab is None:
            self.pad_id, self.bos_id, self.eos_id, self.unk_id = p.pad_id(), p.bos_id(), p.eos_id(), p.unk_id()
        else:
            self.pad_id, self.eos_id, self.unk_id = (vocab.get(t, _NONE) for t in ("<pad>", "</s>", "<unk>"))
            self.bos_id = vocab.get("<s>", _NONE)
        self.mask_id = _NONE
        self._own_size = (p.vocab_size() if vocab is None else len(vocab)) + extra
        self.target = SentencePieceFile(files, target, vocab=target_vocab or vocab) if target else self

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special ones."""
        if self._ids is None:
            return self._pieces.encode(text)
        return [self._ids.get(piece, self.unk_id) for piece in self._pieces.encode(text, out_type=str)]

    @cached_property
    def marks(self) -> dict[str, int]:
        """Control tokens, which `encode` does not know where they are written in a text; see `data.chat.encode`."""
        every = [] if self._ids is not None else list(range(self._pieces.vocab_size()))
        kinds = zip(every, self._pieces.is_control(every), strict=True)
        return {self._pieces.id_to_piece(token): token for token, control in kinds if control}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def template(self, texts: Sequence[str], others: Sequence[str] | None = None, limit: int = 0) -> list[Encoded]:
        """Each text with the end token behind it, cut such that it has at most `limit` tokens. Raises UsageError for
        pairs."""
        if others is not None:
            raise UsageError("this tokenizer has no form for pairs of texts")
        rows = [[*ids[: limit - 1 if limit else None], self.eos_id] for ids in self.encode_batch(texts)]
        return [Encoded(row, [0] * len(row)) for row in rows]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special tokens are left out."""
        special = (self.pad_id, self.bos_id, self.eos_id)
        kept = [int(token) for token in ids if int(token) not in special]
        pieces, named = self.target._pieces, self.target._named
        if named is not None:
            return pieces.decode([named[token] for token in kept if token in named])
        return pieces.decode([token for token in kept if token < pieces.vocab_size()])

    def piece(self, token: int) -> str:
        """What one id stands for."""
        if self._named is not None:
            return self._named[int(token)]
        own = self._pieces.vocab_size()
        return self._pieces.id_to_piece(int(token)) if token < own else f"<extra_id_{self.vocab_size - 1 - token}>"


def read_tokenizer(folder: str | Path, *, extra: int = 0) -> PretrainedTokenizer | SentencePieceFile:
    """The tokenizer in the folder of a pretrained model: `tokenizer.json`, else `vocab.txt` (WordPiece), `vocab.json`
    with `merges.txt` (byte-level BPE), else a SentencePiece model, with `extra` pieces of its own. It has the ids that
    the `config.json` of a model beside it says.

    Raises DataError that names the folder where there is none, or the damaged file.
    """
    folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    found = _read(folder, extra)
    if (folder / META_FILE).is_file():
        return found.tell(msgspec.convert(read_meta(folder).get(_TOLD, {}), Told))
    config = {}
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            config |= _object((folder / name).read_bytes(), folder / name)
    return found.tell(_told(config, found))


def _told(config: Mapping[str, Any], tokenizer: PretrainedTokenizer | SentencePieceFile) -> Told:
    """What the config.json and generation_config.json of a model say; nothing for one that does not write text."""
    pairs, kind = config.get("is_encoder_decoder"), str((config.get("architectures") or [""])[0])
    if not (pairs or kind.endswith(("ForCausalLM", "LMHeadModel"))):
        return Told()
    end = config.get("eos_token_id")
    end = tokenizer.eos_id if end is None else end[0] if isinstance(end, list) else end
    before = tuple(tokenizer.template([""])[0].ids)
    before = before[:-1] if before and before[-1] == end else before
    if tokenizer.settings.get("add_bos_token") and not before and not pairs:
        before = (tokenizer.bos_id,)
    forced = config.get("forced_bos_token_id") if pairs else None
    pad = config.get("pad_token_id")
    target = () if forced is None else (int(forced),)
    return Told(
        vocab_size=int(config.get("vocab_size") or 0),
        pad_id=(end if tokenizer.pad_id < 0 else tokenizer.pad_id) if pad is None else pad,
        bos_id=config.get("decoder_start_token_id") if pairs else config.get("bos_token_id"),
        eos_id=end,
        source_begin=before if pairs else (),
        target_begin=target if pairs else before,
        never=tuple(tuple(each) for each in config.get("bad_words_ids") or ()),
    )


def _read(folder: Path, extra: int) -> PretrainedTokenizer | SentencePieceFile:
    settings = {name: (folder / name).read_bytes() for name in _SETTINGS if (folder / name).is_file()}
    for names in (_TOKENIZERS[:1], _TOKENIZERS[1:2], _TOKENIZERS[2:]):
        if all((folder / name).is_file() for name in names):
            files = {name: (folder / name).read_bytes() for name in names}
            return PretrainedTokenizer(files | settings, str(folder))
    if (folder / "source.spm").is_file() and (folder / "vocab.json").is_file():
        names = ("source.spm", "target.spm", "vocab.json", "target_vocab.json")
        files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        target = "target.spm" if "target.spm" in files else None
        vocab, other = (_vocab(files, name, str(folder)) if name in files else None for name in names[2:])
        return SentencePieceFile(files | settings, "source.spm", target, vocab=vocab, target_vocab=other)
    for name in _PIECES:
        if (folder / name).is_file():
            return SentencePieceFile({name: (folder / name).read_bytes()} | settings, name, extra=extra)
    for pattern in _SIDES:
        if found := {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}:
            return SentencePieceFile(found, *found)
    raise DataError(
        f"{folder}: there is no tokenizer here; expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or one "
        f"of {', '.join((*_PIECES, *_SIDES))}"
    )


def _tokenizer(files: Mapping[str, bytes], settings: Mapping[str, Any], where: str) -> Any:
    import tokenizers
    from tokenizers import processors

    try:
        if "tokenizer.json" in files:
            return tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
        if "vocab.txt" in files:
            vocab = {line: number for number, line in enumerate(files["vocab.txt"].decode().splitlines())}
            lower = settings.get("do_lower_case", True)
            return tokenizers.BertWordPieceTokenizer(
                vocab,
                lowercase=lower,
                strip_accents=settings.get("strip_accents"),
                handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
            )._tokenizer
        vocab = _vocab(files, "vocab.json", where)
        merges = [(a, b) for a, b in (line.split() for line in files["merges.txt"].decode().splitlines()[1:] if line)]
        made = tokenizers.ByteLevelBPETokenizer(vocab, merges, settings.get("add_prefix_space", False))._tokenizer
        special = [token for token in ("<|endoftext|>", "<s>", "<pad>", "</s>", "<unk>", "<mask>") if token in vocab]
        made.add_special_tokens(special)
        if "<s>" in vocab and "</s>" in vocab:  # RoBERTa's
            made.post_processor = processors.RobertaProcessing(
                ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), trim_offsets=True, add_prefix_space=False
            )
        return made
    except DataError:
        raise
    except Exception as error:  # the library raises no other for what it cannot read
        raise DataError(f"{where}: the tokenizer cannot be read: {error}") from None


def _vocab(files: Mapping[str, bytes], name: str, where: str) -> dict[str, int]:
    return _object(files[name], f"{where}: {name}", dict[str, int])


def _object(content: bytes, where: str | Path, kind: Any = dict[str, Any]) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where} is damaged: {error}") from None


def _settings(files: Mapping[str, bytes], where: str) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json; tokens that are objects there become their text."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if name in files:
            found |= _object(files[name], f"{where}: {name}")
    return {key: v.get("content") if isinstance(v, dict) and "content" in v else v for key, v in found.items()}
