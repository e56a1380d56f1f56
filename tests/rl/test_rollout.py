"""Trajectories: what is asked, how they are drawn, and that replay sees what the rollout saw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from sync_r1.models.base import ConceptTokens
from sync_r1.rl.dgs import GroupScaling, NoScaling, Threshold
from sync_r1.rl.rollout import Sampler, select_completions
from sync_r1.rl.step_metrics import completion_metrics
from sync_r1.training.prompts import context, derive_seed, drawing_text, prompt_stream, training_prompts
from sync_r1.types import Sampling, TextCompletions
from tests.rl.toys import bright, concept, model_with_concept

HALF = {"reason": 0.5, "look": 0.5}
SAMPLING = Sampling(temperature=1.0, max_completion_length=6, generation_timesteps=4)


def test_tasks_come_from_the_training_split_only(tmp_path: Path) -> None:
    prompts = training_prompts(concept(tmp_path), ConceptTokens("bo", ["<token_0>"]))
    assert [(prompt.kind, prompt.prompt, prompt.answer) for prompt in prompts] == [
        ("reason", "<bo> with its hat", "<bo> with its red hat"),
        ("reason", "<bo> with its mug", "<bo> with its red mug"),
        ("look", "What colour?", "Red."),
        ("look", "A hat?", "No."),
    ]
    assert drawing_text(prompts[0], "<bo> with its red hat.") == "<token_0><bo> with its red hat"
    assert drawing_text(prompts[2], "Red.") == "a photo of <token_0><bo>, Red"


def test_every_half_reads_its_own_soft_tokens(tmp_path: Path) -> None:
    tokens = ConceptTokens("bo", ["<token_0>", "<token_1>", "<token_2>"], read=1, draw=2)
    prompt = training_prompts(concept(tmp_path), tokens)[2]
    assert drawing_text(prompt, "") == "a photo of <token_0><token_1><bo>"
    assert context(model_with_concept(), prompt, {}).text.startswith(
        "USER: name: bo\ninfo: <bo> is a robot.\n<bo> is <token_0><token_2>.\nWhat colour?"
    )


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_the_stream_of_prompts_is_even_and_needs_no_memory(tmp_path: Path, fraction: float) -> None:
    prompts = training_prompts(concept(tmp_path))
    shares = {"reason": 1 - fraction, "look": fraction}
    stream = prompt_stream(prompts, count=16, shares=shares, seed=3, first=0)
    assert sum(prompt.kind == "look" for prompt in stream) == 16 * fraction
    parts = [
        prompt_stream(prompts, count=4, shares=shares, seed=3, first=first)[i]
        for first in (0, 4, 8, 12)
        for i in range(4)
    ]
    assert parts == stream
    counts = Counter(prompt.prompt for prompt in stream)
    for kind in ("reason", "look"):
        seen = [counts[prompt.prompt] for prompt in prompts if prompt.kind == kind]
        assert max(seen) - min(seen) <= 1


def test_one_kind_alone_is_enough_and_none_is_refused(tmp_path: Path) -> None:
    only = [prompt for prompt in training_prompts(concept(tmp_path)) if prompt.kind == "reason"]
    assert all(
        prompt.kind == "reason"
        for prompt in prompt_stream(only, count=3, shares={"look": 0.9, "reason": 0.1}, seed=0, first=0)
    )
    with pytest.raises(ValueError, match="nothing to ask"):
        prompt_stream([], count=1, shares=HALF, seed=0, first=0)


def test_recognition_is_asked_of_as_many_others_as_photos(tmp_path: Path) -> None:
    others = [tmp_path / f"other{i}.png" for i in range(5)]
    asked = [prompt for prompt in training_prompts(concept(tmp_path), None, others) if prompt.kind == "recognize"]
    assert [(prompt.photo.name, prompt.answer) for prompt in asked if prompt.photo] == [
        ("0.png", "yes"), ("1.png", "yes"), ("other0.png", "no"), ("other1.png", "no"),
    ]  # fmt: skip
    assert {prompt.prompt for prompt in asked} == {"Is <bo> in this picture?"}
    assert drawing_text(asked[0], "yes") == "a photo of <bo>"
    shares = {"reason": 0.5, "look": 0.3, "recognize": 0.2}
    mixed = prompt_stream(training_prompts(concept(tmp_path), None, others), count=10, shares=shares, seed=0, first=0)
    assert Counter(prompt.kind for prompt in mixed) == {"reason": 5, "look": 3, "recognize": 2}


def test_seeds_are_pinned() -> None:
    assert derive_seed(0, 1, "text") == derive_seed(0, 1, "text") != derive_seed(0, 1, "image")
    assert derive_seed(0, 0) == 3264981304345632323


def sampler(**changes: object) -> Sampler:
    settings = {
        "sampling": SAMPLING,
        "scaling": NoScaling(),
        "preview_score": bright,
        "group_size": 3,
        "images_per_text": 2,
        **changes,
    }
    return Sampler(model=model_with_concept(), **settings)  # type: ignore[arg-type]


def test_a_rollout_repeats_itself_and_siblings_differ(tmp_path: Path) -> None:
    prompts = prompt_stream(
        training_prompts(concept(tmp_path), ConceptTokens("bo", ["<token_0>", "<token_1>"])),
        count=2,
        shares=HALF,
        seed=0,
        first=0,
    )
    first, again = sampler().roll_out(prompts, seed=0, step=1), sampler().roll_out(prompts, seed=0, step=1)
    assert first.trace is not None and again.trace is not None and first.images is not None
    assert torch.equal(first.trace.tokens, again.trace.tokens) and first.completions.texts == again.completions.texts
    assert first.images.shape == (12, 3, 16, 16) and first.trace.tokens.shape == (12, 16)
    assert len(set(map(tuple, first.trace.tokens.tolist()))) == 12
    other = sampler().roll_out(prompts, seed=0, step=2)
    assert other.completions.texts != first.completions.texts
    assert [prompt.kind for prompt in prompts] == ["reason", "look"]
    assert first.contexts[0].image is None and first.contexts[3].image is not None
    metrics = completion_metrics(first, 6)
    assert 1 <= metrics["completions/mean_length"] <= 6 and 0 < metrics["completions/distinct"] <= 1


def test_a_group_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    """Prompt number 1 alone gives the trajectories it gives beside prompt number 0."""
    prompts = prompt_stream(training_prompts(concept(tmp_path)), count=2, shares=HALF, seed=0, first=0)
    both, alone = sampler().roll_out(prompts, seed=0, step=1), sampler().roll_out(prompts[1:], seed=0, step=1, first=1)
    assert alone.completions.texts == both.completions.texts[3:]
    assert both.trace is not None and alone.trace is not None
    assert torch.equal(alone.trace.tokens, both.trace.tokens[6:])


def test_full_budget_of_one_group_size_is_plain_sampling(tmp_path: Path) -> None:
    """With c_max = 1 every candidate is kept: stopping for a preview and resuming changes nothing."""
    prompts = training_prompts(concept(tmp_path))[1:3]
    scaling = GroupScaling(Threshold(1.0), candidate_factor=1.0, stop_at=2)
    plain, scaled = (
        sampler().roll_out(prompts, seed=0, step=0),
        sampler(scaling=scaling).roll_out(prompts, seed=0, step=0),
    )
    assert plain.trace is not None and scaled.trace is not None
    for name in ("tokens", "unmask_step", "logps"):
        assert torch.equal(getattr(plain.trace, name), getattr(scaled.trace, name)), name
    assert (scaled.nfe_preview, scaled.nfe_final) == (4, 8)  # two images per text


def test_dropped_candidates_never_finish(tmp_path: Path) -> None:
    prompts = training_prompts(concept(tmp_path))[:2]
    scaling = GroupScaling(Threshold(0.999), candidate_factor=2.0, stop_at=2)
    found = sampler(scaling=scaling).roll_out(prompts, seed=0, step=0)
    assert found.selection.candidates == 12 and found.selection.accepted == 0
    assert sum(candidate.row is not None for candidate in found.candidates) == 6
    assert all(
        candidate.preview is not None and candidate.preview.shape == (3, 16, 16) for candidate in found.candidates
    )
    for group in range(2):
        kept = [
            candidate.score for candidate in found.candidates if candidate.group == group and candidate.row is not None
        ]
        lost = [candidate.score for candidate in found.candidates if candidate.group == group and candidate.row is None]
        assert min(kept) >= max(lost)
    rows = {candidate.row: candidate.text for candidate in found.candidates if candidate.row is not None}
    assert [rows[row] for row in range(6)] == found.completions.texts


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_replay_sees_the_sampled_distribution(tmp_path: Path, guidance: float) -> None:
    """ratio == 1 before any update: guidance, top-k, two prompts of different length, several images per text, DGS."""
    sampling = Sampling(
        temperature=0.9, top_k=7, guidance_scale=guidance, max_completion_length=6, generation_timesteps=4
    )
    draw = sampler(sampling=sampling, scaling=GroupScaling(Threshold(0.5), 2.0, 2))
    found = draw.roll_out(training_prompts(concept(tmp_path), ConceptTokens("bo", ["<token_0>"]))[1:3], seed=0, step=0)
    texts, trace = found.completions, found.trace
    assert trace is not None
    logps, entropy = draw.model.text_logps(found.contexts, texts.ids, texts.mask, sampling)
    assert_close(logps, texts.logps, atol=1e-4, rtol=0)
    assert (entropy >= 0).all()
    replayed, committed = draw.model.image_logps(found.image_prompts(), trace, sampling, [0, 1, 2, 3])
    assert committed.all()
    assert_close(replayed, trace.logps, atol=1e-4, rtol=0)


def test_completions_of_several_batches_become_one() -> None:
    first = TextCompletions(torch.tensor([[1, 2]]), torch.tensor([[-1.0, -2.0]]), torch.tensor([[True, True]]), ["a"])
    second = TextCompletions(
        torch.tensor([[3, 4, 5], [6, 0, 0]]),
        -torch.ones(2, 3),
        torch.tensor([[True] * 3, [True, False, False]]),
        ["b", "c"],
    )
    found = select_completions([first, second], [2, 0])
    assert found.texts == ["c", "a"] and found.ids.tolist() == [[6, 0], [1, 2]]
    assert found.mask.tolist() == [[True, False], [True, True]] and found.logps[1].tolist() == [-1.0, -2.0]
