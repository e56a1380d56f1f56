"""Writing and its replay. D distinct contexts, P prompt tokens, L completion tokens, H hidden size, V text ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sync_r1.models.decoding import check_writing, check_written, write
from sync_r1.models.janus.kv_stream import KVStream, Prefix
from sync_r1.models.janus.network import JanusNetwork
from sync_r1.models.janus.prompting import pad_rows, reading_ids
from sync_r1.models.sampling import chosen_logps
from sync_r1.models.sequences import distinct
from sync_r1.types import OnToken, Sampling, TextCompletions, TextContext


def embed_contexts(
    model: JanusNetwork, contexts: Sequence[TextContext], max_new_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct contexts as one left-padded batch: embeddings [D, P, H], which are real [D, P]; and every context's row
    among them [B].

    Raises ValueError for a picture that is not `look`'s, or a context that leaves no `max_new_tokens` positions
    for an answer.
    """
    unique, index = distinct([(context.text, _key(model, context.image)) for context in contexts])
    pictures = {_key(model, context.image): context.image for context in contexts}
    system, size = model.extras.system_prompt, model.num_image_tokens
    rows = [
        reading_ids(model.special_tokens, model.tokenizer, text, size if picture else 0, system)
        for text, picture in unique
    ]
    model.check_length(max(map(len, rows)), max_new_tokens)
    ids, valid = (tensor.to(model.device) for tensor in pad_rows(rows, model.special_tokens.pad))
    embeds = model.get_input_embeddings()(ids)
    shown, place = distinct([picture for _, picture in unique if picture])
    if shown:
        pixels = torch.stack([image for picture in shown if (image := pictures[picture]) is not None])
        features = model.see(pixels)[place.to(model.device)]
        embeds = embeds.masked_scatter((ids == model.special_tokens.image)[..., None], features.to(embeds.dtype))
    return embeds, valid, index.to(model.device)


def _key(model: JanusNetwork, image: Tensor | None) -> bytes:
    if image is None:
        return b""
    expected = (3, model.image_size, model.image_size)
    if image.dtype != torch.uint8 or image.shape != expected:
        raise ValueError(
            f"a context shows {image.dtype} {tuple(image.shape)}; Janus reads what model.look(images) returns: uint8 "
            f"{expected}, not codes"
        )
    return image.cpu().numpy().tobytes()


def text_logits(model: JanusNetwork, hidden: Tensor) -> Tensor:
    """fp32 logits [..., V] of hidden [..., H]; -inf for ids that are never written."""
    return (
        model.head(hidden).float().index_fill(-1, torch.tensor(model.suppressed_ids, device=hidden.device), -torch.inf)
    )


def generate(
    model: JanusNetwork,
    contexts: Sequence[TextContext],
    sampling: Sampling,
    seeds: Sequence[int],
    on_token: OnToken | None = None,
) -> TextCompletions:
    """See UnifiedModel.generate_text. Contexts are read once each; decoding stops when every row has ended."""
    check_writing(contexts, seeds)
    stream = KVStream(model, *embed_contexts(model, contexts, sampling.max_completion_length))
    special, embed = model.special_tokens, model.get_input_embeddings()

    def following(token: Tensor) -> Tensor:
        return text_logits(model, stream.feed(embed(token[:, None])))

    return write(
        text_logits(model, stream.last),
        following,
        sampling,
        seeds,
        model.tokenizer,
        end_id=special.eos,
        pad_id=special.pad,
        on_token=on_token,
    )


def replay(
    model: JanusNetwork, contexts: Sequence[TextContext], ids: Tensor, mask: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """See UnifiedModel.text_logps. The head runs on real tokens only."""
    check_written(contexts, ids, mask)
    ids, mask = ids.to(model.device), mask.bool().to(model.device)
    embeds, valid, index = embed_contexts(model, contexts, ids.shape[1])
    prefix = Prefix.encode(model, embeds, valid).select(index)
    hidden = prefix.extend(model, model.get_input_embeddings()(ids[:, :-1]))
    logps, entropy = chosen_logps(text_logits(model, hidden[mask]), ids[mask], sampling)
    zeros = torch.zeros(ids.shape, device=ids.device)
    return zeros.masked_scatter(mask, logps), zeros.masked_scatter(mask, entropy)
