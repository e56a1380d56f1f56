"""The few small values that flow between stages. Shapes: B batch, L text tokens, N image tokens, T decoding steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. The same object drives generation and replay, so both see one distribution."""

    temperature: float = 1.0  # divides the logits
    top_k: int | None = None  # keep the k likeliest tokens; 1 is greedy
    guidance_scale: float = 0.0  # w in (1+w)·cond − w·uncond; 0 is off and costs half
    max_completion_length: int = 48  # text tokens at most, end token included
    generation_timesteps: int = 8  # T, MaskGIT steps per image
    choice_temperature: float = 1.0  # noise on which proposals are committed first; 0 is none

    def __post_init__(self) -> None:
        checks = {
            "temperature": (self.temperature > 0, "above 0"),
            "top_k": (self.top_k is None or self.top_k >= 1, "None or at least 1"),
            "guidance_scale": (self.guidance_scale >= 0, "at least 0"),
            "max_completion_length": (self.max_completion_length >= 1, "at least 1"),
            "generation_timesteps": (self.generation_timesteps >= 1, "at least 1"),
            "choice_temperature": (self.choice_temperature >= 0, "at least 0"),
        }
        for name, (fine, allowed) in checks.items():
            if not fine:
                raise ValueError(f"Sampling.{name} is {getattr(self, name)}; it must be {allowed}")


@dataclass(frozen=True)
class TextContext:
    """What the model reads before it writes: an optional picture, then text that ends in "ASSISTANT:"."""

    text: str
    image: Tensor | None = None  # a row of UnifiedModel.look (Show-o: codes [N] long), or None for text only


@dataclass
class TextCompletions:
    """Sampled texts with the log-probabilities they were drawn with."""

    ids: Tensor  # [B, L] long, pad id after the end
    logps: Tensor  # [B, L] fp32, 0 where mask is False
    mask: Tensor  # [B, L] bool, the end token counts
    texts: list[str]  # decoded, stripped, without the end token


@dataclass
class ImageTrace:
    """How an image was drawn, step by step.

    Committed tokens never change, so `tokens` and `unmask_step` hold every intermediate state.
    """

    tokens: Tensor  # [B, N] long in [0, codes): committed tokens, elsewhere the latest proposal (for previews only)
    unmask_step: Tensor  # [B, N] long: step that committed the token; `timesteps` while masked, -1 if it was given
    logps: Tensor  # [B, N] fp32: log-prob of the token at the step that committed it, else 0
    seeds: Tensor  # [B] long: all noise of row b at step t is a function of (seeds[b], t)
    step: int  # next step to run
    timesteps: int  # T
    nfe: int  # backbone evaluations spent per image so far
    fills: Tensor | None = None  # [B, step, N] long, see `likely`; None in families that draw in one order

    @property
    def drawn(self) -> Tensor:
        """[B, N] bool: tokens that the model draws; the others were given and are kept (see `redraw_image`)."""
        return self.unmask_step >= 0

    @property
    def finished(self) -> bool:
        return self.step >= self.timesteps

    def known_before(self, step: int) -> Tensor:
        """[B, N] bool: tokens already committed when `step` starts."""
        return self.unmask_step < step

    def likely(self, step: int) -> Tensor:
        """[B, N]: the state before `step` with the likeliest code at every position that is open then.

        It follows from the state alone, costs no evaluation beside that of the step, and says what the picture is about
        to become.
        """
        assert self.fills is not None, "this family fills nothing in"
        return self.fills[:, step]

    def select(self, rows: Sequence[int] | Tensor) -> ImageTrace:
        index = torch.as_tensor(rows, dtype=torch.long, device=self.tokens.device)
        return ImageTrace(
            self.tokens[index],
            self.unmask_step[index],
            self.logps[index],
            self.seeds[index],
            self.step,
            self.timesteps,
            self.nfe,
            None if self.fills is None else self.fills[index],
        )

    @staticmethod
    def cat(traces: Sequence[ImageTrace]) -> ImageTrace:
        first = traces[0]
        assert all((t.step, t.timesteps) == (first.step, first.timesteps) for t in traces), "traces at different steps"
        return ImageTrace(
            torch.cat([t.tokens for t in traces]),
            torch.cat([t.unmask_step for t in traces]),
            torch.cat([t.logps for t in traces]),
            torch.cat([t.seeds for t in traces]),
            first.step,
            first.timesteps,
            max(t.nfe for t in traces),
            None if first.fills is None else torch.cat([t.fills for t in traces if t.fills is not None]),
        )


# Called after every token of texts being written: the tokens [B] just drawn, and which rows [B] bool were still being
# written. What it returns says which rows [B] bool end here; None ends none.
OnToken = Callable[[Tensor, Tensor], Tensor | None]

# Called after every step of pictures being drawn. What it raises ends the drawing.
OnStep = Callable[[ImageTrace], None]
