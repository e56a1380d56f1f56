"""Which weights train, at which rate, and the frozen start they are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sync_r1.config import RLConfig
from sync_r1.manifest import read_tensors
from sync_r1.models.base import UnifiedModel
from sync_r1.rl.lora import Adapters

ADAPTER_FILE = "adapter.safetensors"


class ConceptRows:
    """A concept's rows of the shared vocabulary matrices as small parameters of their own.

    Adam rescales gradients, so scaling the gradient of some rows of a matrix does not give them another learning rate, and its two
    moments of a whole vocabulary are large. Instead, each matrix collects a gradient, of which only the concept's rows are handed to
    the small parameter; the optimizer updates that one, and the result is written back into the matrix. All other rows never move.
    """

    def __init__(self, matrices: list[nn.Parameter], ids: Tensor) -> None:
        self.matrices, self.ids = matrices, ids
        self.rows = [nn.Parameter(matrix.detach()[ids].clone()) for matrix in matrices]
        self.hooks = []
        for matrix, row in zip(matrices, self.rows):
            matrix.requires_grad_(True)
            self.hooks.append(matrix.register_post_accumulate_grad_hook(self._collect(row)))

    def _collect(self, row: nn.Parameter) -> Callable[[Tensor], None]:
        def hook(matrix: Tensor) -> None:
            assert matrix.grad is not None
            mine = matrix.grad[self.ids]
            row.grad = mine if row.grad is None else row.grad + mine
            matrix.grad = None

        return hook

    def release(self) -> None:
        """Let go of the matrices, so that the model can be trained again by somebody else."""
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def write_back(self, *_: Any) -> None:
        """Small parameters → matrices (after an optimizer step)."""
        for matrix, row in zip(self.matrices, self.rows):
            matrix[self.ids] = row

    @torch.no_grad()
    def read(self) -> None:
        """Matrices → small parameters (after loading a checkpoint)."""
        for matrix, row in zip(self.matrices, self.rows):
            row.copy_(matrix[self.ids])


class Reference(Protocol):
    """The frozen start for the KL term."""

    def policy(self) -> Any: ...


class NoReference:
    """KL is off."""

    @contextmanager
    def policy(self) -> Iterator[UnifiedModel | None]:
        yield None


class CopiedReference:
    """The body trains, so the start is a second model."""

    def __init__(self, model: UnifiedModel) -> None:
        frozen = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
        self.model = copy.deepcopy(model, dict(frozen)).eval().requires_grad_(False)  # shares what never moves

    @contextmanager
    def policy(self) -> Iterator[UnifiedModel | None]:
        yield self.model


class SwitchedReference:
    """Only concept rows and adapters train: the start is the same model with the first rows put back and the adapters off."""

    def __init__(self, model: UnifiedModel, rows: ConceptRows, adapters: Adapters | None) -> None:
        self.model, self.rows, self.adapters = model, rows, adapters
        self.start = [row.detach().clone() for row in rows.rows]

    @contextmanager
    def policy(self) -> Iterator[UnifiedModel | None]:
        self._put(self.start)
        try:
            with self.adapters.off() if self.adapters else nullcontext():
                yield self.model
        finally:
            self.rows.write_back()

    @torch.no_grad()
    def _put(self, rows: list[Tensor]) -> None:
        for matrix, row in zip(self.rows.matrices, rows):
            matrix[self.rows.ids] = row


def vocabulary_matrices(model: UnifiedModel) -> list[nn.Parameter]:
    """Embedding and head (weight and bias), each once even when tied. Only concept rows of these ever train."""
    family = cast(Any, model)  # the accessors have transformers' names
    layers: list[nn.Module] = [family.get_input_embeddings(), family.get_output_embeddings()]
    return list({id(p): p for layer in layers for p in layer.parameters(recurse=False)}.values())


class Trainables:
    """The two parameter groups: the transformer body (its weights, or adapters on them) and the concepts' vocabulary rows.

    Args:
        model: on its device; whatever does not train is frozen.
        row_ids: [K] long, the concepts' vocabulary rows.
        seed: of the adapters' random half.
    Raises:
        ValueError: nothing would train.
    """

    def __init__(self, model: UnifiedModel, config: RLConfig, row_ids: Tensor, seed: int = 0) -> None:
        self.config = config
        vocabulary = vocabulary_matrices(model)
        shared = {id(matrix) for matrix in vocabulary}
        body = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in shared]
        self.adapters: Adapters | None = None
        if config.learning_rate == 0:
            body = []
        elif config.lora_rank:
            self.adapters = Adapters(model, rank=config.lora_rank, alpha=config.lora_alpha, seed=seed, spare=shared)
            body = self.adapters.parameters()
        model.requires_grad_(False)
        for parameter in body:
            parameter.requires_grad_(True)
        self.body = body
        self.rows = ConceptRows(vocabulary if config.concept_learning_rate > 0 and len(row_ids) else [], row_ids.to(model.device))
        if not self.parameters():
            raise ValueError("nothing would train: the model has no concept tokens and rl.learning_rate is 0; add a concept or raise it")

    def parameters(self) -> list[nn.Parameter]:
        return [*self.body, *self.rows.rows]

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over both groups; updated rows go back into the matrices after every step."""
        rl = self.config
        groups = [
            {"params": self.body, "lr": rl.learning_rate, "weight_decay": rl.weight_decay},
            {"params": self.rows.rows, "lr": rl.concept_learning_rate, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], betas=(rl.adam_beta1, rl.adam_beta2))
        optimizer.register_step_post_hook(self.rows.write_back)
        return optimizer

    def reference(self, model: UnifiedModel) -> Reference:
        """The start, kept as cheaply as possible: a second model only when the body's own weights train."""
        if self.config.beta == 0:
            return NoReference()
        if self.body and not self.adapters:
            return CopiedReference(model)
        return SwitchedReference(model, self.rows, self.adapters)

    def save(self, model: UnifiedModel, folder: Path) -> None:
        """Plain weights that any session opens, adapters added in; and the adapters themselves, for an exact resume."""
        with self.adapters.merged() if self.adapters else nullcontext():
            model.save_pretrained(folder)
        if self.adapters:
            parameters = [*self.body, *self.rows.rows]
            save_file({f"{i:04d}": parameter.detach().cpu() for i, parameter in enumerate(parameters)}, folder / ADAPTER_FILE)

    @torch.no_grad()
    def load(self, model: UnifiedModel, folder: Path) -> None:
        """Undo `save`. ValueError when the checkpoint was made with other adapters."""
        if not self.adapters:
            if (folder / ADAPTER_FILE).exists():
                raise ValueError(f"{folder} was trained with adapters; set rl.lora_rank as in its config.yaml")
            cast(Any, model).load_weights(read_tensors(folder / "model.safetensors"), str(folder))
            self.rows.read()
            return
        if not (folder / ADAPTER_FILE).exists():
            raise ValueError(f"{folder} was trained without adapters; set rl.lora_rank=0")
        saved = read_tensors(folder / ADAPTER_FILE)
        parameters = self.parameters()
        if [list(value.shape) for _, value in sorted(saved.items())] != [list(parameter.shape) for parameter in parameters]:
            raise ValueError(f"{folder} was trained with adapters of other sizes; set rl.lora_rank as in its config.yaml")
        for parameter, (_, value) in zip(parameters, sorted(saved.items())):
            parameter.copy_(value)
        self.rows.write_back()
