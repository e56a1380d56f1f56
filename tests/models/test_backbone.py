"""Our pass through Phi gives what transformers' own gives, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from sync_r1.models.showo.backbone import run
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import Batch, build_t2i
from sync_r1.training.lora import Adapters, adapted_layers
from tests.helpers import tiny_model


def batch(model: Showo) -> Batch:
    """Three prompts of different lengths, most codes masked."""
    codes = torch.full((3, 16), 64)
    codes[0, :5], codes[2, 3] = torch.arange(5), 9
    return build_t2i(model.config, [[5], [5, 6, 7, 8], [9, 9]], codes)


def theirs(model: Showo, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return model.showo.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_same_states_everywhere_and_where_wanted(layers: int, adapted: bool) -> None:
    model = tiny_model(2, num_hidden_layers=layers)
    if adapted:
        names = [f"showo.model.{name}" for name in adapted_layers(model.showo.model, set())]
        for parameter in Adapters(model, names, rank=2, alpha=4, seed=0).parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    ids, mask = batch(model)
    whole = theirs(model, ids, mask)
    assert_close(run(model.showo.model, ids, mask), whole, atol=1e-5, rtol=1e-4)
    flags = torch.zeros_like(ids, dtype=torch.bool)
    flags[0, [4, 9, 20]] = flags[2, 7] = True  # rows want 3, 0 and 1
    assert_close(run(model.showo.model, ids, mask, flags=flags), whole[flags], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_same_gradients(checkpointing: bool) -> None:
    model = tiny_model(2, num_hidden_layers=3).train()
    ids, mask = batch(model)
    flags = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    weights = torch.randn(int(flags.sum()), 32, generator=torch.Generator().manual_seed(1))
    parameters = list(model.showo.model.parameters())
    expected = torch.autograd.grad((theirs(model, ids, mask)[flags] * weights).sum(), parameters)
    if checkpointing:
        model.gradient_checkpointing_enable()
    found = torch.autograd.grad((run(model.showo.model, ids, mask, flags=flags) * weights).sum(), parameters)
    for mine, other in zip(found, expected):
        assert_close(mine, other, atol=1e-4, rtol=1e-3)
