"""FSDP2 on two CPU processes: a sharded Show-o replays, learns and steps like a whole one. The trainer itself does not shard yet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.testing import assert_close

from sync_r1.models.showo.model import Showo
from sync_r1.types import Sampling, TextContext
from tests.helpers import tiny_model
from tests.rl.test_processes import launch

SAMPLING = Sampling(max_completion_length=6, generation_timesteps=4)
WORKER = """
import sys
from pathlib import Path
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from tests.helpers import tiny_model
from tests.rl.test_fsdp import replayed, rolled_out
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
model = tiny_model(0).train()
batch = rolled_out(model)
mesh = init_device_mesh("cpu", (2,))
for layer in model.showo.model.layers:
    fully_shard(layer, mesh=mesh, reshard_after_forward=False)
layers = list(model.showo.model.layers)
assert all(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for layer in layers for p in layer.parameters() if p.shape[0] > 1)
optimizer = torch.optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.1)
loss = replayed(model, batch, rank)
loss.backward()
optimizer.step()
for layer in layers:
    layer.reshard()
found = {"loss": loss.detach()}
for name, p in model.showo.model.layers.named_parameters():
    found["grad." + name], found["weight." + name] = p.grad.full_tensor(), p.detach().full_tensor()
if rank == 0:
    torch.save(found, Path(sys.argv[1]) / "sharded.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def rolled_out(model: Showo) -> tuple:
    """Two texts and two pictures of a whole model, the same in every process."""
    contexts = [TextContext("USER: who is it? ASSISTANT:"), TextContext("USER: a hat? ASSISTANT:")]
    texts = model.generate_text(contexts, SAMPLING, [1, 2])
    prompts = ["a robot", "a blue dog"]
    return contexts, texts, prompts, model.generate_image(prompts, SAMPLING, [3, 4])


def replayed(model: Showo, batch: tuple, row: int) -> Tensor:
    """Minus the log-probability of one row's text and picture."""
    contexts, texts, prompts, trace = batch
    written, _ = model.text_logps([contexts[row]], texts.ids[[row]], texts.mask[[row]], SAMPLING)
    drawn, _ = model.image_logps([prompts[row]], trace.select([row]), SAMPLING, [0, 1, 2, 3])
    return -(written.sum() + drawn.sum())


def test_sharded_layers_replay_and_step_like_whole_ones(tmp_path: Path) -> None:
    launch(WORKER, tmp_path)
    sharded = torch.load(tmp_path / "sharded.pt")
    model = tiny_model(0).train()
    batch = rolled_out(model)
    layers = model.showo.model.layers
    losses = [replayed(model, batch, row) for row in range(2)]
    (sum(losses) / 2).backward()
    torch.optim.SGD(layers.parameters(), lr=0.1).step()
    assert_close(sharded["loss"], losses[0].detach())
    for name, parameter in layers.named_parameters():
        assert parameter.grad is not None
        assert_close(sharded[f"grad.{name}"], parameter.grad, atol=1e-5, rtol=1e-4)
        assert_close(sharded[f"weight.{name}"], parameter.detach(), atol=1e-5, rtol=1e-4)
