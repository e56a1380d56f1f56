"""What every family must hold, as checks over a factory of tiny random models: `pytest.mark.parametrize("check",
CHECKS)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sync_r1.models.base import UnifiedModel
from sync_r1.models.concept_tokens import add_concept, concept_row_ids
from sync_r1.types import ImageTrace, Sampling, TextContext

Make = Callable[[], UnifiedModel]
GUIDED = Sampling(guidance_scale=2.0, top_k=12, temperature=1.2, max_completion_length=12, generation_timesteps=5)
PLAIN = Sampling(max_completion_length=7, generation_timesteps=3)
PROMPTS = ["a red hat", "a photo of <token_0><bo> wearing a red hat", "a <bo>", "a red hat"]
SEEDS = [1, 2, 3, 4]


def with_concept(make: Make) -> Any:
    model = make()
    add_concept(model, "bo", "robot", num_tokens=2)
    return model


def contexts_of(model: UnifiedModel) -> list[TextContext]:
    """Unequal lengths, with and without pictures, two alike."""
    pictures = model.look(torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)))
    return [
        TextContext("USER: hi ASSISTANT:"),
        TextContext("USER: <bo> is <token_0><token_1>. what colour is the hat? ASSISTANT:", pictures[0]),
        TextContext("USER: hi ASSISTANT:"),
        TextContext("yes? ASSISTANT:", pictures[1]),
    ]


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, atol=1e-4, rtol=0)


# replay parity


def check_text_replay(make: Make, folder: Path) -> None:
    """Recomputed log-probabilities are the ones drawn with, carry gradient, and are 0 off the text."""
    model = with_concept(make)
    contexts = contexts_of(model)
    for sampling in (GUIDED, PLAIN):
        written = model.generate_text(contexts, sampling, SEEDS)
        mask = written.mask.clone()
        mask[0, 3:] = False
        logps, entropy = model.text_logps(contexts, written.ids, mask, sampling)
        close(logps.detach(), written.logps * mask)
        close((logps.detach() - written.logps)[mask].exp(), torch.ones(int(mask.sum())))
        assert logps.requires_grad and logps.dtype == torch.float32
        assert (entropy[~mask] == 0).all() and (entropy[mask] > 0).all()


def check_image_replay(make: Make, folder: Path) -> None:
    """As for text; each token belongs to one step, and any choice of steps gives that part."""
    model = with_concept(make)
    for sampling in (GUIDED, PLAIN):
        trace = model.generate_image(PROMPTS, sampling, SEEDS)
        total = sampling.generation_timesteps
        logps, committed = model.image_logps(PROMPTS, trace, sampling, range(total))
        assert committed.all() and logps.requires_grad and logps.dtype == torch.float32
        close(logps.detach(), trace.logps)
        assert (trace.logps < 0).any()
        parts = [model.image_logps(PROMPTS, trace, sampling, [step]) for step in range(total)]
        assert (sum(part.long() for _, part in parts) == 1).all()
        close(sum(part.detach() for part, _ in parts), trace.logps)
        some, committed = model.image_logps(PROMPTS, trace, sampling, [2, 0])
        assert torch.equal(committed, (trace.unmask_step == 0) | (trace.unmask_step == 2))
        assert (some[~committed] == 0).all()


def check_checkpointing(make: Make, folder: Path) -> None:
    """Gradient checkpointing changes neither values nor gradients."""
    model = with_concept(make).train()
    contexts, ids = contexts_of(model), torch.full((4, 3), 50)
    trace = model.generate_image(PROMPTS, GUIDED, SEEDS)

    def measure() -> list[Tensor]:
        logps = model.image_logps(PROMPTS, trace, GUIDED, [0, 3])[0]
        total = logps.sum() + model.text_logps(contexts, ids, torch.ones_like(ids).bool(), PLAIN)[0].sum()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [total, *torch.autograd.grad(total, parameters, allow_unused=True)]

    plain = measure()
    model.gradient_checkpointing_enable()
    for before, after in zip(plain, measure(), strict=True):
        if before is None or after is None:
            assert before is after
        else:
            torch.testing.assert_close(before, after, atol=2e-3, rtol=1e-3)


def check_gradient_reaches_concepts(make: Make, folder: Path) -> None:
    """What was only read teaches the soft tokens."""
    model = with_concept(make)
    rows, embed = concept_row_ids(model, "bo"), model.get_input_embeddings().weight.requires_grad_(True)
    trace = model.generate_image(PROMPTS, GUIDED, SEEDS)
    ids = torch.full((4, 1), 50)
    for logps in (
        model.image_logps(PROMPTS, trace, GUIDED, [0])[0],
        model.text_logps(contexts_of(model), ids, torch.ones_like(ids).bool(), PLAIN)[0],
    ):
        (gradient,) = torch.autograd.grad(logps.sum(), embed)
        assert gradient.isfinite().all() and (gradient[rows[:2]].abs().sum(1) > 0).all()


# trajectories


def check_resume(make: Make, folder: Path) -> None:
    """Stopping anywhere and going on equals not stopping; committed tokens never change.

    The given state is not modified.
    """
    model = with_concept(make)
    whole = model.generate_image(PROMPTS, GUIDED, SEEDS)
    assert whole.finished and (whole.unmask_step < 5).all()
    for stop in range(6):
        part = model.generate_image(PROMPTS, GUIDED, SEEDS, stop_at=stop)
        kept = (part.tokens.clone(), part.unmask_step.clone(), part.step)
        known = part.known_before(stop)
        assert (
            part.step == stop and torch.equal(known, whole.unmask_step < stop) and (part.unmask_step[~known] == 5).all()
        )
        assert torch.equal(part.tokens[known], whole.tokens[known]) and (part.logps[~known] == 0).all()
        rest = model.generate_image(PROMPTS, GUIDED, None, state=part)
        assert torch.equal(rest.tokens, whole.tokens) and torch.equal(rest.unmask_step, whole.unmask_step)
        close(rest.logps, whole.logps)
        assert torch.equal(kept[0], part.tokens) and torch.equal(kept[1], part.unmask_step) and kept[2] == part.step
        if stop:
            close(model.image_logps(PROMPTS, part, GUIDED, range(stop))[0].detach(), part.logps)


def check_rows_are_independent(make: Make, folder: Path) -> None:
    """Row b is a function of its own input and seed: not of its batch mates, their lengths or their number."""
    model = with_concept(make)
    contexts = contexts_of(model)
    written, drawn = model.generate_text(contexts, GUIDED, SEEDS), model.generate_image(PROMPTS, GUIDED, SEEDS)
    for row in range(4):
        alone = model.generate_text(contexts[row : row + 1], GUIDED, SEEDS[row : row + 1])
        assert alone.texts == written.texts[row : row + 1]
        image = model.generate_image(PROMPTS[row : row + 1], GUIDED, SEEDS[row : row + 1])
        assert torch.equal(image.tokens, drawn.tokens[row : row + 1])
    assert not torch.equal(drawn.tokens[0], drawn.tokens[3]) and written.texts[0] != written.texts[2]  # other seeds


def check_previews(make: Make, folder: Path) -> None:
    """Every state can be looked at; the last preview is the picture; looking changes nothing."""
    model = with_concept(make)
    shape = (4, 3, model.image_size, model.image_size)
    for stop in (0, 2, 5):
        trace = model.generate_image(PROMPTS, GUIDED, SEEDS, stop_at=stop)
        tokens = trace.tokens.clone()
        picture = model.preview(trace)
        assert picture.shape == shape and picture.dtype == torch.uint8 and torch.equal(trace.tokens, tokens)
    assert torch.equal(picture, model.decode_image(trace.tokens))


def check_tokens_are_shown_as_they_come(make: Make, folder: Path) -> None:
    """Every token is shown once, in order, and showing changes nothing; rows end where the listener says so."""
    model = with_concept(make)
    contexts = contexts_of(model)
    whole = model.generate_text(contexts, GUIDED, SEEDS)
    seen: list[tuple[Tensor, Tensor]] = []
    again = model.generate_text(contexts, GUIDED, SEEDS, on_token=lambda *shown: seen.append(shown))
    assert torch.equal(again.ids, whole.ids) and torch.equal(again.logps, whole.logps)
    assert len(seen) == whole.ids.shape[1]
    for step, (tokens, running) in enumerate(seen):
        assert torch.equal(running, whole.mask[:, step])
        assert torch.equal(tokens[running], whole.ids[running, step])
    ends = torch.tensor([1, 3, 0, 2])
    count = iter(range(100))
    cut = model.generate_text(contexts, GUIDED, SEEDS, on_token=lambda *_: ends <= next(count))
    lengths = torch.minimum(whole.mask.sum(1), ends.to(whole.mask.device) + 1)
    assert torch.equal(cut.mask.sum(1), lengths)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(cut.ids[row, :length], whole.ids[row, :length])


def check_steps_are_shown_as_they_come(make: Make, folder: Path) -> None:
    """Every state between the steps is shown, the last is the result; what the listener raises ends the drawing."""
    model = with_concept(make)
    seen: list[ImageTrace] = []
    whole = model.generate_image(PROMPTS, GUIDED, SEEDS, on_step=seen.append)
    assert [trace.step for trace in seen] == [1, 2, 3, 4, 5]
    assert torch.equal(whole.tokens, model.generate_image(PROMPTS, GUIDED, SEEDS).tokens)
    for trace in seen:
        alone = model.generate_image(PROMPTS, GUIDED, SEEDS, stop_at=trace.step)
        known = trace.known_before(trace.step)
        assert torch.equal(known, alone.known_before(trace.step)) and trace.nfe == alone.nfe
        assert torch.equal(trace.tokens[known], alone.tokens[known])

    def leave(trace: ImageTrace) -> None:
        seen.append(trace)
        raise InterruptedError

    seen.clear()
    with pytest.raises(InterruptedError):
        model.generate_image(PROMPTS, GUIDED, SEEDS, on_step=leave)
    assert len(seen) == 1


def check_evaluations_are_counted(make: Make, folder: Path) -> None:
    """Guidance doubles them, and stopping early saves some."""
    model = with_concept(make)
    plain, guided = (
        model.generate_image(PROMPTS, Sampling(guidance_scale=w, generation_timesteps=5), SEEDS).nfe for w in (0.0, 1.0)
    )
    assert guided == 2 * plain > 0
    assert 0 < model.generate_image(PROMPTS, GUIDED, SEEDS, stop_at=2).nfe < guided


def check_training_trace(make: Make, folder: Path) -> None:
    """A picture's codes can be learned: the loss of `training_trace` falls under a few steps of SGD."""
    model = with_concept(make).train()
    codes = model.encode_image(torch.rand(4, 3, 16, 16))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for _ in range(8):
        trace, steps = model.training_trace(codes, SEEDS)
        logps, learned = model.image_logps(PROMPTS, trace, Sampling(generation_timesteps=trace.timesteps), steps)
        assert learned.any(1).all()
        loss = -logps.sum() / learned.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses


# vocabulary and storage


def check_only_text_is_written(make: Make, folder: Path) -> None:
    """No padding, task, image or suppressed id; suppression holds in replay too."""
    model = with_concept(make)
    contexts = contexts_of(model)
    hot = Sampling(temperature=50.0, max_completion_length=40)
    written = model.generate_text([contexts[0]] * 12, hot, list(range(12)))
    ids = written.ids[written.mask]
    soft = concept_row_ids(model, "bo")[1:]
    special = [number for number, token in model.tokenizer.added_tokens_decoder.items() if token.special]
    assert ids.max() < len(model.tokenizer) and not torch.isin(ids, soft).any()
    assert set(ids.tolist()) & set(special) <= {model.tokenizer.eos_token_id}
    word = int(ids[0])
    model.suppress([word])
    assert not (model.generate_text(contexts, hot, SEEDS).ids == word).any()
    given = torch.full((4, 1), word)
    assert (model.text_logps(contexts, given, torch.ones_like(given).bool(), hot)[0] == -torch.inf).all()


def check_concepts_leave_the_rest_alone(make: Make, folder: Path) -> None:
    """A new concept changes no other row and no picture of a prompt without it; its rows can be read back."""
    model, before = with_concept(make), make()
    others = list(range(len(before.tokenizer)))
    old, new = before.read_rows(others[:50]), model.read_rows(others[:50])
    assert torch.equal(old.embed, new.embed) and torch.equal(old.head_weight, new.head_weight)
    sampling = Sampling(guidance_scale=1.0, generation_timesteps=4)
    pictures = [one.generate_image(["a red hat"], sampling, [5]).tokens for one in (before, model)]
    assert torch.equal(*pictures)
    ids = concept_row_ids(model, "bo").tolist()
    rows = model.read_rows(ids)
    rows.embed, rows.head_weight = (torch.arange(value.numel()).view_as(value) / 100 for value in (rows.embed,) * 2)
    model.write_rows(ids, rows)
    assert torch.equal(model.read_rows(ids).embed, rows.embed) and torch.equal(
        model.read_rows(ids).head_weight, rows.head_weight
    )
    assert model.tokenizer.decode(ids[:1]).strip() == "<bo>" and model.concepts[0].all_tokens == [
        "<bo>",
        "<token_0>",
        "<token_1>",
    ]


def check_storage(make: Make, folder: Path) -> None:
    """A saved model writes, draws and knows its concepts as before; `load_weights` reads the same file."""
    from sync_r1.files import read_tensors

    model = with_concept(make)
    contexts = contexts_of(model)
    model.save_pretrained(folder)
    again: Any = type(model).from_pretrained(folder)
    assert again.concepts == model.concepts and len(again.tokenizer) == len(model.tokenizer) and not again.training
    first, second = (one.generate_text(contexts, GUIDED, SEEDS) for one in (model, again))
    assert first.texts == second.texts
    traces: Sequence[ImageTrace] = [one.generate_image(PROMPTS, GUIDED, SEEDS) for one in (model, again)]
    assert torch.equal(traces[0].tokens, traces[1].tokens)
    assert torch.equal(model.decode_image(traces[0].tokens), again.decode_image(traces[0].tokens))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)
    again.load_weights(read_tensors(folder / "model.safetensors"), str(folder))
    assert torch.equal(again.generate_image(PROMPTS, GUIDED, SEEDS).tokens, traces[0].tokens)


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]
