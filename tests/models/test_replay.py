"""The invariant of RL here: replayed log-probabilities are the ones the tokens were drawn with, and they carry
gradient.
"""

from __future__ import annotations

import pytest
import torch

from sync_r1.models.concept_tokens import add_concept, concept_row_ids
from sync_r1.models.showo.model import Showo
from sync_r1.types import ImageTrace, Sampling, TextCompletions, TextContext
from tests.helpers import tiny_model

SAMPLING = Sampling(guidance_scale=2.0, top_k=20, temperature=1.2, max_completion_length=12, generation_timesteps=5)
PROMPTS = ["a red hat", "a photo of <token_0><bo> wearing a red hat", "a <bo>", "a red hat"]
SEEDS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def model() -> Showo:
    model = tiny_model(3)
    add_concept(model, "bo", "robot", num_tokens=2)
    return model


@pytest.fixture(scope="module")
def contexts() -> list[TextContext]:
    codes = torch.arange(16) * 3
    return [
        TextContext("USER: hi ASSISTANT:"),
        TextContext("USER: <bo> is <token_0><token_1>. what colour is the hat? ASSISTANT:", codes),
        TextContext("USER: hi ASSISTANT:"),
        TextContext("yes? ASSISTANT:", codes.flip(0)),
    ]


@pytest.fixture(scope="module")
def trace(model: Showo) -> ImageTrace:
    return model.generate_image(PROMPTS, SAMPLING, SEEDS)


@pytest.fixture(scope="module")
def written(model: Showo, contexts: list[TextContext]) -> TextCompletions:
    """Rows of unequal length: one of them is made to end early by taking what was sampled up to a cut."""
    out = model.generate_text(contexts, SAMPLING, SEEDS)
    mask = out.mask.clone()
    mask[0, 5:] = False
    return TextCompletions(out.ids.masked_fill(~mask, model.config.pad_id), out.logps * mask, mask, out.texts)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_text_replay(model: Showo, contexts: list[TextContext], written: TextCompletions, checkpointing: bool) -> None:
    with training(model, checkpointing):
        logps, entropy = model.text_logps(contexts, written.ids, written.mask, SAMPLING)
    torch.testing.assert_close(logps.detach(), written.logps, atol=1e-4, rtol=0)
    assert logps.dtype == torch.float32 and logps.requires_grad
    assert (logps[~written.mask] == 0).all() and (entropy[~written.mask] == 0).all()
    assert (entropy[written.mask] > 0).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_image_replay(model: Showo, trace: ImageTrace, checkpointing: bool) -> None:
    with training(model, checkpointing):
        logps, committed = model.image_logps(PROMPTS, trace, SAMPLING, range(5))
    assert committed.all() and logps.requires_grad and logps.dtype == torch.float32
    torch.testing.assert_close(logps.detach(), trace.logps, atol=1e-4, rtol=0)


def test_image_replay_without_guidance(model: Showo) -> None:
    plain = Sampling(generation_timesteps=4)
    trace = model.generate_image(PROMPTS, plain, SEEDS)
    logps, _ = model.image_logps(PROMPTS, trace, plain, [0, 1, 2, 3])
    torch.testing.assert_close(logps.detach(), trace.logps, atol=1e-4, rtol=0)


def test_steps_add_up(model: Showo, trace: ImageTrace) -> None:
    inputs = {"prompts": PROMPTS, "trace": trace, "sampling": SAMPLING}
    parts = [model.image_logps(**inputs, steps=[step]) for step in range(5)]
    torch.testing.assert_close(sum(part.detach() for part, _ in parts), trace.logps, atol=1e-4, rtol=0)
    assert (sum(committed.long() for _, committed in parts) == 1).all()
    some, committed = model.image_logps(PROMPTS, trace, SAMPLING, [3, 1])
    assert torch.equal(committed, (trace.unmask_step == 1) | (trace.unmask_step == 3))
    assert (some[~committed] == 0).all()


def test_half_drawn_images_replay_too(model: Showo) -> None:
    half = model.generate_image(PROMPTS, SAMPLING, SEEDS, stop_at=2)
    logps, committed = model.image_logps(PROMPTS, half, SAMPLING, [0, 1])
    assert torch.equal(committed, half.known_before(2))
    torch.testing.assert_close(logps.detach(), half.logps, atol=1e-4, rtol=0)


def test_gradient_reaches_concept_rows_through_the_prefix(
    model: Showo, contexts: list[TextContext], trace: ImageTrace
) -> None:
    rows, embed = concept_row_ids(model, "bo"), model.showo.model.embed_tokens.weight
    ids = torch.full((4, 1), 50)  # not the concept's own ids: only what was read can carry the gradient
    for logps in (
        model.image_logps(PROMPTS, trace, SAMPLING, [0])[0],
        model.text_logps(contexts, ids, torch.ones_like(ids, dtype=torch.bool), SAMPLING)[0],
    ):
        (gradient,) = torch.autograd.grad(logps.sum(), embed)
        assert gradient.isfinite().all()
        assert (gradient[rows[:2]].abs().sum(1) > 0).all()


def test_checkpointed_gradient_is_the_same(
    model: Showo, contexts: list[TextContext], trace: ImageTrace, written: TextCompletions
) -> None:
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        with training(model, checkpointing):
            total = model.image_logps(PROMPTS, trace, SAMPLING, [0, 2])[0].sum()
            total = total + model.text_logps(contexts, written.ids, written.mask, SAMPLING)[0].sum()
            return list(torch.autograd.grad(total, list(model.showo.parameters())))

    for plain, recomputed in zip(gradients(False), gradients(True)):
        torch.testing.assert_close(plain, recomputed, atol=1e-3, rtol=1e-3)


class training:
    """Train mode with or without gradient checkpointing."""

    def __init__(self, model: Showo, checkpointing: bool) -> None:
        self.model, self.checkpointing = model, checkpointing

    def __enter__(self) -> None:
        self.model.train()
        if self.checkpointing:
            self.model.gradient_checkpointing_enable()

    def __exit__(self, *_: object) -> None:
        self.model.gradient_checkpointing_disable()
        self.model.eval()
