"""FSDP2: every process keeps its share of the layers' weights, and the optimizer's memory of that share only
(docs/scale.md).

Layers are whole from a rollout's first token to the last backward pass: processes write texts of different lengths and
replay different numbers of pieces, so nothing in between may wait for the others. Gradients are summed once, after the
last backward pass. While the optimizer steps, and until the next rollout, each process holds its share alone. Embedding
and head are read by rows; they and the last norm stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, distribute_tensor

from sync_r1.models.base import UnifiedModel
from sync_r1.training.parameters import CopiedReference, Reference, Trainables
from sync_r1.training.sharding.base import DataParallel, norm_over_processes


class ShardedLayers:
    """A model's transformer layers, in shares until gathered. All processes gather, and none waits for another
    otherwise.

    Raises:
        ValueError: the model does not say which of its modules are layers.
    """

    def __init__(self, model: UnifiedModel, mesh: DeviceMesh) -> None:
        names = getattr(model, "_no_split_modules", None) or ()
        layers = [module for module in model.modules() if type(module).__name__ in names]
        if not layers:
            known = "names none"
            if names:
                known = f"names {', '.join(names)}, of which it has none"
            raise ValueError(
                f"run.sharding=fsdp2 shares a model's layers, and {type(model).__name__}._no_split_modules {known}; "
                "set run.sharding=none"
            )
        self.mesh = mesh
        self.layers = [fully_shard(layer, mesh=mesh, reshard_after_forward=False) for layer in layers]
        for layer in self.layers:
            layer.set_requires_gradient_sync(False)
            layer.set_reshard_after_backward(False)

    def gather(self) -> None:
        for layer in self.layers:
            layer.unshard()

    def release(self) -> None:
        """Keep only this process's share; gradients of whole layers stay."""
        for layer in self.layers:
            layer.reshard()


class FSDP2(DataParallel):
    """Shares the layers of `model` among `count` processes and puts the shares into `trainables`, in the place of whole
    parameters.
    """

    def __init__(self, model: UnifiedModel, trainables: Trainables, count: int) -> None:
        super().__init__(count)
        mesh = init_device_mesh(model.device.type, (count,))
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.policy = ShardedLayers(model, mesh)
        shares = dict(model.named_parameters())
        trainables.body = [shares[names[id(parameter)]] for parameter in trainables.body]

    def gather(self) -> None:
        self.policy.gather()

    @torch.no_grad()
    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every process gets its share of the averaged gradients, and lets go of whole layers and their gradients one
        by one.
        """
        for layer in self.policy.layers:
            module = cast(nn.Module, layer)
            whole = list(module.parameters())
            layer.reshard()
            for parameter, share in zip(whole, module.parameters(), strict=True):
                assert isinstance(share, DTensor)
                if parameter.grad is None:
                    grad = torch.zeros(share.shape, device=share.device)
                else:
                    grad = parameter.grad
                summed = DTensor.from_local(grad, self.policy.mesh, [Partial()]).redistribute(
                    placements=share.placements
                )
                share.grad, parameter.grad = summed / self.count, None
        super().average([parameter for parameter in parameters if not isinstance(parameter, DTensor)])

    @torch.no_grad()
    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> float:
        """Scale all gradients down to a norm of at most `limit`; returns the norm that they had.

        It is the norm of the whole gradients: squares of shares are added over the processes, and a gradient that
        every process holds whole counts once.
        """
        shares = [p.grad.to_local() for p in parameters if isinstance(p.grad, DTensor)]
        rest = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
        norm = torch.hypot(norm_over_processes(shares), nn.utils.get_total_norm(rest))
        for grad in (*shares, *rest):
            grad.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
        return float(norm)

    def reference(self, start: Reference) -> Reference:
        if isinstance(start, CopiedReference):
            return ShardedReference(start, self.policy)
        return start

    def optimizer(self, trainables: Trainables) -> torch.optim.Optimizer:
        """States of shares are gathered in `saving`; whole ones that are loaded are cut into shares."""
        self.states = trainables.optimizer()
        self.states.register_load_state_dict_pre_hook(self._cut)
        return self.states

    def _cut(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        def share(parameter: Tensor, value: Any) -> Any:
            if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
                return value
            value = value.to(parameter.device)
            # every process has read the same file, so each cuts its own share and none sends anything
            return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)

        shares = {}
        for number, one in state["state"].items():
            shares[number] = {key: share(parameters[number], value) for key, value in one.items()}
        return {**state, "state": shares}

    @contextmanager
    def saving(self) -> Iterator[None]:
        self.policy.release()
        layers = [cast(nn.Module, layer) for layer in self.policy.layers]
        hooks = [
            layer.register_state_dict_post_hook(_replace(_gathered(dict(layer.named_parameters())))) for layer in layers
        ]
        state = self.states.state_dict()
        whole = {**state, "state": {number: _gathered(one) for number, one in state["state"].items()}}
        hooks.append(self.states.register_state_dict_post_hook(lambda *_: whole))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class ShardedReference:
    """The start as a second model, whole only while it is read: the policy is in shares then.

    All processes read together.
    """

    def __init__(self, start: CopiedReference, policy: ShardedLayers) -> None:
        self.model, self.other = start.model, policy
        self.layers = ShardedLayers(start.model, policy.mesh)

    @contextmanager
    def policy(self) -> Iterator[UnifiedModel | None]:
        self.other.release()
        self.layers.gather()
        yield self.model
        self.layers.release()  # not after an error: these wait for the other processes
        self.other.gather()


def whole(tensor: Tensor) -> Tensor:
    """A share completed by those of the others, who must ask for it too; any other tensor as it is."""
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    return tensor


def _gathered(tensors: dict[str, Any]) -> dict[str, Any]:
    """Whole tensors in main memory, on the main process; the others only help."""
    found = {}
    for name, value in tensors.items():
        if isinstance(value, Tensor):
            complete = whole(value.detach())
        else:
            complete = value
        if dist.get_rank() == 0:
            if isinstance(complete, Tensor):
                found[name] = complete.cpu()
            else:
                found[name] = complete
    return found


def _replace(tensors: dict[str, Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        state.update({prefix + name: value for name, value in tensors.items()})

    return hook
