"""What benchmarks/speed.py measures: a model, a trainer over it, and the same work done by both sides."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import plain
import torch
from counting import Counter, Figures, synchronize
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from training_memory import middle_sizes
from transformers import PreTrainedTokenizerFast

from sync_r1.config import load_config
from sync_r1.data import load_concept
from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.magvit import Magvit, MagvitConfig
from sync_r1.models.showo.model import Showo
from sync_r1.rl.dgs import NoScaling
from sync_r1.rl.rewards import Reward, RewardEnsemble
from sync_r1.rl.rollout import Rollout
from sync_r1.rl.trainer import Experience, SyncGRPOTrainer
from sync_r1.training.prompts import context, derive_seed, drawing_text, training_prompts
from sync_r1.types import Sampling, TextContext
from sync_r1.world.assets import load_world_model
from sync_r1.world.export import export_world

Parts = dict[str, Figures]
GROUP = 8
QUESTION = "USER: what is it wearing, and where is it? ASSISTANT:"


@dataclass(frozen=True)
class Size:
    """A model and how much of it fits into memory at once. None: all rows, all steps."""

    timesteps: int  # T
    trained: int  # K of the recipe
    together: int  # ours: sequences per backward
    rows_per_graph: int | None = None  # plain
    steps_per_graph: int | None = None  # plain


SIZES = {
    "tiny": Size(timesteps=18, trained=6, together=16),
    "middle": Size(timesteps=18, trained=6, together=8, rows_per_graph=1),  # eight images would take 50 GB
    "full": Size(timesteps=50, trained=8, together=4, rows_per_graph=1, steps_per_graph=4),
}


def random_showo(config: ShowoConfig, image: MagvitConfig | None, device: str) -> Showo:
    """A model built on the device, with one token per word."""
    words = {"<|endoftext|>": 0, "<unk>": 1} | {f"w{number}": number for number in range(2, config.text_vocab)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    with torch.device(device):
        return Showo.from_config(config, tokenizer, Magvit(image).eval() if image else None).eval()


def build(name: str, device: str) -> Showo:
    if name == "tiny":
        return load_world_model().to(device)
    if name == "middle":
        config, magvit = middle_sizes()
    else:
        config, magvit = ShowoConfig(), MagvitConfig(resolution=512)
    return random_showo(config, magvit, device)


def lengths(*, completions: list[str], **_: Any) -> list[float]:
    return [len(text) % 7 / 7 for text in completions]


def brightness(*, images: Tensor, **_: Any) -> list[float]:
    return images.float().mean(dim=(1, 2, 3)).div(255).tolist()


class Workload:
    """One group of a trainer, whose learning rate is 0 so that every run finds the same weights.

    Args:
        group: G. timesteps: T, by default the size's own.
        plain_rows: of the group, in a step of plain code, whose figures then count group / plain_rows times; by default
            all.
    """

    def __init__(
        self,
        name: str,
        device: str,
        dtype: str,
        *,
        group: int = GROUP,
        timesteps: int | None = None,
        plain_rows: int | None = None,
    ) -> None:
        self.device, self.size, self.autocast = device, SIZES[name], dtype == "bf16"
        self.group, self.plain_rows = group, plain_rows or group
        if timesteps:
            self.size = replace(self.size, timesteps=timesteps)
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        export_world(root / "data", ["bo"])
        concept = load_concept(root / "data", "bo")
        self.model = build(name, device)
        tokens = add_concept(self.model, "bo", concept.class_noun, num_tokens=16)
        rl: dict[str, float] = {
            "prompts_per_step": 1,
            "num_generations": group,
            "generation_timesteps": self.size.timesteps,
            "guidance_scale": 2,
        }
        rl |= {
            "sequences_per_backward": self.size.together,
            "beta": 0.04,
            "look_fraction": 0,
            "max_completion_length": 24,
        }
        run = {"device": device.partition(":")[0], "precision": dtype, "log_completions": "false", "output_dir": root}
        options = [f"rl.{key}={value}" for key, value in rl.items()] + [
            f"run.{key}={value}" for key, value in run.items()
        ]
        rewards = RewardEnsemble([Reward("lengths", lengths, "text"), Reward("brightness", brightness, "image")])
        self.trainer = SyncGRPOTrainer(
            self.model, load_config(None, options), training_prompts(concept, tokens)[:1], rewards
        )
        self.parameters = self.trainer.trainables.parameters()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, weight_decay=0.0)
        self.rl = self.trainer.config.rl
        codes = torch.randint(
            0,
            self.model.codebook_size,
            (group, self.model.num_image_tokens),
            generator=torch.Generator().manual_seed(0),
        )
        self.questions = [TextContext(QUESTION, row) for row in codes]
        with self.trainer.reference.policy() as start:
            self.reference = start
        self.counter = Counter()

    def close(self) -> None:
        self.folder.cleanup()

    @contextmanager
    def mixed(self) -> Iterator[None]:
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.autocast):
            yield

    @contextmanager
    def endless(self) -> Iterator[None]:
        """No text ends before its length."""
        config = self.model.config
        self.model.config = replace(config, suppress_tokens=[*config.suppress_tokens, config.eos_id])
        try:
            yield
        finally:
            self.model.config = config

    # one piece of work by both sides, and what its parts took

    def answer(self, write: Callable[..., Any], length: int = 64) -> Parts:
        """Greedy answers of `length` tokens to questions about pictures."""
        clock = Clock(self.device, self.counter)
        self.model.eval()
        with self.endless(), self.mixed():
            clock.time(
                "answer",
                write,
                self.questions,
                Sampling(top_k=1, max_completion_length=length),
                range(len(self.questions)),
            )
        return clock.figures

    def our_answer(self) -> Parts:
        return self.answer(self.model.generate_text)

    def plain_answer(self) -> Parts:
        return self.answer(lambda *given: plain.write(self.model, *given))

    def drawing(self, draw: Callable[..., Any]) -> Parts:
        """A group of images, alone: each with a prompt of its own."""
        clock = Clock(self.device, self.counter)
        prompts = [f"a photo of <bo> in picture {number}" for number in range(self.rl.num_generations)]
        self.model.eval()
        with torch.no_grad(), self.mixed():
            clock.time("draw, alone", draw, prompts, self.rl.sampling(), list(range(len(prompts))))
        return clock.figures

    def our_draw(self) -> Parts:
        return self.drawing(self.model.generate_image)

    def plain_draw(self) -> Parts:
        return self.drawing(lambda *given: plain.draw_images(self.model, *given))

    def our_step(self) -> Parts:
        """The trainer's own step, which replays K of T steps; then the gradients over all T again."""
        clock, trainer, draw, loss = (
            Clock(self.device, self.counter),
            self.trainer,
            self.model.generate_image,
            self.trainer.loss,
        )
        self.rl.train_timesteps = min(self.size.trained, self.size.timesteps)
        self.model.generate_image = lambda *given, **named: clock.time("draw", draw, *given, **named)  # type: ignore[method-assign]
        trainer.loss = lambda *given: clock.time("update", loss, *given)  # type: ignore[method-assign]
        try:
            clock.time("step", lambda: (trainer.training_step(self.model, {}), self.optimizer.step()))
        finally:
            self.model.generate_image, trainer.loss = draw, loss  # type: ignore[method-assign]
        assert trainer.experience is not None
        clock.time("update, all T steps", self.our_update, trainer.experience)
        return clock.figures

    def our_update(self, experience: Experience) -> None:
        """Gradients over all T steps."""
        self.rl.train_timesteps = None
        self.trainer._clear_gradients()
        self.model.train()
        self.trainer.loss(experience)

    def plain_step(self) -> Parts:
        """The same step in plain code, which goes row by row: some rows' figures stand for all."""
        clock = Clock(self.device, self.counter)
        self.rl.num_generations = self.plain_rows
        try:
            clock.time("step", self._plain_step, clock)
        finally:
            self.rl.num_generations = self.group
        figures = {name: spent.times(self.group / self.plain_rows) for name, spent in clock.figures.items()}
        return {**figures, "update, all T steps": figures["update"]}

    def _plain_step(self, clock: Clock) -> None:
        self.trainer._clear_gradients()
        rollout = self.plain_rollout(clock)
        credit = self.trainer.advantage(rollout, self.trainer.score(rollout))
        clock.time("update", self.plain_update, Experience(rollout, credit))
        nn.utils.clip_grad_norm_(self.parameters, self.rl.max_grad_norm)
        self.optimizer.step()

    def plain_rollout(self, clock: Clock) -> Rollout:
        """One image after the other, with the trainer's seeds: the same trajectories."""
        trainer, group = self.trainer, self.rl.num_generations
        prompt, sampling, seed = trainer.prompts[0], self.rl.sampling(), trainer.config.run.seed
        seeds = [
            [derive_seed(seed, 0, 0, number, *part) for number in range(group)] for part in (("text",), ("image", 0))
        ]
        contexts = [context(trainer.policy, prompt, trainer.sampler.photo_codes)] * group
        self.model.eval()
        with self.mixed():
            texts = plain.write(self.model, contexts, sampling, seeds[0])
            prompts = [drawing_text(prompt, text) for text in texts.texts]
            trace = clock.time("draw", plain.draw_images, self.model, prompts, sampling, seeds[1])
            images = torch.cat([self.model.decode_image(row[None]) for row in trace.tokens]).cpu()
        selection = NoScaling().select(lambda wanted: [[0.0] * count for count in wanted], groups=1, size=group)
        return Rollout([prompt], group, 1, contexts, texts, prompts, trace, images, selection)

    def plain_update(self, experience: Experience) -> None:
        size = self.size
        cut = {
            "rows_per_graph": size.rows_per_graph or GROUP,
            "steps_per_graph": size.steps_per_graph or size.timesteps,
        }
        self.model.train()
        with self.mixed():
            plain.update(self.model, self.reference, self.rl, experience.rollout, experience.advantages, **cut)


class Clock:
    """Seconds by name, the device's queue included, and what `counter` saw meanwhile."""

    def __init__(self, device: str, counter: Counter) -> None:
        self.device, self.counter = device, counter
        self.figures: Parts = {}

    def time(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        synchronize(self.device)
        flops, moved, started = self.counter.flops, self.counter.bytes, time.perf_counter()
        result = call(*given, **named)
        synchronize(self.device)
        self.figures[name] = Figures(
            time.perf_counter() - started, self.counter.flops - flops, self.counter.bytes - moved
        )
        return result
