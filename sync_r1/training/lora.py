"""Low-rank adapters on the transformer body (LoRA, arXiv 2106.09685), by peft: few weights train.

Switched off they give the start back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from sync_r1.files import read_tensors

ADAPTER_FILE = "adapter_model.safetensors"  # beside adapter_config.json: peft's own format
PREFIX = "base_model.model."  # of tensor names in that format
NAME = "default"


def adapted_layers(model: nn.Module, spare: set[int], only: Sequence[str] = ()) -> list[str]:
    """Names of the linear layers that get an adapter: those whose weight trains and is not in `spare` (ids of weights).

    Args:
        only: last parts of names, such as "q_proj"; empty is every layer.
    Raises:
        ValueError: no layer is left, or an entry of `only` names none.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad and id(module.weight) not in spare
    ]
    if not names:
        raise ValueError("rl.lora_rank is set but the model has no trainable linear layer; set rl.lora_rank=0")
    if unknown := [wanted for wanted in only if not any(ends_with(name, wanted) for name in names)]:
        known = sorted({name.rpartition(".")[2] for name in names})
        raise ValueError(f"rl.lora_target_modules names {', '.join(unknown)}; this model has {', '.join(known)}")
    found: list[str] = []
    for name in names:
        if not only or any(ends_with(name, wanted) for wanted in only):
            found.append(name)
    return found


def ends_with(name: str, part: str) -> bool:
    return name == part or name.endswith(f".{part}")


class Adapters:
    """LoRA beside linear layers of a model, in place and without dropout: replay must see the policy that rolled out.

    Args:
        model: changed in place. Adapters are fp32 whatever the weights are; bf16 would lose small updates.
        layers: names of the linear layers, from `adapted_layers`.
        rank: r. alpha: scale numerator, alpha / r; 2·r is common.
        seed: of A, which starts at random (B starts at 0), so that two runs start alike.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], *, rank: int, alpha: float, seed: int) -> None:
        settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers), lora_dropout=0.0)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):  # adapters are drawn on the CPU: equal on every device
            torch.manual_seed(seed)
            inject_adapter_in_model(settings, model, NAME)
        self.model, self.settings = model, settings
        self.places = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
        assert sorted(self.places) == sorted(layers), "adapters sit where they were asked for"
        for parameter in self.parameters():
            parameter.data = parameter.data.float()

    def parameters(self) -> list[nn.Parameter]:
        """A [r, in] and B [out, r] of every layer."""
        factors = [factor[NAME] for layer in self.places.values() for factor in (layer.lora_A, layer.lora_B)]
        return [parameter for factor in factors for parameter in factor.parameters()]

    @contextmanager
    def off(self) -> Iterator[None]:
        """The body as it was at the start."""
        self._switch(False)
        try:
            yield
        finally:
            self._switch(True)

    def _switch(self, enabled: bool) -> None:
        for layer in self.places.values():
            layer.enable_adapters(enabled)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """The model as plain layers with the adapters added in, to save it; exactly as before afterwards.

        Merged weights are fp32 and lie in main memory, so that nothing is rounded away and no accelerator memory is
        taken.
        """
        for name, layer in self.places.items():
            self._put(name, _merged_layer(layer))
        try:
            yield
        finally:
            for name, layer in self.places.items():
                self._put(name, layer)

    def _put(self, name: str, layer: nn.Module) -> None:
        parent, _, child = name.rpartition(".")
        setattr(self.model.get_submodule(parent), child, layer)

    def tensors(self) -> dict[str, Tensor]:
        """A and B under the names of peft's published format."""
        found = get_peft_model_state_dict(self.model, adapter_name=NAME, save_embedding_layers=False)
        return {PREFIX + name: value for name, value in found.items()}

    def save(self, folder: Path) -> None:
        """Write adapter_config.json and adapter_model.safetensors, which `peft.PeftModel.from_pretrained` opens."""
        self.settings.save_pretrained(str(folder))
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}, folder / ADAPTER_FILE
        )

    def load(self, folder: Path) -> None:
        """Undo `save`. ValueError when the folder's adapters have another scale, or sit elsewhere or are of other
        sizes.
        """
        saved, settings = read_tensors(folder / ADAPTER_FILE), LoraConfig.from_pretrained(str(folder))
        if {name: value.shape for name, value in saved.items()} != {
            name: value.shape for name, value in self.tensors().items()
        }:
            raise ValueError(
                f"{folder} was trained with adapters of other sizes or places; set rl.lora_* as in its config.yaml"
            )
        if settings.lora_alpha != self.settings.lora_alpha:
            raise ValueError(
                f"{folder} was trained with rl.lora_alpha={settings.lora_alpha:g}; it is {self.settings.lora_alpha:g} "
                "now"
            )
        set_peft_model_state_dict(self.model, {name.removeprefix(PREFIX): value for name, value in saved.items()}, NAME)


@torch.no_grad()
def _merged_layer(layer: LoraLinear) -> nn.Linear:
    base = cast(nn.Linear, layer.get_base_layer())
    merged = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
    merged.weight = nn.Parameter((base.weight.float() + layer.get_delta_weight(NAME)).cpu(), requires_grad=False)
    if base.bias is not None:
        merged.bias = nn.Parameter(base.bias.float().cpu(), requires_grad=False)
    return merged
