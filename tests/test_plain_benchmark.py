"""benchmarks/plain.py computes what ours computes, so that comparing their seconds is fair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.testing import assert_close

from sync_r1.models.showo.model import Showo
from sync_r1.rl.trainer_state import Experience
from sync_r1.types import Sampling, TextContext
from tests.helpers import benchmark, tiny_model
from tests.rl import toys

SEEDS = [1, 2, 3]


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    return benchmark("plain")


@pytest.fixture(scope="module")
def model() -> Showo:
    return tiny_model(1)


@pytest.mark.parametrize("top_k", [1, 20])
@pytest.mark.parametrize("text_only_image", [False, True])
def test_texts_are_the_same(plain: ModuleType, top_k: int, text_only_image: bool) -> None:
    model = tiny_model(1, text_only_image=text_only_image)
    contexts = [
        TextContext("USER: hi ASSISTANT:"),
        TextContext("what? ASSISTANT:", torch.arange(16)),
        TextContext("no"),
    ]
    sampling = Sampling(top_k=top_k, max_completion_length=8)
    ours, theirs = model.generate_text(contexts, sampling, SEEDS), plain.write(model, contexts, sampling, SEEDS)
    assert theirs.ids.tolist() == ours.ids.tolist() and theirs.texts == ours.texts
    assert_close(theirs.logps, ours.logps, atol=1e-4, rtol=0)
    for row, context in enumerate(contexts):
        ids = ours.ids[row][ours.mask[row]]
        assert_close(
            plain.text_logps(model, context, ids, sampling), ours.logps[row][ours.mask[row]], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_pictures_are_the_same(plain: ModuleType, model: Showo, guidance: float) -> None:
    prompts, sampling = (
        ["a red hat", "a photo of a robot wearing", "a dog"],
        Sampling(guidance_scale=guidance, generation_timesteps=6),
    )
    ours, theirs = model.generate_image(prompts, sampling, SEEDS), plain.draw_images(model, prompts, sampling, SEEDS)
    assert theirs.tokens.tolist() == ours.tokens.tolist() and theirs.unmask_step.tolist() == ours.unmask_step.tolist()
    assert theirs.nfe == ours.nfe and theirs.finished
    assert_close(theirs.logps, ours.logps, atol=1e-4, rtol=0)


@pytest.mark.parametrize("cut", [(3, 4), (1, 4), (1, 3)], ids=["one graph", "a graph per row", "graphs of three steps"])
def test_gradients_are_the_same(plain: ModuleType, tmp_path: Path, cut: tuple[int, int]) -> None:
    trainer = toys.trainer(
        tmp_path, "rl.beta=0.04", "rl.guidance_scale=2", "rl.dgs_enabled=false", "rl.prompts_per_step=1"
    )
    rollout = trainer.roll_out()
    credit = trainer.advantage(rollout, trainer.score(rollout))
    credit = replace(credit, text=credit.text + 0.5, image=credit.image + 0.5)  # no advantage is 0
    parameters = trainer.trainables.parameters()
    with torch.no_grad():
        for parameter in parameters:
            # away from the start
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    trainer.trainables.rows.write_back()
    trainer.loss(Experience(rollout, credit))
    ours = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    trainer._clear_gradients()
    with trainer.reference.policy() as start:
        plain.update(
            trainer.policy, start, trainer.config.rl, rollout, credit, rows_per_graph=cut[0], steps_per_graph=cut[1]
        )
    theirs = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(ours) == len(theirs) == len(parameters)
    for mine, other in zip(ours, theirs):
        assert_close(other, mine, atol=1e-5, rtol=1e-3)
