"""Learnable vocabulary rows of personal concepts: add, address, save, load."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sync_r1.files import write_bytes
from sync_r1.models.base import ConceptTokens, Rows, UnifiedModel
from sync_r1.models.concept_init import Init, start_rows
from sync_r1.models.weight_files import FLOATS

SOFT_TOKEN = re.compile(r"<token_[0-9]{1,6}>")


def add_concept(
    model: UnifiedModel,
    name: str,
    class_noun: str,
    num_tokens: int = 4,
    init: Init = "class-noun",
    *,
    reading_tokens: int = 0,
    drawing_tokens: int | None = None,
    photos: Sequence[Path] = (),
    face: Tensor | None = None,
    seed: int = 0,
) -> ConceptTokens:
    """Teach the vocabulary "<name>" and `num_tokens` soft tokens; codes and mask move up, their rows unchanged.

    Args:
        init: what the rows start as: "class-noun" (the mean of the noun's rows), "images" (soft tokens from `photos`)
            or "none" (noise). Unless it is "none", "<name>" starts as a copy of a pool name the model met in
            pretraining, if it has any left, so that it can already be copied in text.
        reading_tokens: how many of the first soft tokens introduce the concept in understanding prompts.
        drawing_tokens: how many of the first soft tokens go into drawing prompts; None is all. Those behind them only
            introduce.
        face: mean ArcFace embedding [512] of a person, for the tokens of "images" that are for drawing alone.
    Soft tokens and pool names are never written as text afterwards: they are only read. Soft tokens of later concepts
    continue the numbering. Raises ValueError for an unusable name, a token that exists already, an empty class noun or
    impossible numbers.
    """
    if drawing_tokens is None:
        drawing = num_tokens
    else:
        drawing = drawing_tokens
    if not 0 <= reading_tokens <= drawing <= num_tokens:
        raise ValueError(
            f"num_tokens is {num_tokens}, drawing_tokens {drawing_tokens}, reading_tokens {reading_tokens}; they must "
            "satisfy 0 <= reading_tokens <= drawing_tokens <= num_tokens: the tokens for reading are the first of "
            "those for drawing"
        )
    first = sum(len(concept.tokens) for concept in model.concepts)
    tokens = [f"<token_{first + i}>" for i in range(num_tokens)]
    if init == "none":
        pool_name = None
    else:
        pool_name = _unused_pool_name(model)
    concept = ConceptTokens(name, tokens, class_noun, pool_name, reading_tokens, drawing_tokens)
    return _insert(model, concept, start_rows(model, concept, init, photos, face, seed))


def concept_row_ids(model: UnifiedModel, name: str | None = None) -> Tensor:
    """Vocabulary ids [K] long of one concept, or of all. Raises ValueError for a name the model does not know."""
    chosen = [concept for concept in model.concepts if name in (None, concept.name)]
    if name is not None and not chosen:
        raise ValueError(f"the model has no concept {name!r}; it knows {[concept.name for concept in model.concepts]}")
    return torch.tensor(_ids(model, [token for concept in chosen for token in concept.all_tokens]), dtype=torch.long)


def learned_row_ids(model: UnifiedModel) -> Tensor:
    """Vocabulary ids that training may move: all concept rows but names taken from the pool.

    A pool name is a word the model can already copy from a context into an answer. Its embedding and its head row
    belong together; a step of the size that soft tokens need pulls them apart and the model stops writing the name
    (docs/log.md).
    """
    kept = {concept.placeholder for concept in model.concepts if concept.pool_name is not None}
    tokens = [token for concept in model.concepts for token in concept.all_tokens if token not in kept]
    return torch.tensor(_ids(model, tokens), dtype=torch.long)


def save_concept(model: UnifiedModel, name: str, path: str | Path) -> None:
    """Write one concept's rows and names to a .safetensors file."""
    rows = model.read_rows(concept_row_ids(model, name).tolist())
    concept = next(concept for concept in model.concepts if concept.name == name)
    details = {"name": concept.name, "class_noun": concept.class_noun, "tokens": json.dumps(concept.tokens)}
    if concept.pool_name is not None:
        details["pool_name"] = concept.pool_name
    details["read"] = str(concept.read)
    if concept.draw is not None:
        details["draw"] = str(concept.draw)
    values = {"embed": rows.embed, "head_weight": rows.head_weight, "head_bias": rows.head_bias}
    write_bytes(Path(path), save({key: value.cpu().contiguous() for key, value in values.items()}, metadata=details))


def load_concept(model: UnifiedModel, path: str | Path) -> ConceptTokens:
    """Read rows of `save_concept`: adds the concept, or overwrites its rows if the model has it.

    ValueError on other sizes.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is not a concept file written by save_concept: no such file")
    try:
        with safe_open(path, "pt") as file:
            details = file.metadata() or {}
            rows = Rows(*(file.get_tensor(key) for key in ("embed", "head_weight", "head_bias")))
    except (OSError, SafetensorError, MemoryError) as error:
        reason = "it is too large" if isinstance(error, MemoryError) else error
        raise ValueError(f"{path} is not a concept file written by save_concept: {reason}") from error
    if not {"name", "tokens"} <= details.keys():
        raise ValueError(f"{path} does not name its concept; write it with save_concept")
    for key, value in zip(("embed", "head_weight", "head_bias"), (rows.embed, rows.head_weight, rows.head_bias)):
        if value.dtype not in FLOATS or not torch.isfinite(value).all():
            raise ValueError(
                f"{path}: {key} must hold finite floats, not {value.dtype} with NaN or infinite numbers; train it again"
            )
    try:
        tokens, read = json.loads(details["tokens"]), int(details.get("read", 0))
        draw = None
        if "draw" in details:
            draw = int(details["draw"])
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: tokens, read or draw cannot be read ({str(error)[:80]}); write it with save_concept"
        ) from error
    numbered = isinstance(tokens, list) and all(
        isinstance(token, str) and SOFT_TOKEN.fullmatch(token) for token in tokens
    )
    if not numbered or len(set(tokens)) < len(tokens):
        raise ValueError(f"{path}: tokens is {details['tokens']!r:.80}; it must list distinct texts like <token_0>")
    if not 0 <= read <= (len(tokens) if draw is None else draw) <= len(tokens):
        raise ValueError(f"{path}: read is {read}, draw {draw}; they must satisfy 0 <= read <= draw <= {len(tokens)}")
    concept = ConceptTokens(
        details["name"], tokens, details.get("class_noun", ""), details.get("pool_name"), read, draw
    )
    return install_concept(model, concept, rows)


def copy_concept(model: UnifiedModel, source: UnifiedModel, name: str) -> ConceptTokens:
    """Give the model a concept that another model of its size learned.

    Its soft tokens get the next free numbers. A placeholder that was taken from the name pool becomes another name of
    the pool here, if one is left, so that two concepts that took the same name stay apart.

    ValueError when the source does not know the concept, the model does, or the sizes differ.
    """
    rows = source.read_rows(concept_row_ids(source, name).tolist())
    learned = next(concept for concept in source.concepts if concept.name == name)
    first = sum(len(concept.tokens) for concept in model.concepts)
    tokens = [f"<token_{first + number}>" for number in range(len(learned.tokens))]
    pool_name = None
    if learned.pool_name is not None:
        pool_name = _unused_pool_name(model)
    concept = ConceptTokens(name, tokens, learned.class_noun, pool_name, learned.read, learned.draw)
    installed = install_concept(model, concept, rows)
    if pool_name is not None:
        own, copied = _ids(model, [concept.placeholder, pool_name])
        model.write_rows([own], model.read_rows([copied]))
    return installed


def install_concept(model: UnifiedModel, concept: ConceptTokens, rows: Rows) -> ConceptTokens:
    """Give the model a concept with trained rows [K, hidden], row 0 the placeholder's."""
    width = model.read_rows([0]).embed.shape[1]
    expected = (len(concept.all_tokens), width)
    if rows.embed.shape != expected or rows.head_weight.shape != expected or rows.head_bias.shape != expected[:1]:
        raise ValueError(
            f"concept {concept.name!r} has rows {tuple(rows.embed.shape)}, {tuple(rows.head_weight.shape)}, "
            f"{tuple(rows.head_bias.shape)}; this model needs {expected}, {expected}, {expected[:1]}"
        )
    known = next((other for other in model.concepts if other.name == concept.name), None)
    if known is None:
        return _insert(model, concept, rows)
    if known.tokens != concept.tokens:
        raise ValueError(
            f"concept {concept.name!r} has tokens {known.tokens} in the model but {concept.tokens} in the file"
        )
    model.write_rows(concept_row_ids(model, concept.name).tolist(), rows)
    return known


def _insert(model: UnifiedModel, concept: ConceptTokens, rows: Rows) -> ConceptTokens:
    if not re.fullmatch(r"[\w-]+", concept.name):
        raise ValueError(f"concept name is {concept.name!r}; use letters, digits, _ and - only, without < >")
    vocabulary = model.tokenizer.get_vocab()
    if taken := [token for token in concept.all_tokens if token in vocabulary]:
        raise ValueError(f"{taken} are in the vocabulary already; choose another name than {concept.name!r}")
    model.insert_concept(concept, rows)
    model.suppress(_ids(model, [*concept.tokens, *model.name_pool]))
    return concept


def _unused_pool_name(model: UnifiedModel) -> str | None:
    used = {concept.pool_name for concept in model.concepts}
    unused = [name for name in model.name_pool if name not in used]
    if model.name_pool and not unused:
        warnings.warn(
            (
                f"all {len(model.name_pool)} pool names are in use; this concept starts at its class noun and cannot "
                "be copied in text yet"
            ),
            stacklevel=3,
        )
    if unused:
        return unused[0]
    return None


def _ids(model: UnifiedModel, tokens: Sequence[str]) -> list[int]:
    vocabulary = model.tokenizer.get_vocab()
    return [vocabulary[token] for token in tokens]
