"""Token sequences of Janus' two tasks: our texts in its chat format.

read: [bos] system <|User|>: [boi] N × image [eoi] \\n question \\n\\n <|Assistant|>:   (image part only with a picture)
draw: [bos] <|User|>: prompt \\n\\n <|Assistant|>: [boi], then codes. Unconditional: everything between bos and boi is
    padding, which is attended to like text (as the published code does), so both rows of guidance have the same
    length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AddedToken, PreTrainedTokenizerFast

from sync_r1.models.sequences import left_pad, text_ids

BEGIN_IMAGE, END_IMAGE, IMAGE = "<begin_of_image>", "<end_of_image>", "<image_placeholder>"
USER, ASSISTANT = "<|User|>", "<|Assistant|>"
OUR_USER, OUR_ASSISTANT = "USER:", "ASSISTANT:"  # what prompts.py writes


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that structure a sequence."""

    bos: int
    eos: int
    pad: int
    begin_image: int
    end_image: int
    image: int
    user: list[int]
    assistant: list[int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> SpecialTokens:
        """Also makes them special, so that a user who spells one out writes ordinary characters.

        Raises ValueError if the tokenizer lacks one.
        """
        vocabulary = tokenizer.get_vocab()
        ends = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token}
        lacking = [name for name, token in ends.items() if token is None]
        lacking += [name for name in (BEGIN_IMAGE, END_IMAGE, IMAGE) if name not in vocabulary]
        if lacking:
            raise ValueError(f"the tokenizer lacks {', '.join(lacking)}; it is not one of Janus'")
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = [
            name
            for name in (BEGIN_IMAGE, END_IMAGE, IMAGE, USER, ASSISTANT)
            if name in vocabulary and name not in special
        ]
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True)
        single = {
            name: [vocabulary[name]] if name in vocabulary else text_ids(tokenizer, name) for name in (USER, ASSISTANT)
        }
        bos, eos, pad, begin, end, image = (
            vocabulary[str(token)] for token in (*ends.values(), BEGIN_IMAGE, END_IMAGE, IMAGE)
        )
        return cls(bos, eos, pad, begin, end, image, single[USER], single[ASSISTANT])


def prepare_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Add the special tokens of a fresh model; does nothing to a published tokenizer."""
    names = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    tokenizer.add_special_tokens({name: token for name, token in names.items() if getattr(tokenizer, name) is None})
    added = (BEGIN_IMAGE, END_IMAGE, IMAGE, USER, ASSISTANT)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in added], special_tokens=True)


def reading_ids(
    special: SpecialTokens, tokenizer: PreTrainedTokenizerFast, text: str, num_image_tokens: int = 0, system: str = ""
) -> list[int]:
    """Ids of `USER: … ASSISTANT:` (either end may be absent) behind `num_image_tokens` places for a picture."""
    body = text.strip().removeprefix(OUR_USER).removesuffix(OUR_ASSISTANT).strip()
    picture = [special.begin_image, *[special.image] * num_image_tokens, special.end_image]
    message = [*text_ids(tokenizer, ": "), *picture, *text_ids(tokenizer, f"\n{body}\n\n")]
    if not (num_image_tokens):
        message = text_ids(tokenizer, f": {body}\n\n")
    lead = []
    if system:
        lead = text_ids(tokenizer, system)
    return [special.bos, *lead, *special.user, *message, *special.assistant, *text_ids(tokenizer, ":")]


def drawing_ids(special: SpecialTokens, tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """Ids before the first code."""
    message = text_ids(tokenizer, f": {prompt.strip()}\n\n")
    return [special.bos, *special.user, *message, *special.assistant, *text_ids(tokenizer, ":"), special.begin_image]


def unconditional_ids(special: SpecialTokens, ids: Sequence[int]) -> list[int]:
    """The same length, and nothing asked for."""
    return [special.bos, *[special.pad] * (len(ids) - 2), special.begin_image]


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Left-padded ids [B, L] and which of them are real [B, L] bool: padding ids also occur as content."""
    ids = left_pad(rows, pad_id)
    lengths = torch.tensor([[len(row)] for row in rows])
    return ids, torch.arange(ids.shape[1]) >= ids.shape[1] - lengths
