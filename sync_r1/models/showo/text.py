"""Writing and its replay. B rows, D distinct contexts, P prefix tokens, L completion tokens, V text ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sync_r1.models.decoding import check_writing, check_written, write
from sync_r1.models.sampling import chosen_logps
from sync_r1.models.sequences import GrowingCache, distinct
from sync_r1.models.showo.network import ShowoNetwork
from sync_r1.models.showo.prefix import Prefix
from sync_r1.models.showo.prompting import Batch, build_mmu, text_ids
from sync_r1.types import OnToken, Sampling, TextCompletions, TextContext


def context_batch(model: ShowoNetwork, contexts: Sequence[TextContext]) -> tuple[Batch, Tensor]:
    """Distinct contexts as one left-padded batch, and the row of each context among them [B]."""
    keys = [(c.text, None if c.image is None else tuple(c.image.tolist())) for c in contexts]
    unique, index = distinct(keys)
    blank = None
    if model.config.text_only_image and any(codes is None for _, codes in unique):
        blank = model.blank_codes()
    pictures = [blank if codes is None else torch.tensor(codes) for _, codes in unique]
    texts = [text_ids(model.tokenizer, text) for text, _ in unique]
    return build_mmu(model.config, pictures, texts).to(model.device), index.to(model.device)


def text_logits(model: ShowoNetwork, hidden: Tensor, suppressed: Tensor) -> Tensor:
    """fp32 logits [..., V] of hidden [..., H]; -inf for the ids `suppressed`, which are never written."""
    return model.head(hidden, model.config.text_rows).float().index_fill(-1, suppressed, -torch.inf)


def generate(
    model: ShowoNetwork,
    contexts: Sequence[TextContext],
    sampling: Sampling,
    seeds: Sequence[int],
    on_token: OnToken | None = None,
) -> TextCompletions:
    """See UnifiedModel.generate_text. Contexts are read once each; decoding stops when every row has ended."""
    check_writing(contexts, seeds)
    config = model.config
    batch, index = context_batch(model, contexts)
    prefix = Prefix.encode(model, batch).select(index)
    assert prefix.cache is not None and prefix.last is not None, "nothing is recomputed while generating"
    cache = GrowingCache(prefix.cache, sampling.max_completion_length - 1)
    seen = F.pad(prefix.batch.ids != config.pad_id, (0, sampling.max_completion_length - 1), value=True)[
        :, None, None, :
    ]
    padded = not bool(seen.all())
    suppressed = torch.tensor(config.suppressed_ids, device=model.device)  # moved once, not for every token

    def following(token: Tensor) -> Tensor:
        mask = None
        if padded:
            mask = seen[..., : cache.get_seq_length() + 1]
        return text_logits(model, model.hidden(token[:, None], mask, cache)[:, 0], suppressed)

    logits = text_logits(model, prefix.last, suppressed)
    return write(
        logits,
        following,
        sampling,
        seeds,
        model.tokenizer,
        end_id=config.eos_id,
        pad_id=config.pad_id,
        on_token=on_token,
    )


def replay(
    model: ShowoNetwork, contexts: Sequence[TextContext], ids: Tensor, mask: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """See UnifiedModel.text_logps. The head runs on real tokens only."""
    check_written(contexts, ids, mask)
    mask = mask.bool()
    batch, index = context_batch(model, contexts)
    own = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
    hidden = Prefix.encode(model, batch).select(index).extend(model, ids, own, F.pad(mask, (0, 1)))
    suppressed = torch.tensor(model.config.suppressed_ids, device=hidden.device)
    logps, entropy = chosen_logps(text_logits(model, hidden, suppressed), ids[mask], sampling)
    zeros = torch.zeros(ids.shape, device=ids.device)
    return zeros.masked_scatter(mask, logps), zeros.masked_scatter(mask, entropy)
