"""Concept rows, adapters and the frozen start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sync_r1.config import RLConfig
from sync_r1.models.showo.model import Showo
from sync_r1.rl.lora import Adapters
from sync_r1.rl.weights import ConceptRows, CopiedReference, NoReference, SwitchedReference, Trainables
from sync_r1.types import Sampling, TextContext
from tests.rl.toys import log_of, model_with_concept, same, trainer, weights

CONTEXT = TextContext("USER: <bo> ASSISTANT:")


def text_logps(model: Showo) -> torch.Tensor:
    ids = torch.tensor([[40, 41, 42]])
    return model.text_logps([CONTEXT], ids, torch.ones(1, 3, dtype=torch.bool), Sampling())[0]


def test_concept_rows_learn_at_their_own_rate_like_a_parameter_of_their_own() -> None:
    """Against a plain Adam on a small parameter; two backwards before a step add up; other rows never move."""
    generator = torch.Generator().manual_seed(0)
    start, targets = torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator)
    matrix, plain = nn.Parameter(start.clone()), nn.Parameter(start[[1, 4]].clone())
    rows = ConceptRows([matrix], torch.tensor([1, 4]))
    optimizer, expected = torch.optim.AdamW(rows.rows, lr=0.1, weight_decay=0.0), torch.optim.AdamW([plain], lr=0.1, weight_decay=0.0)
    optimizer.register_step_post_hook(rows.write_back)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(2):
            (matrix - targets).square().sum().backward()
        assert matrix.grad is None
        optimizer.step()
        expected.zero_grad()
        (2 * (plain - targets[[1, 4]]).square().sum()).backward()
        expected.step()
    assert_close(matrix[[1, 4]], plain)
    assert torch.equal(matrix[[0, 2, 3, 5]], start[[0, 2, 3, 5]])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"beta": 0.0}, NoReference),
        ({"beta": 0.1}, CopiedReference),
        ({"beta": 0.1, "learning_rate": 0.0}, SwitchedReference),
        ({"beta": 0.1, "lora_rank": 2}, SwitchedReference),
    ],
)
def test_the_reference_is_the_start_and_costs_no_more_than_it_must(changes: dict[str, float], kind: type) -> None:
    model = model_with_concept()
    start = text_logps(model).detach()
    trainables = Trainables(model, RLConfig(**changes), torch.tensor([333, 334, 335]))  # type: ignore[arg-type]
    reference = trainables.reference(model)
    assert type(reference) is kind
    with torch.no_grad():
        for parameter in trainables.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    trainables.rows.write_back()
    moved = text_logps(model)
    assert (moved - start).abs().max() > 1e-2
    with reference.policy() as policy:
        if kind is NoReference:
            assert policy is None
        else:
            assert_close(text_logps(policy), start)
            assert (policy is model) == (kind is SwitchedReference)
    assert torch.equal(text_logps(model), moved)
    if isinstance(reference, CopiedReference):
        assert model.magvit is not None and reference.model.magvit is not None
        shared = next(model.magvit.parameters()), next(reference.model.magvit.parameters())
        assert shared[0] is shared[1], "what never trains is not copied"


def test_adapters_start_as_nothing_merge_exactly_and_come_off() -> None:
    model = model_with_concept()
    plain, before = text_logps(model).detach(), weights(model)
    adapters = Adapters(model, rank=2, alpha=4.0, seed=0, spare=set())
    assert torch.equal(text_logps(model), plain)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += 0.05
    changed = text_logps(model).detach()
    assert (changed - plain).abs().max() > 1e-2
    with adapters.off():
        assert torch.equal(text_logps(model), plain)
    with adapters.merged():
        assert set(weights(model)) == set(before)
        assert_close(text_logps(model), changed, atol=1e-4, rtol=1e-4)
    assert torch.equal(text_logps(model), changed)


def test_adapters_train_save_plain_weights_and_resume_bit_for_bit(tmp_path: Path) -> None:
    settings = ["rl.max_steps=4", "rl.lora_rank=2", "rl.beta=0.05", "rl.learning_rate=1e-2"]
    whole = trainer(tmp_path, *settings)
    frozen = {name: value for name, value in weights(whole.policy).items() if ".base." in name}
    assert len(frozen) == 2 * 2 * 6  # weight and bias of six layers in two blocks
    assert all("lora" in name for name, parameter in whole.policy.named_parameters() if parameter.requires_grad and "layers" in name)
    whole.train()
    assert same(frozen, weights(whole.policy))
    assert log_of(whole)[-1]["kl"] > 0
    checkpoint = whole.config.run.folder / "checkpoints" / "step_00004"
    opened = Showo.from_pretrained(checkpoint)
    assert_close(text_logps(opened), text_logps(whole.policy), atol=1e-4, rtol=1e-4)

    end, expected = weights(whole.policy), log_of(whole)
    resumed = trainer(tmp_path, *settings)
    resumed.train(resume_from_checkpoint=whole.config.run.folder / "checkpoints" / "step_00002")
    assert same(end, weights(resumed.policy)) and log_of(resumed) == expected
    with pytest.raises(ValueError, match=r"trained with adapters; set rl.lora_rank"):
        trainer(tmp_path, "rl.max_steps=5").train(resume_from_checkpoint=checkpoint)
    with pytest.raises(ValueError, match="adapters of other sizes"):
        trainer(tmp_path, "rl.max_steps=5", "rl.lora_rank=3").train(resume_from_checkpoint=checkpoint)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing would train"):
        Trainables(model_with_concept(), RLConfig(learning_rate=0.0), torch.tensor([], dtype=torch.long))
