"""Train the world's Show-o on drawing, captions and questions, recognition by looking, and rewriting from facts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import END_OF_TEXT, build_mmu, build_t2i, drawing_ids, prepare_tokenizer, text_ids
from sync_r1.world import grammar, readings, tasks
from sync_r1.world.pretrain.masks import hidden_cells
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.pretrain.stage import Schedule, run_stage
from sync_r1.world.readers import to_pixels

IGNORE = -100
HEAD = 32  # numbers of an attention head
# From which step: sequences of drawing, of reading with a picture, of reading text alone. Rewriting is learned first,
# drawing last; small batches make more of the later hours.
MIX = ((0, (28, 20, 18)), (560, (36, 20, 9)), (1200, (20, 16, 5)), (2240, (17, 18, 4)), (3360, (13, 22, 4)))
LOOKS: tuple[tuple[readings.Reader, float], ...] = (  # readings with a picture, and their shares
    (readings.visual_question, 0.20),
    (readings.caption, 0.16),
    (readings.checked, 0.08),
    (readings.counting, 0.05),
    (readings.told_by_picture, 0.05),
    (readings.recognition, 0.24),
    (readings.pair_question, 0.11),
    (readings.pair_caption, 0.06),
    (readings.who_of_mine, 0.05),
)
READS: tuple[tuple[readings.Reader, float], ...] = (  # readings of text alone
    (tasks.rewriting, 0.55),
    (tasks.defined_rewriting, 0.12),
    (tasks.friend_rewriting, 0.06),
    (readings.text_question, 0.10),
    (readings.text_checked, 0.04),
    (readings.fact_question, 0.13),
)
REGIONS = 0.3  # of drawings are drawn in again: a region of them is open and everything else is known
DROP_PROMPT = 0.1  # of drawing prompts are emptied, which teaches the unconditional rows of guidance


def world_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE like Phi's, small: every word of the world is one token, any other text falls into bytes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([line for line in grammar.vocabulary() for _ in range(2)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=AddedToken(END_OF_TEXT, special=True), bos_token=END_OF_TEXT
    )


def world_config(tokenizer: PreTrainedTokenizerFast, magvit: Magvit, width: int = 192, layers: int = 6) -> ShowoConfig:
    """The tiny Show-o. ValueError unless `width` is a multiple of 32, an attention head's."""
    if width % HEAD:
        raise ValueError(f"width is {width}; it must be a multiple of {HEAD}; use {max(width // HEAD, 1) * HEAD}")
    text_vocab = prepare_tokenizer(tokenizer, tasks.NAME_POOL)
    end = tokenizer.get_vocab()[END_OF_TEXT]
    return ShowoConfig(
        text_vocab=text_vocab,
        bos_id=end,
        eos_id=end,
        codebook_size=magvit.config.codebook_size,
        num_image_tokens=magvit.config.num_tokens,
        image_size=magvit.config.resolution,
        max_text_tokens=56,
        text_only_image=False,
        name_pool=list(tasks.NAME_POOL),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        max_position_embeddings=512,
    )


def drawing_loss(model: Showo, drawings: Sequence[tasks.Drawing], codes: Tensor, rng: np.random.Generator) -> Tensor:
    """Cross-entropy at masked codes [B, N] (on the CPU); `hidden_cells` says which are masked."""
    texts = ["" if rng.random() < DROP_PROMPT else item.text for item in drawings]
    masked = torch.from_numpy(np.stack([hidden_cells(rng, codes.shape[1], REGIONS) for _ in drawings]))
    ids = [drawing_ids(model.tokenizer, model.config, text) for text in texts]
    batch = build_t2i(model.config, ids, torch.where(masked, model.config.codebook_size, codes)).to(model.device)
    hidden = model.hidden(batch.ids, batch.mask)[:, -codes.shape[1] - 1 : -1]
    logits = model.head(hidden[masked.to(model.device)], model.config.image_rows)
    return F.cross_entropy(logits.float(), codes[masked].to(model.device))


def reading_loss(model: Showo, readings: Sequence[tasks.Reading], codes: Sequence[Tensor | None]) -> Tensor:
    """Next-token cross-entropy on the answers only."""
    end = model.config.eos_id
    prompts = [text_ids(model.tokenizer, item.context) for item in readings]
    answers = [[*text_ids(model.tokenizer, " " + item.answer), end] for item in readings]
    batch = build_mmu(model.config, codes, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])
    targets = torch.full_like(batch.ids, IGNORE)
    for row, answer in enumerate(answers):
        targets[row, -len(answer) - 1 : -1] = torch.tensor(answer)
    batch, targets = batch.to(model.device), targets.to(model.device)
    hidden = model.hidden(batch.ids, batch.mask)
    wanted = targets != IGNORE
    return F.cross_entropy(model.head(hidden[wanted], model.config.text_rows).float(), targets[wanted])


def sequences(steps: int) -> int:
    """How many sequences a full-size training of `steps` has seen."""
    ends = [*(start for start, _ in MIX[1:]), steps]
    return sum(sum(sizes) * max(0, min(end, steps) - start) for (start, sizes), end in zip(MIX, ends, strict=True))


def train_unified(
    magvit: Magvit,
    schedule: Schedule,
    folder: Path,
    scale: float = 1.0,
    *,
    width: int = 192,
    layers: int = 6,
    device: torch.device | str = "cpu",
) -> tuple[Showo, dict[str, float]]:
    """Three streams a step: drawing, reading with a picture, reading text alone.

    Their sizes are those of MIX times `scale`.
    """
    torch.manual_seed(schedule.seed)
    tokenizer = world_tokenizer()
    model = Showo.from_config(world_config(tokenizer, magvit, width, layers), tokenizer, magvit).to(
        device
    )  # which freezes the MAGVIT

    def sample(
        rng: np.random.Generator, kinds: Sequence[tuple[readings.Reader, float]], count: int
    ) -> list[tasks.Reading]:
        chosen = rng.choice(len(kinds), size=count, p=[share for _, share in kinds])
        return [kinds[int(index)][0](rng) for index in chosen]

    def loss(rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        sizes = next(sizes for start, sizes in reversed(MIX) if step >= start)
        draws, looks, reads = (max(1, round(scale * size)) for size in sizes)
        drawings = [tasks.any_drawing(rng) for _ in range(draws)]
        seen, read = sample(rng, LOOKS, looks), sample(rng, READS, reads)
        pictures = [item.picture for item in drawings] + [item.picture for item in seen if item.picture is not None]
        codes = magvit.encode(to_pixels(render_batch(pictures).to(device))).cpu()
        parts = {
            "draw": drawing_loss(model, drawings, codes[:draws], rng),
            "look": reading_loss(model, seen, list(codes[draws:])),
            "read": reading_loss(model, read, [None] * len(read)),
        }
        return parts["draw"] + parts["look"] + parts["read"], {name: part.item() for name, part in parts.items()}

    return model, run_stage("unified", model, loss, schedule, folder)
