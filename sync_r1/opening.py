"""What a session is made of when it asks or draws: a model or run, data and a concept, found by their names.

A training opens its own in open_run.py.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sync_r1.config import Config, EvalConfig, ModelConfig
from sync_r1.constants import WORLD
from sync_r1.data import Concept, list_concepts, load_concept
from sync_r1.files import read_tensors
from sync_r1.models import loading
from sync_r1.models.base import ConceptTokens, UnifiedModel
from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.loading import pick_device
from sync_r1.models.weight_files import put_parameters
from sync_r1.run_folder import (
    AFTER_FILE,
    checkpoint_to_use,
    config_of,
    data_of,
    has_adapters,
    name_of,
    weights_of,
)
from sync_r1.world.export import data_folder


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model and a concept, and how a run says that they are used."""

    model: UnifiedModel
    concept: Concept
    others: list[Concept]  # may be drawn beside it
    root: Path  # data root of the concept
    run: str  # where the weights come from, for the record
    options: EvalConfig
    settings: ModelConfig


def open_model_and_concept(
    model: str | Path,
    data: str | Path | None,
    concepts: Sequence[str],
    checkpoint: str | Path | None,
    device: str,
    options: EvalConfig | None,
    settings: ModelConfig | None,
) -> Opened:
    """What the arguments of `Session.open` name. Raises ValueError as it says."""
    step = checkpoint_to_use(checkpoint) if checkpoint is not None else None
    config = config_of(step) if step is not None else Config()
    source = str(data or (WORLD if step is None else data_of(step)))
    names = list(concepts) or [only_concept(source, config.data.concepts)]
    _check_different(names, names)
    root = data_folder(source, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about training prompts; nothing is trained here
        known = [load_concept(root, name, allow_empty_facts=True, verify=False) for name in names]
    _check_different([concept.name for concept in known], names)  # one may be named by its id and by its name
    settings = settings or config.model
    if step is not None and has_adapters(step):
        # its adapters were added in fp32; bf16 would round small ones away
        settings = dataclasses.replace(settings, dtype="fp32")
    return Opened(
        model=load_model(model if step is None else weights_of(step), device, settings),
        concept=known[0],
        others=known[1:],
        root=root,
        run=str(model) if step is None else name_of(step),
        options=options or config.eval,
        settings=settings,
    )


def apply_update(model: UnifiedModel, checkpoint: str | Path) -> None:
    """Where a checkpoint is an update from feedback: what it changed, over its base with the concept's tokens.

    ValueError for tensors that are not this model's.
    """
    file = checkpoint_to_use(checkpoint) / AFTER_FILE
    if file.is_file():
        put_parameters(model, read_tensors(file))


def tokens_of(
    model: UnifiedModel, concept: Concept, settings: ModelConfig, face: Tensor | None = None
) -> ConceptTokens:
    """The vocabulary of a concept; one that the model lacks gets new tokens, as many and started as `settings` say.

    Args:
        face: mean face embedding [512] of a person, with settings.init = "images".
    """
    known = {tokens.name: tokens for tokens in model.concepts}
    if concept.name in known:
        return known[concept.name]
    return add_concept(
        model,
        concept.name,
        concept.class_noun,
        settings.num_tokens,
        settings.init,
        reading_tokens=settings.reading_tokens,
        drawing_tokens=settings.drawing_tokens,
        photos=concept.train_images,
        face=face,
    )


def load_model(path: str | Path, device: str = "auto", settings: ModelConfig | None = None) -> UnifiedModel:
    """Read a model onto a device: "world", or whatever `models.loading.load_model` reads.

    ValueError when it is none.
    """
    settings = settings or ModelConfig()
    if str(path) == WORLD:
        from sync_r1.world.assets import load_world_model

        return load_world_model().to(pick_device(device)).eval()
    return loading.load_model(
        path,
        device=device,
        dtype=loading.DTYPES[settings.dtype],
        image_tokenizer=settings.image_tokenizer,
        text_tokenizer=settings.text_tokenizer,
    )


def only_concept(source: str, trained: Sequence[str]) -> str:
    """The concept that needs no naming: the one that was trained, or the only one of the data.

    ValueError names the concepts when there are several.
    """
    names = list(trained) or concept_names(source)
    if len(names) == 1:
        return names[0]
    raise ValueError(
        f"which concept? name one of {', '.join(names) or 'none yet: add one with `sync-r1 concept add`'} with "
        "--concept"
    )


def concept_names(source: str) -> list[str]:
    """Names of the concepts of a data root, or of the embedded world."""
    if source == WORLD:
        from sync_r1.world.concepts import personas

        return list(personas())
    return list_concepts(source)


def _check_different(found: Sequence[str], names: Sequence[str]) -> None:
    if len(set(found)) < len(found):
        raise ValueError(f"the concepts are {', '.join(names)}; name every concept once")
