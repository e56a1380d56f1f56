"""Concepts in UniCTokens' files: `epoch_<N>_{embed,lm_head_weight,lm_head_bias}.pt`, plain fp32 tensors, row 0 the
placeholder's."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import torch
from torch import Tensor

from sync_r1.files import write_bytes
from sync_r1.models.base import ConceptTokens, Rows, UnifiedModel
from sync_r1.models.concept_tokens import concept_row_ids, install_concept

PARTS = ("embed", "lm_head_weight", "lm_head_bias")
SHARED, DRAWING = 16, 24  # UniCTokens: tokens of stage 1, and those of stages 1 and 2


def concept_paths(folder: str | Path, epoch: int) -> list[Path]:
    """The three files of one concept, in the order of `Rows`."""
    return [Path(folder) / f"epoch_{epoch}_{part}.pt" for part in PARTS]


def token_roles(count: int) -> tuple[int, int | None]:
    """(read, draw) of a concept with `count` soft tokens: UniCTokens' for its 16, 24 and 32, else none and all."""
    if count in (16, 24, 32):
        return (min(SHARED, count), min(DRAWING, count))
    return (0, None)


def import_concept(model: UnifiedModel, folder: str | Path, epoch: int, name: str, class_noun: str) -> ConceptTokens:
    """Give the model a concept of UniCTokens, rows [K, hidden], [K, hidden], [K].

    Raises:
        ValueError: a file is missing or holds more than a tensor, or the sizes are not the model's.
    """
    rows = Rows(*(_read(path) for path in concept_paths(folder, epoch)))
    known = next((other for other in model.concepts if other.name == name), None)
    if known is not None:
        return install_concept(model, known, rows)
    first = sum(len(concept.tokens) for concept in model.concepts)
    tokens = [f"<token_{first + i}>" for i in range(len(rows.embed) - 1)]
    read, draw = token_roles(len(tokens))
    return install_concept(model, ConceptTokens(name, tokens, class_noun, read=read, draw=draw), rows)


def export_concept(model: UnifiedModel, name: str, folder: str | Path, epoch: int) -> list[Path]:
    """Write the three files of one concept; returns their paths. ValueError for a name the model does not know."""
    rows = model.read_rows(concept_row_ids(model, name).tolist())
    paths = concept_paths(folder, epoch)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, value in zip(paths, (rows.embed, rows.head_weight, rows.head_bias), strict=True):
        buffer = io.BytesIO()
        torch.save(value.float().cpu().clone(), buffer)
        write_bytes(path, buffer.getvalue())
    return paths


def _read(path: Path) -> Tensor:
    if not path.is_file():
        found = ", ".join(sorted(item.name for item in path.parent.glob("epoch_*.pt"))) or "none"
        raise ValueError(
            f"{path} is missing; a concept has {', '.join(f'epoch_<N>_{part}.pt' for part in PARTS)} (found: {found})"
        )
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it holds Python objects besides tensors, and opening it could run code"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]}); copy it again") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{path} holds a {type(value).__name__}; expected one tensor")
    return value.detach()
