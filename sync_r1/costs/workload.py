"""How much work a configuration asks of a model: the counts that the dry run's memory and time are estimated from.

These are rows of text and pictures, tokens, evaluations of the model, numbers that train, and FLOPs of a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sync_r1.config import Config
from sync_r1.costs.model_sizes import ModelSizes
from sync_r1.training.lora import ends_with

Kind = Literal["full", "lora", "rows"]


@dataclass(frozen=True)
class Prompts:
    """Lengths in tokens that are assumed of prompts, as no data are read."""

    reading: int = 96  # understanding prompt without its picture
    drawing: int = 40  # drawing prompt, soft tokens included


@dataclass(frozen=True)
class Workload:
    """A configuration in numbers. C candidates and G kept per prompt, P prompts, M images per text, T steps."""

    config: Config
    sizes: ModelSizes
    prompts: Prompts
    processes: int = 1

    @property
    def kind(self) -> Kind:
        """What trains: the whole body, adapters on it, or the concept's rows alone."""
        rl = self.config.rl
        if rl.learning_rate == 0:
            return "rows"
        if rl.lora_rank:
            return "lora"
        return "full"

    @property
    def mode(self) -> str:
        """How the model computes, by the names in `costs.memory.SAVED`: its dtype, and whether under autocast."""
        autocast = self.config.run.precision == "bf16"
        if self.config.model.dtype == "bf16":
            if autocast:
                return "bf16 autocast"
            return "bf16"
        if autocast:
            return "autocast"
        return "fp32"

    @property
    def weight_bytes(self) -> int:
        """Bytes of one weight."""
        if self.config.model.dtype == "bf16":
            return 2
        return 4

    @property
    def value_bytes(self) -> int:
        """Bytes of one number of an activation."""
        if self.mode == "fp32":
            return 4
        return 2

    @property
    def draws(self) -> bool:
        """Whether any rollout draws pictures."""
        return self.config.rl.draws

    @property
    def guided(self) -> int:
        """Forward passes per evaluation of the model for an image: a second one without the prompt under guidance."""
        if self.config.rl.guidance_scale > 0:
            return 2
        return 1

    @property
    def candidates(self) -> int:
        """C, candidates per prompt.

        With a threshold G / ρ, as when it accepts the share that it aims at, and at most ⌈c_max·G⌉; always that many
        with dgs_keep "spread"; else G.
        """
        rl = self.config.rl
        if not rl.dgs_enabled:
            return rl.num_generations
        budget = math.ceil(rl.dgs_candidate_factor * rl.num_generations)
        if rl.dgs_keep == "spread":
            return budget
        if rl.grows_trees:
            return rl.num_generations
        return min(math.ceil(rl.num_generations / rl.dgs_target_acceptance), budget)

    @property
    def asked(self) -> int:
        """P, prompts that a process asks in a rollout with pictures; in any rollout where pictures are never drawn."""
        return self.config.rl.prompts_of(0)[0]

    @property
    def asked_at_most(self) -> int:
        """P of the rollout that asks most: rollouts without pictures may ask more."""
        return max(self.asked, self.config.rl.prompts_of(1)[0])

    @property
    def texts(self) -> int:
        """Rows of text of a rollout with pictures: P·G."""
        return self.asked * self.config.rl.num_generations

    @property
    def trunks(self) -> int:
        """Texts per drawn prompt whose pictures are finished."""
        rl = self.config.rl
        if rl.dgs_enabled and rl.dgs_keep == "tree":
            return rl.dgs_trunks
        return rl.num_generations  # of ties at most

    @property
    def images(self) -> int:
        """Pictures of a rollout that are finished."""
        if self.draws:
            return self.asked * self.trunks * self.config.rl.images_per_text
        return 0

    @property
    def drawn(self) -> int:
        """Pictures that are begun at the same time: those of all candidates.

        Of a tree these are its leaves or one promise per text, whichever are more.
        """
        rl = self.config.rl
        if self.draws and rl.grows_trees:
            return max(self.images, self.texts)
        if self.draws:
            return self.asked * self.candidates * self.config.rl.images_per_text
        return 0

    @property
    def context(self) -> float:
        """Tokens of an understanding prompt with its picture, on average over the kinds of prompts."""
        rl = self.config.rl
        if self.sizes.blank_picture:
            pictures = 1.0
        else:
            pictures = rl.look_fraction + rl.recognize_fraction
        return self.prompts.reading + pictures * (self.sizes.image_tokens + 3)

    @property
    def closed(self) -> int:
        """Yes-or-no questions about pictures per update, each with two answers to replay."""
        rl = self.config.rl
        if rl.closed_loss == "none":
            return 0
        return rl.closed_prompts_per_step

    @property
    def picture_context(self) -> int:
        """Tokens of a question about a picture."""
        return self.prompts.reading + self.sizes.image_tokens + 3

    @property
    def prefix(self) -> int:
        """Tokens of a drawing prompt."""
        return min(self.prompts.drawing, self.sizes.text_slot)

    @property
    def span(self) -> int:
        """Tokens of an image with its begin and end tokens."""
        return self.sizes.image_tokens + 2

    @property
    def adapter(self) -> int:
        """Numbers in the adapters; 0 without."""
        rl = self.config.rl
        wanted = rl.lora_target_modules
        width = 0
        for name, size in self.sizes.adaptable.items():
            if not wanted or any(ends_with(name, part) for part in wanted):
                width += size
        if self.kind == "lora":
            return rl.lora_rank * width
        return 0

    @property
    def trained(self) -> int:
        """Numbers that train in the body or its adapters, without the concept's rows."""
        return {"full": self.sizes.body, "lora": self.adapter, "rows": 0}[self.kind]

    @property
    def shared(self) -> int:
        """Numbers of which each process keeps only its share while the optimizer steps."""
        shared = {"none": 0, "fsdp2": self.sizes.in_layers, "zero1": self.trained + self.rows}[self.config.run.sharding]
        if self.processes > 1:
            return shared
        return 0

    @property
    def own(self) -> float:
        """How many of the `shared` numbers one process keeps."""
        return self.shared / self.processes

    @property
    def vocabulary(self) -> int:
        """Numbers in embedding and head once the concept is added."""
        return self.sizes.vocabulary + (1 + self.config.model.num_tokens) * self.sizes.row

    @property
    def rows(self) -> int:
        """Numbers in the concept's rows that train."""
        count = self.config.model.num_tokens + (not self.sizes.named)
        if self.config.rl.concept_learning_rate > 0:
            return count * self.sizes.row
        return 0

    def forward(self, tokens: float, seen: float) -> float:
        """FLOPs of a forward pass of `tokens` tokens through the body, each of which attends to `seen` others."""
        sizes = self.sizes
        return tokens * (2 * sizes.linear + 2 * self.adapter + 4 * sizes.layers * sizes.hidden * seen)

    @property
    def backward(self) -> float:
        """FLOPs of a backward pass through the body, in forward passes.

        One is for the gradients of inputs, one for those of weights where the body trains, and almost one for what
        gradient checkpointing computes again: all but each layer's last matrix.
        """
        sizes = self.sizes
        again = 1 - sizes.layers * sizes.hidden * sizes.intermediate / sizes.linear
        return 1 + (self.kind == "full") + again * self.config.rl.gradient_checkpointing

    def evaluations(self, steps: int) -> int:
        """Evaluations of the model for one picture up to decoding step `steps`; under guidance each counts twice."""
        if not self.sizes.autoregressive:
            return steps * self.guided
        return -(-steps * self.sizes.image_tokens // self.config.rl.generation_timesteps) * self.guided

    @property
    def nfe(self) -> tuple[int, int]:
        """Evaluations of the model for the pictures of one rollout, and how many it would take to finish all
        candidates."""
        rl = self.config.rl
        whole = self.evaluations(rl.generation_timesteps)
        if rl.grows_trees:
            return self._tree_nfe(whole), self.texts * rl.images_per_text * whole
        if rl.dgs_enabled:
            preview = self.evaluations(rl.dgs_preview_step)
        else:
            preview = whole
        return self.drawn * preview + self.images * (whole - preview), self.drawn * whole

    def _tree_nfe(self, whole: int) -> int:
        """Evaluations for the trees of one rollout, where finishing one picture takes `whole` of them.

        They are one per text, as if all drawing prompts differed, those of the trunks and those of the leaves.
        """
        rl = self.config.rl
        trunk = self.evaluations(rl.dgs_preview_step)
        leaves = self.images * (whole - trunk)
        return self.texts * self.evaluations(1) + self.asked * self.trunks * trunk + leaves

    @property
    def piece(self) -> tuple[int, int]:
        """How many pictures, and how many decoding steps of each, one backward pass of the image part replays."""
        rl = self.config.rl
        together = min(max(rl.sequences_per_backward // max(self.images, 1), 1), rl.replayed_timesteps())
        return min(max(rl.sequences_per_backward // together, 1), self.images), together
