"""The sections of a configuration apart from `rl`: model, data, scorers, warm-up, evaluation, run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from sync_r1.config_fields import option

SFT_STAGES = ("1", "2", "3", "photos", "baseline")


@dataclasses.dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which model, and how a concept's tokens are added to it."""

    path: str = option(
        "world",
        "a folder, a hub id such as showlab/show-o-512x512, or 'world' for the model shipped with the package",
        path=True,
    )
    image_tokenizer: str = option(
        "showlab/magvitv2",
        "folder or hub id of MAGVIT-v2; only read with weights in Show-o's published layout",
        path=True,
    )
    text_tokenizer: str = option(
        "microsoft/phi-1_5", "folder or hub id of the tokenizer; only read with Show-o's published layout", path=True
    )
    dtype: Literal["fp32", "bf16"] = option(
        "fp32", "of frozen weights; what trains stays fp32, and so does log-probability maths"
    )
    num_tokens: int = option(4, "soft tokens <token_0>… added per concept, besides its name", ge=0)
    reading_tokens: int = option(
        0, "how many of the first soft tokens introduce the concept in understanding prompts", ge=0
    )
    drawing_tokens: int | None = option(
        None, "how many of the first soft tokens go into drawing prompts; empty is all", ge=0
    )
    init: Literal["class-noun", "images", "none"] = option(
        "class-noun",
        "what a new concept's rows start as: its class noun, its photos (k-means of code rows, a face), or noise",
    )


@dataclasses.dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where the concepts are."""

    root: str = option("world", "concept store in the UniCTokens layout, or 'world' for the embedded one", path=True)
    concepts: list[str] = dataclasses.field(default_factory=list, metadata={"doc": "the one concept to learn"})


@dataclasses.dataclass(kw_only=True, slots=True)
class JudgeConfig:
    """A judge of pictures and texts behind an OpenAI-compatible endpoint. Its key comes from the environment only."""

    url: str = option(
        "world",
        (
            "base URL such as http://localhost:8000/v1, several of the same model by commas; 'world' reads the "
            "embedded world; empty is none"
        ),
    )
    model: str = option("", "model name the endpoint expects")
    key_env: str = option("SYNC_R1_JUDGE_KEY", "environment variable that holds the key; unset sends none")
    timeout_s: float = option(60.0, "seconds until a request counts as failed", gt=0)
    max_retries: int = option(4, "attempts after the first, with exponential backoff", ge=0)
    concurrency: int = option(8, "requests in flight at most", ge=1)
    images_per_call: int = option(9, "pictures judged in one request at most", ge=1)
    references_per_call: int = option(2, "reference photos sent with a request at most", ge=1)
    max_side: int = option(512, "longer side of a picture as it is sent, in pixels; larger ones are scaled down", ge=16)
    identity_weight: float = option(
        0.6, "identity's share of a score where reference photos are sent; the rest is faithfulness", ge=0, le=1
    )
    temperature: float | None = option(0.0, "of the judge's replies; empty leaves it to the endpoint", ge=0)
    max_tokens: int | None = option(
        None,
        "tokens of a reply, thoughts included; raise it for a judge that thinks; empty is 1024, or 64 as published",
        ge=1,
    )
    instructions: str = option(
        "", "YAML file with instructions of your own; empty takes those of the package", path=True
    )
    cache: str = option("", "folder of replies keyed by content; empty keeps them in memory", path=True)
    price_in: float = option(0.0, "price of a million prompt tokens, for the cost counter", ge=0)
    price_out: float = option(0.0, "price of a million completion tokens, for the cost counter", ge=0)


@dataclasses.dataclass(kw_only=True, slots=True)
class ScorersConfig:
    """The networks behind the rewards.

    Those of the evaluation are set in `eval`, so that reward and evaluator can differ.
    """

    clip: str = option(
        "world",
        "folder or hub id of a CLIP, such as openai/clip-vit-base-patch32, or 'world'; behind identity, alignment",
        path=True,
    )
    dino: str = option(
        "", "folder or hub id of a DINOv2, such as facebook/dinov2-base; behind the reward 'dino'", path=True
    )
    face: str = option(
        "", "folder of an insightface pack (detector and ArcFace .onnx files); behind the reward 'face'", path=True
    )
    judge: JudgeConfig = dataclasses.field(
        default_factory=JudgeConfig, metadata={"doc": "behind likeness and faithfulness"}
    )
    fallback: dict[str, str] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "reward → fallback where it could not score, e.g. face: identity; counted"},
    )


@dataclasses.dataclass(kw_only=True, slots=True)
class SFTConfig:
    """Warm-up of a concept's tokens by next-token and masked-token losses (docs/warm_up.md).

    Off unless stages are named.
    """

    stages: list[str] = dataclasses.field(
        default_factory=list,
        metadata={
            "doc": (
                "of 1, 2, 3 (UniCTokens), photos (tokens learn to draw them) and baseline (what RL asks, answered), "
                "in order"
            )
        },
    )
    epochs: int | None = option(
        None, "passes per stage; empty is the published 15, 20, 20, 60 for photos and 20 for the baseline", ge=1
    )
    learning_rate: float = option(1e-3, "for the concept's rows, constant", gt=0)
    body_learning_rate: float = option(
        0.0, "for the transformer body; 0 trains the rows only, as UniCTokens does", ge=0
    )
    understanding_weight: float = option(0.2, "weight of the answer loss when both streams are on", ge=0)
    drawing_weight: float = option(0.8, "weight of the masked-token loss when both streams are on", ge=0)
    understanding_batch: int | None = option(
        None, "dialogues per step; empty is the stage's own: 1, in stage 1 and the baseline 4", ge=1
    )
    drawing_batch: int | None = option(
        None, "pictures per step; empty is the stage's own: 4 in photos and baseline, else 1", ge=1
    )
    fresh_epochs: bool = option(
        False, "draw crops, flips and order anew in every epoch; the published stages freeze them before the first"
    )
    crop_scale: float = option(
        1.1, "stage 2 cuts random squares out of pictures enlarged this much; 1 keeps them whole", ge=1
    )
    condition_dropout: float = option(
        0.1, "share of drawing prompts left empty: keeps guidance alive when the body trains", ge=0, le=1
    )
    photo_prompt: str = option(
        "A photo of {name}.", "drawing prompt of a photo; {name} becomes soft tokens and placeholder"
    )
    described: bool = option(
        False, "begin questions of stages 1 to 3 with the name and info lines, as the benchmark does"
    )
    save_epochs: int = option(5, "epochs between checkpoints; the last is always saved", ge=1)
    pull: float = option(0.0, "weight of the L2 anchor that holds the placeholder's rows near their start", ge=0)


@dataclasses.dataclass(kw_only=True, slots=True)
class EvalConfig:
    """UnifyBench++."""

    clip: str = option("world", "folder or hub id of the CLIP that scores pictures, or 'world'", path=True)
    judge: JudgeConfig = dataclasses.field(default_factory=JudgeConfig, metadata={"doc": "scores texts and pictures"})
    tasks: list[str] = dataclasses.field(default_factory=list, metadata={"doc": "tasks to run; empty is all nine"})
    max_items: int | None = option(None, "items per task and concept at most; empty is all", ge=1)
    lookalikes: bool = option(False, "also ask about look-alikes of the concept, in words and by drawing")
    images_per_prompt: int = option(1, "images drawn per prompt", ge=1)
    generation_timesteps: int = option(8, "MaskGIT steps per image", ge=1)
    guidance_scale: float = option(0.0, "guidance of the drawings", ge=0)
    temperature: float = option(1.0, "temperature of the drawings; answers are greedy", gt=0)
    max_completion_length: int = option(48, "tokens per answer at most", ge=1)
    batch_size: int = option(16, "items per batch", ge=1)
    seed: int = option(3407, "base seed; every item derives its own", ge=0)


@dataclasses.dataclass(kw_only=True, slots=True)
class RunConfig:
    """Where results go and on what the run computes."""

    name: str = option("run", "folder of this run inside output_dir")
    output_dir: str = option("runs", "folder of all runs", path=True)
    seed: int = option(0, "all sampling derives from (seed, step, index)", ge=0)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where to compute; auto prefers cuda")
    precision: Literal["fp32", "bf16"] = option("fp32", "bf16 is autocast; log-probabilities stay fp32")
    sharding: Literal["none", "fsdp2", "zero1"] = option(
        "none",
        "of memory among several processes: fsdp2 the optimizer's and the KL reference's; zero1 the optimizer's",
    )
    peer_timeout_s: float = option(
        1800.0, "seconds that one of several processes waits for another before it gives up", ge=1
    )
    save_steps: int = option(20, "updates between checkpoints; the last step is always saved", ge=1)
    save_total_limit: int = option(2, "checkpoints kept", ge=1)
    log_completions: bool = option(True, "write trajectories and pictures")
    completions_steps: int = option(5, "steps between written trajectories", ge=1)
    completions_images: int = option(24, "pictures per written step at most", ge=0)

    @property
    def folder(self) -> Path:
        return Path(self.output_dir) / self.name
