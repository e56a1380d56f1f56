"""Train the world's Show-o on drawing, captions and questions, recognition by looking, and rewriting from facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
from sync_r1.world import grammar, pair_readings, readings, tasks
from sync_r1.world.pretrain.masks import attribute_cells, hidden_cells
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.pretrain.stage import Loss, Schedule, run_stage
from sync_r1.world.readers import to_pixels

IGNORE = -100
HEAD = 32  # numbers of an attention head
Shares = tuple[tuple[readings.Reader, float], ...]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What one stretch of the training consists of: drawings, and streams of readings, each with a loss of its own."""

    mix: tuple[tuple[int, tuple[int, ...]], ...]  # from which step: how many drawings, how many readings of each stream
    streams: Mapping[str, Shares]  # readings and their shares
    pairs: float = 0.3  # share of drawings with two characters
    edits: float = 0.0  # share of drawings that change an attribute of a known picture

    def sizes(self, step: int) -> tuple[int, ...]:
        """How many drawings, and how many readings of each stream, a full-size batch has at a step."""
        return next(sizes for start, sizes in reversed(self.mix) if step >= start)

    def sequences(self, steps: int) -> int:
        """How many sequences a full-size training of `steps` has seen."""
        return sum(sum(self.sizes(step)) for step in range(steps))


# Rewriting is learned first, drawing last; small batches make more of the later hours.
GENERAL = Course(
    mix=((0, (28, 20, 18)), (560, (36, 20, 9)), (1200, (20, 16, 5)), (2240, (17, 18, 4)), (3360, (13, 22, 4))),
    streams={
        "look": (
            (readings.visual_question, 0.20),
            (readings.caption, 0.16),
            (readings.checked, 0.08),
            (readings.counting, 0.05),
            (readings.told_by_picture, 0.05),
            (readings.recognition, 0.24),
            (pair_readings.pair_question, 0.11),
            (pair_readings.pair_caption, 0.06),
            (pair_readings.who_of_mine, 0.05),
        ),
        "read": (
            (tasks.rewriting, 0.55),
            (tasks.defined_rewriting, 0.12),
            (tasks.friend_rewriting, 0.06),
            (readings.text_question, 0.10),
            (readings.text_checked, 0.04),
            (readings.fact_question, 0.13),
        ),
    },
)
# The first course sees right and then answers "no" to everything. Here the decision is a stream of its own: comparing
# what was seen with the info line, mostly from text alone, which is cheap.
DECIDING = Course(
    mix=((0, (16, 20, 10, 16)),),
    streams={
        "look": (
            (readings.visual_question, 0.18),
            (readings.caption, 0.15),
            (readings.checked, 0.07),
            (readings.counting, 0.06),
            (readings.told_by_picture, 0.06),
            (readings.even_recognition, 0.22),
            (pair_readings.pair_question, 0.14),
            (pair_readings.pair_caption, 0.06),
            (pair_readings.who_of_mine, 0.06),
        ),
        "read": (
            (tasks.rewriting, 0.30),
            (tasks.defined_rewriting, 0.40),
            (tasks.friend_rewriting, 0.06),
            (readings.text_question, 0.06),
            (readings.text_checked, 0.06),
            (readings.fact_question, 0.12),
        ),
        "decide": ((readings.decision, 0.35), (readings.compared, 0.65)),
    },
)
# The second course learned to compare kinds and marks, not colours and patterns, answered any question for yes or no by
# chance, and drew two characters with patterns that ran into each other. In the third many readings are decisions, some
# of them about few attributes, half of the drawings show two, and some change one attribute of a picture that is there.
FINISHING = Course(
    mix=((0, (22, 16, 6, 44)),),
    pairs=0.5,
    edits=0.2,
    streams={
        "look": (
            (readings.visual_question, 0.12),
            (readings.caption, 0.16),
            (readings.counting, 0.05),
            (readings.told_by_picture, 0.05),
            (readings.even_recognition, 0.17),
            (pair_readings.pair_question, 0.25),
            (pair_readings.pair_caption, 0.14),
            (pair_readings.who_of_mine, 0.06),
        ),
        "read": (
            (tasks.rewriting, 0.25),
            (tasks.defined_rewriting, 0.35),
            (tasks.friend_rewriting, 0.05),
            (readings.text_question, 0.05),
            (readings.fact_question, 0.30),
        ),
        "decide": (
            (readings.decision, 0.14),
            (readings.compared_partly, 0.50),
            (readings.checked, 0.22),
            (readings.text_checked, 0.14),
        ),
    },
)
# The third course learned to compare kinds and most colours; the fourth goes on with what is left.
COMPARING = Course(
    mix=((0, (14, 12, 5, 52)),),
    pairs=0.6,
    edits=0.15,
    streams={
        **FINISHING.streams,
        "decide": (
            (readings.decision, 0.12),
            (readings.compared_closely, 0.60),
            (readings.checked, 0.16),
            (readings.text_checked, 0.12),
        ),
    },
)
# After the fourth course questions about two that need a name's description were answered by chance, and so were yes or
# no about patterns, marks and hats. The fifth binds names by the kind first and asks yes or no about these. It began
# without the stream `names`, and after 500 steps names were still bound by chance: from text alone it is cheaper.
BINDING = Course(
    mix=((0, (12, 10, 6, 18, 18, 0)), (500, (12, 9, 4, 14, 14, 24))),
    pairs=0.5,
    edits=0.15,
    streams={
        "look": (
            (readings.visual_question, 0.08),
            (readings.caption, 0.36),
            (readings.counting, 0.04),
            (readings.told_by_picture, 0.04),
            (readings.even_recognition, 0.34),
            (pair_readings.who_of_mine, 0.14),
        ),
        "read": (
            (tasks.rewriting, 0.20),
            (tasks.defined_rewriting, 0.45),
            (tasks.friend_rewriting, 0.05),
            (readings.text_question, 0.03),
            (readings.fact_question, 0.27),
        ),
        "pairs": (
            (pair_readings.pair_question_partly, 0.55),
            (pair_readings.pair_question, 0.25),
            (pair_readings.pair_caption, 0.20),
        ),
        "decide": (
            (readings.checked_closely, 0.48),
            (readings.checked, 0.16),
            (readings.decision, 0.12),
            (readings.compared_closely, 0.24),
        ),
        "names": ((pair_readings.introduced_question, 0.65), (pair_readings.who_of_mine_partly, 0.35)),
    },
)
# The fifth course left drawing where the first had brought it: its batches hold twelve drawings. In the sixth most
# are drawings, half of them of two.
PAINTING = Course(
    mix=((0, (32, 8, 4, 8, 6)),),
    pairs=0.5,
    edits=0.2,
    streams={
        "look": (
            (readings.visual_question, 0.14),
            (readings.caption, 0.30),
            (readings.counting, 0.06),
            (readings.told_by_picture, 0.10),
            (readings.even_recognition, 0.30),
            (pair_readings.who_of_mine, 0.10),
        ),
        "read": (
            (tasks.rewriting, 0.30),
            (tasks.defined_rewriting, 0.35),
            (tasks.friend_rewriting, 0.05),
            (readings.text_question, 0.05),
            (readings.fact_question, 0.25),
        ),
        "pairs": (
            (pair_readings.pair_question_partly, 0.35),
            (pair_readings.pair_question, 0.40),
            (pair_readings.pair_caption, 0.25),
        ),
        "decide": (
            (readings.checked_closely, 0.40),
            (readings.checked, 0.20),
            (readings.decision, 0.15),
            (readings.compared_closely, 0.25),
        ),
    },
)
COURSES = {
    "unified": GENERAL,
    "decisions": DECIDING,
    "finishing": FINISHING,
    "comparing": COMPARING,
    "binding": BINDING,
    "painting": PAINTING,
}
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
    """Cross-entropy at masked codes [B, N] (on the CPU); `hidden_cells` says which are masked.

    Of an edit, these are cells of its attribute, and the prompt is always there.
    """
    texts, masks = [], []
    for item in drawings:
        inside = None
        if isinstance(item, tasks.Edit):
            inside = attribute_cells(item.attribute, round(codes.shape[1] ** 0.5))
        texts.append("" if inside is None and rng.random() < DROP_PROMPT else item.text)
        masks.append(hidden_cells(rng, codes.shape[1], REGIONS, inside))
    masked = torch.from_numpy(np.stack(masks))
    ids = [drawing_ids(model.tokenizer, model.config, text) for text in texts]
    batch = build_t2i(model.config, ids, torch.where(masked, model.config.codebook_size, codes)).to(model.device)
    hidden = model.hidden(batch.ids, batch.mask)[:, -codes.shape[1] - 1 : -1]
    logits = model.head(hidden[masked.to(model.device)], model.config.image_rows)
    return F.cross_entropy(logits.float(), codes[masked].to(model.device))


def reading_loss(model: Showo, asked: Sequence[tasks.Reading], codes: Sequence[Tensor | None]) -> Tensor:
    """Next-token cross-entropy on the answers only."""
    end = model.config.eos_id
    prompts = [text_ids(model.tokenizer, item.context) for item in asked]
    answers = [[*text_ids(model.tokenizer, " " + item.answer), end] for item in asked]
    batch = build_mmu(model.config, codes, [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)])
    targets = torch.full_like(batch.ids, IGNORE)
    for row, answer in enumerate(answers):
        targets[row, -len(answer) - 1 : -1] = torch.tensor(answer)
    batch, targets = batch.to(model.device), targets.to(model.device)
    hidden = model.hidden(batch.ids, batch.mask)
    wanted = targets != IGNORE
    return F.cross_entropy(model.head(hidden[wanted], model.config.text_rows).float(), targets[wanted])


def train_unified(
    magvit: Magvit,
    schedules: Mapping[str, Schedule],
    folder: Path,
    scale: float = 1.0,
    *,
    width: int = 192,
    layers: int = 6,
    device: torch.device | str = "cpu",
) -> tuple[Showo, dict[str, dict[str, float]]]:
    """Every course of COURSES by its schedule; each goes on from the averaged weights of the one before.

    Batches have the sizes of the course times `scale`. Returns the model and the figures of every course.
    """
    torch.manual_seed(schedules["unified"].seed)
    tokenizer = world_tokenizer()
    model = Showo.from_config(world_config(tokenizer, magvit, width, layers), tokenizer, magvit)  # freezes the MAGVIT
    model = model.to(device)
    figures = {}
    for name, course in COURSES.items():
        figures[name] = run_stage(name, model, course_loss(model, course, scale), schedules[name], folder)
    return model, figures


def course_loss(model: Showo, course: Course, scale: float) -> Loss:
    """The loss of a batch of a course, as a function of the batch's generator and the step: the sum over drawings and
    streams."""
    magvit = model.magvit
    assert magvit is not None, "the world's model has its tokenizer"

    def loss(rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
        drawn, *read = (max(min(size, 1), round(scale * size)) for size in course.sizes(step))
        drawings = [tasks.any_drawing(rng, course.pairs, course.edits) for _ in range(drawn)]
        streams = {
            name: sample_readings(rng, kinds, count)
            for (name, kinds), count in zip(course.streams.items(), read, strict=True)
        }
        shown = [item.picture for item in chain(*streams.values()) if item.picture is not None]
        before = [item.before for item in drawings if isinstance(item, tasks.Edit)]
        pictures = render_batch([*(item.picture for item in drawings), *before, *shown])
        codes = magvit.encode(to_pixels(pictures.to(model.device))).cpu()
        known = edited(drawings, codes[:drawn], codes[drawn : drawn + len(before)])
        parts = {"draw": drawing_loss(model, drawings, known, rng)}
        rest = iter(codes[drawn + len(before) :])
        for name, items in streams.items():
            if not items:
                continue
            seen = [next(rest) if item.picture is not None else None for item in items]
            parts[name] = reading_loss(model, items, seen)
        return torch.stack(list(parts.values())).sum(), {name: part.item() for name, part in parts.items()}

    return loss


def edited(drawings: Sequence[tasks.Drawing], after: Tensor, before: Tensor) -> Tensor:
    """Codes [B, N] of the drawings; those of an edit are of the picture `before` it outside the place of its attribute.

    Args:
        after: [B, N], of the pictures that are drawn.
        before: [edits, N], of the pictures that are edited.
    """
    codes, others = after.clone(), iter(before)
    for row, item in enumerate(drawings):
        if isinstance(item, tasks.Edit):
            inside = torch.from_numpy(attribute_cells(item.attribute, round(after.shape[1] ** 0.5)))
            codes[row] = torch.where(inside, after[row], next(others))
    return codes


def sample_readings(rng: np.random.Generator, kinds: Shares, count: int) -> list[tasks.Reading]:
    """`count` readings of kinds drawn by their shares."""
    chosen = rng.choice(len(kinds), size=count, p=[share for _, share in kinds])
    return [kinds[int(index)][0](rng) for index in chosen]
