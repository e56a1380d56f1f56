"""Which weights train, at which rate, and the frozen start they are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sync_r1.config import RLConfig
from sync_r1.files import read_tensors
from sync_r1.models.base import UnifiedModel
from sync_r1.training.lora import ADAPTER_FILE, Adapters, adapted_layers
from sync_r1.training.optimizer import OPTIMIZER, make_optimizer

ROWS_FILE = "concept_rows.safetensors"


class ConceptRows:
    """A concept's rows of the shared vocabulary matrices as small parameters of their own.

    Adam rescales gradients, so scaling the gradient of some rows of a matrix does not give them another learning rate,
    and its two moments of a whole vocabulary are large. Instead, each matrix collects a gradient, of which only the
    concept's rows are handed to the small parameter; the optimizer updates that one, and the result is written back
    into the matrix. All other rows never move. The small parameters are fp32 whatever the matrices are: in bf16 an
    update below 0.4 % of a weight would be rounded away.

    Args:
        matrices: [V, …] by name. ids: [K] long, rows of theirs.
    """

    def __init__(self, matrices: dict[str, nn.Parameter], ids: Tensor) -> None:
        self.names, self.matrices, self.ids = list(matrices), list(matrices.values()), ids
        self.rows = [nn.Parameter(matrix.detach()[ids].float()) for matrix in self.matrices]
        self.hooks = []
        for matrix, row in zip(self.matrices, self.rows):
            matrix.requires_grad_(True)
            self.hooks.append(matrix.register_post_accumulate_grad_hook(self._collect(row)))

    def _collect(self, row: nn.Parameter) -> Callable[[Tensor], None]:
        def hook(matrix: Tensor) -> None:
            assert matrix.grad is not None
            mine = matrix.grad[self.ids].float()
            if row.grad is None:
                row.grad = mine
            else:
                row.grad = row.grad + mine
            matrix.grad = None

        return hook

    def release(self) -> None:
        """Let go of the matrices, so that the model can be trained again by another trainer."""
        for hook in self.hooks:
            hook.remove()

    def write_back(self, *_: Any) -> None:
        """Small parameters → matrices (after an optimizer step)."""
        self.put(self.rows)

    @torch.no_grad()
    def put(self, rows: Sequence[Tensor]) -> None:
        """Show the model other rows; the small parameters stay as they are."""
        for matrix, row in zip(self.matrices, rows):
            matrix[self.ids] = row.to(matrix.dtype)

    def save(self, path: Path) -> None:
        """The rows as they train, by the name of their matrix, and their `ids`: a bf16 matrix keeps less."""
        rows = {name: row.detach().cpu() for name, row in zip(self.names, self.rows)}
        save_file({"ids": self.ids.cpu(), **rows}, path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Undo `save`. ValueError when there is no such file or it holds other rows."""
        if not path.is_file():
            raise ValueError(f"{path} is missing: no rows were trained there; set rl.concept_learning_rate=0")
        saved = read_tensors(path)
        mine = {"ids": self.ids, **dict(zip(self.names, self.rows))}
        if {name: value.shape for name, value in saved.items()} != {name: value.shape for name, value in mine.items()}:
            raise ValueError(
                f"{path} holds {sorted(saved)}; {sorted(mine)} train here; set rl.concept_learning_rate as in its "
                "config.yaml"
            )
        for name, row in zip(self.names, self.rows):
            row.copy_(saved[name])
        self.write_back()


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
    """Only concept rows and adapters train: the start is the same model with the first rows put back and the adapters
    off."""

    def __init__(self, model: UnifiedModel, rows: ConceptRows, adapters: Adapters | None) -> None:
        self.model, self.rows, self.adapters = model, rows, adapters
        self.start = [row.detach().clone() for row in rows.rows]

    @contextmanager
    def policy(self) -> Iterator[UnifiedModel | None]:
        self.rows.put(self.start)
        try:
            with self.adapters.off() if self.adapters else nullcontext():
                yield self.model
        finally:
            self.rows.write_back()


def vocabulary_matrices(model: UnifiedModel) -> dict[str, nn.Parameter]:
    """Embedding and head (weight and bias) by name, each once even when tied. Only concept rows of these ever train."""
    wanted = {
        id(p)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings())
        for p in layer.parameters(recurse=False)
    }
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}


class Trainables:
    """The two parameter groups: the transformer body (its weights, or adapters on them) and the concepts' vocabulary
    rows.

    Args:
        model: on its device; whatever does not train is frozen.
        row_ids: [K] long, the concepts' vocabulary rows.
        seed: of the adapters' random start.
    Raises:
        ValueError: nothing would train, or weights that are not fp32 would.
    """

    def __init__(self, model: UnifiedModel, config: RLConfig, row_ids: Tensor, seed: int = 0) -> None:
        self.config = config
        vocabulary = vocabulary_matrices(model)
        shared = {id(matrix) for matrix in vocabulary.values()}
        body = [
            parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in shared
        ]
        self.adapters: Adapters | None = None
        if config.learning_rate == 0:
            body = []
        elif config.lora_rank:
            layers = adapted_layers(model, shared, config.lora_target_modules)
            self.adapters = Adapters(model, layers, rank=config.lora_rank, alpha=config.lora_alpha, seed=seed)
            body = self.adapters.parameters()
        if low := next((parameter.dtype for parameter in body if parameter.dtype != torch.float32), None):
            raise ValueError(
                f"the body is {low} and would lose small updates; load it as fp32 (model.dtype=fp32) or set "
                "rl.lora_rank=16"
            )
        model.requires_grad_(False)
        for parameter in body:
            parameter.requires_grad_(True)
        self.body = body
        self.rows = ConceptRows(
            vocabulary if config.concept_learning_rate > 0 and len(row_ids) else {}, row_ids.to(model.device)
        )
        if not self.parameters():
            raise ValueError(
                "nothing would train: the model has no concept tokens and rl.learning_rate is 0; add a concept or "
                "raise it"
            )

    def parameters(self) -> list[nn.Parameter]:
        return [*self.body, *self.rows.rows]

    def optimizer(self, make: Callable[..., torch.optim.Optimizer] = OPTIMIZER, **settings: Any) -> Any:
        """The optimizer of both groups; updated rows go back into the matrices after every step.

        Args:
            make: the class, or one that wraps it.
            settings: what `make` wants beside the parameters and their settings.
        """
        rl = self.config
        groups = [
            {"params": self.body, "lr": rl.learning_rate, "weight_decay": rl.weight_decay},
            {"params": self.rows.rows, "lr": rl.concept_learning_rate, "weight_decay": 0.0},
        ]
        betas = (rl.adam_beta1, rl.adam_beta2)
        return make_optimizer(groups, self.rows.write_back, make, betas=betas, **settings)

    def reference(self, model: UnifiedModel) -> Reference:
        """The start, kept as cheaply as possible: a second model only when the body's own weights train."""
        if self.config.beta == 0:
            return NoReference()
        if self.body and not self.adapters:
            return CopiedReference(model)
        return SwitchedReference(model, self.rows, self.adapters)

    def save(self, model: UnifiedModel, folder: Path) -> None:
        """Plain weights that any session opens, adapters added in.

        And adapters and rows by themselves, for an exact resume.
        """
        with self.adapters.merged() if self.adapters else nullcontext():
            model.save_pretrained(folder)
        if self.adapters:
            self.adapters.save(folder)
        if self.rows.rows:
            self.rows.save(folder / ROWS_FILE)

    def load(self, model: UnifiedModel, folder: Path) -> None:
        """Undo `save`. ValueError when the checkpoint was made with other adapters or rows."""
        adapted = (folder / ADAPTER_FILE).exists()
        if self.adapters and not adapted:
            raise ValueError(f"{folder} was trained without adapters; set rl.lora_rank=0")
        if adapted and not self.adapters:
            raise ValueError(f"{folder} was trained with adapters; set rl.lora_rank as in its config.yaml")
        if self.adapters:
            self.adapters.load(folder)
        else:
            model.load_weights(read_tensors(folder / "model.safetensors"), str(folder))
        if self.rows.rows:
            self.rows.load(folder / ROWS_FILE)
