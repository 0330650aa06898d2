"""Which tokens of a conversation are learnt: those that the assistant says."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqlib.data.chat import encode, render
from seqlib.util.errors import DataError, UsageError


def learnt_of(messages: Sequence[Mapping[str, Any]], tokenizer: Any, where: str) -> tuple[list[int], list[int]]:
    """(1 for each token to learn, 0 for others, the end's last; ids) of `messages` up to the assistant's last one, as
    the tokenizer's chat template has them: what it writes behind the prompt for an answer.

    The tokens that begin and end every text are left to batches. Raises DataError that begins with `where` for
    messages without an answer, for what the template refuses, and for one in which a message changes those before it.
    """
    flags: list[int] = []
    ids: list[int] = []
    done = ""
    try:
        for place, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            asked = render(tokenizer, messages[:place], True) if place else ""
            whole = render(tokenizer, messages[: place + 1])
            if not (asked.startswith(done) and whole.startswith(asked)):
                raise UsageError("the chat template changes earlier messages: what is learnt can't be told apart")
            for text, flag in ((asked[len(done) :], 0), (whole[len(asked) :], 1)):
                found = encode(tokenizer, text)
                ids += found
                flags += [flag] * len(found)
            done = whole
    except (UsageError, AttributeError) as error:
        raise DataError(f"{where}: {error}") from None
    if not ids:
        raise DataError(f"{where}: this conversation has no message of the assistant to learn")
    ends = ids[-1] == tokenizer.eos_id
    if ends:
        ids, flags = ids[:-1], flags[:-1]
    if ids and ids[0] == tokenizer.bos_id:
        ids, flags = ids[1:], flags[1:]
    return [*flags, int(ends)], ids
