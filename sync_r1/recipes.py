"""Named starting points: plain functions that change a configuration.

Baselines differ from `world` or `showo-*` in one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sync_r1.config import Config
from sync_r1.suggestions import did_you_mean

Recipe = Callable[[Config], None]


def world(config: Config) -> None:
    """The embedded world on two CPU cores, from rewards alone: minutes, no download."""
    config.model.path = config.data.root = "world"
    rl = config.rl
    rl.max_steps, rl.prompts_per_step, rl.num_generations = 100, 3, 8
    rl.draw_every = 2  # texts need more updates than pictures, and cost a fifth even with three times the prompts:
    rl.text_prompts_per_step = 9  # of few prompts an update learns what is not meant, such as one fact for every word
    rl.learning_rate, rl.concept_learning_rate = 4e-4, 2e-2
    rl.epsilon_high = 0.28
    rl.look_fraction = 0.2
    rl.generation_timesteps, rl.train_timesteps = 8, 4
    rl.max_completion_length = 24
    rl.lr_scheduler_type, rl.beta = "cosine", 0.08
    rl.scale_rewards, rl.entropy_coef = "batch", 0.01
    rl.text_loss_weight, rl.image_loss_weight = 8.0, 0.5
    rl.reward_weights = {
        "rewrite": 2.0,
        "answer": 1.0,
        "likeness": 1.0,
        "faithfulness": 0.5,
        "unasked": 0.5,
        "identity": 0.1,
        "alignment": 0.1,
    }
    rl.dgs_enabled, rl.dgs_candidate_factor, rl.dgs_preview_step = True, 2.0, 2
    rl.dgs_preview_score = "reward"
    sft = config.sft  # how the world's model was pretrained
    sft.photo_prompt, sft.crop_scale, sft.described = "a photo of {name}", 1.0, True
    config.eval.batch_size = 64
    config.run.save_steps = 25


def photos_first(config: Config) -> None:
    """Before RL, the concept's soft tokens learn to draw its photos (textual inversion): half a minute, and no answer
    is given."""
    config.sft.stages, config.sft.epochs = ["photos"], None
    config.sft.learning_rate, config.sft.body_learning_rate = config.rl.concept_learning_rate, 0.0


def demo(config: Config) -> None:
    """What `sync-r1 demo` runs: the embedded world, after a look at the photos.

    Fewer rollouts need to be drawn then.
    """
    world(config)
    photos_first(config)
    config.rl.draw_every = 4


def showo_256(config: Config) -> None:
    """Show-o at 256² (256 image tokens) on one GPU."""
    config.model.path = "showlab/show-o"
    rl = config.rl
    rl.max_steps, rl.prompts_per_step, rl.num_generations = 200, 1, 9
    rl.learning_rate, rl.concept_learning_rate = 1e-6, 1e-3
    rl.warmup_steps, rl.lr_scheduler_type = 10, "cosine"
    rl.weight_decay = 1e-3
    rl.beta = 0.01
    rl.top_k, rl.max_completion_length = None, 100
    rl.generation_timesteps, rl.train_timesteps = 18, 6
    rl.guidance_scale = 0.0
    rl.sequences_per_backward, rl.gradient_checkpointing = 8, True
    rl.dgs_enabled, rl.dgs_preview_step = True, 6
    rl.look_fraction, rl.recognize_fraction = 0.4, 0.1
    rl.reward_weights = {"rewrite": 0.35, "answer": 0.35, "identity": 0.4, "alignment": 0.25}
    scorers = config.scorers
    scorers.clip, scorers.judge.url = "openai/clip-vit-large-patch14", ""
    config.eval.clip, config.eval.judge.url = "openai/clip-vit-base-patch32", ""
    config.model.num_tokens = config.model.reading_tokens = 16
    config.eval.generation_timesteps, config.eval.guidance_scale = 18, 5.0
    config.eval.max_completion_length = 100
    config.run.precision = "bf16"


def showo_512(config: Config) -> None:
    """Show-o at 512² (1024 image tokens) on one large GPU: the published setting, 24 soft tokens and 50 steps."""
    showo_256(config)
    config.model.path = "showlab/show-o-512x512"
    config.model.num_tokens = 24  # 16 of them also for reading
    rl = config.rl
    rl.generation_timesteps, rl.train_timesteps = 50, 8
    rl.guidance_scale = 5.0
    rl.sequences_per_backward = 2
    rl.dgs_preview_step = 10
    config.eval.generation_timesteps = 50


def joint(config: Config) -> None:
    """Sync-R1: both parts are optimised, each with its own credit."""
    config.rl.optimise, config.rl.credit = "both", "routed"


def shared_credit(config: Config) -> None:
    """Both parts are optimised with one advantage."""
    config.rl.optimise, config.rl.credit = "both", "shared"


def understanding_only(config: Config) -> None:
    """Text tokens on text rewards; nothing is drawn."""
    config.rl.optimise, config.rl.credit, config.rl.draw_every = "text", "routed", 1
    config.rl.dgs_enabled = False


def generation_only(config: Config) -> None:
    """Image tokens on image rewards; text is sampled but neither judged nor optimised."""
    config.rl.optimise, config.rl.credit, config.rl.draw_every = "image", "routed", 1


def image_credit_only(config: Config) -> None:
    """Image tokens on the whole reward: the text is judged but its tokens get no gradient (the published code's
    behaviour)."""
    config.rl.optimise, config.rl.credit, config.rl.draw_every = "image", "shared", 1


def label_free(config: Config) -> None:
    """No text is compared with anything: how well a picture shows what was meant is the only reward, and teaches both
    parts. (Its judge knows the true prompt.) A picture says little about a text, so many prompts are asked, all their
    completions are drawn, and nothing that does not depend on the text is scored."""
    rl = config.rl
    rl.optimise, rl.credit = "both", "routed"
    rl.reward_weights, rl.look_fraction = {"faithfulness": 1.0}, 0.0
    rl.draw_every, rl.prompts_per_step, rl.max_steps = 1, 9, 60
    rl.dgs_enabled = False


def label_free_previews(config: Config) -> None:
    """The same for a tenth of the evaluations: texts are judged by what one evaluation of their drawing prompt shows,
    and finished as pictures only where that does not tell them apart. A stronger KL keeps them exploring."""
    label_free(config)
    rl = config.rl
    rl.beta = 0.3
    rl.dgs_enabled, rl.dgs_keep, rl.images_per_text = True, "ties", 2
    rl.dgs_preview_step, rl.dgs_preview_fill = 3 * rl.generation_timesteps // 4, "likely"


def recognition(config: Config) -> None:
    """Yes-or-no questions about photos too, learned by their exact gradient: as many yes as no in every update."""
    config.rl.closed_loss, config.rl.closed_prompts_per_step = "log", 8


def taught_by_drawing(config: Config) -> None:
    """After a look at the photos the image part teaches the words, and nothing is told but photos: it answers whether
    the concept is in them, in other pictures and in the model's own drawings, and the text part learns its answers.

    Few updates at lower rates: with more, what few pictures have in common passes for the concept, and other answers
    suffer.
    """
    rl = config.rl
    rl.optimise, rl.dgs_enabled, rl.draw_every = "decisions", False, 1
    rl.closed_loss, rl.closed_labels, rl.closed_prompts_per_step = "log", "drawing", 16
    rl.closed_own_drawings, rl.max_steps, rl.beta = 96, 12, 0.0
    rl.learning_rate, rl.concept_learning_rate = rl.learning_rate / 2, rl.concept_learning_rate / 10


def sft_baseline(config: Config) -> None:
    """Token-level training on the prompts RL would ask, with the true answers: for `sync-r1 sft`.

    Rates and mix are RL's.
    """
    sft, rl = config.sft, config.rl
    sft.stages, sft.epochs = ["baseline"], 10
    sft.learning_rate, sft.body_learning_rate = rl.concept_learning_rate, rl.learning_rate
    sft.understanding_weight, sft.drawing_weight = 0.8, 0.2


def warm_start(config: Config) -> None:
    """RL after a short supervised start, instead of from the concept's initial rows."""
    sft_baseline(config)
    config.sft.epochs = 3


def dgs(config: Config) -> None:
    """Dynamic Group Scaling on."""
    config.rl.dgs_enabled = True


def no_dgs(config: Config) -> None:
    """Dynamic Group Scaling off: plain GRPO."""
    config.rl.dgs_enabled = False


def tree(config: Config) -> None:
    """Dynamic Group Scaling, second version: per prompt two texts are drawn, each as a trunk of three quarters of the
    steps with four leaves; previews are baselines, and the last steps are always replayed."""
    rl = config.rl
    rl.dgs_enabled, rl.dgs_keep, rl.dgs_trunks, rl.images_per_text = True, "tree", 2, 4
    rl.dgs_preview_step, rl.dgs_preview_fill = 3 * rl.generation_timesteps // 4, "likely"
    rl.image_baseline, rl.timestep_sampling = "previews", "late"


RECIPES: dict[str, Recipe] = {
    "world": world,
    "demo": demo,
    "showo-256": showo_256,
    "showo-512": showo_512,
    "joint": joint,
    "shared-credit": shared_credit,
    "understanding-only": understanding_only,
    "generation-only": generation_only,
    "image-credit-only": image_credit_only,
    "label-free": label_free,
    "label-free-previews": label_free_previews,
    "recognition": recognition,
    "taught-by-drawing": taught_by_drawing,
    "sft-baseline": sft_baseline,
    "warm-start": warm_start,
    "photos-first": photos_first,
    "dgs": dgs,
    "no-dgs": no_dgs,
    "tree": tree,
}

STARTING_POINTS = ("world", "demo", "showo-256", "showo-512")  # they set everything; the others change one thing


def apply_recipes(names: Sequence[str], config: Config | None = None) -> Config:
    """Apply recipes in order: `["demo", "image-credit-only"]`.

    Raises:
        ValueError: an unknown name, or a starting point behind a recipe that it would undo.
    """
    if config is None:
        config = Config()
    for place, name in enumerate(names):
        if name not in RECIPES:
            raise ValueError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)}")
        if name in STARTING_POINTS and (undone := [other for other in names[:place] if other not in STARTING_POINTS]):
            raise ValueError(f"recipe {name!r} is a starting point and would undo {undone[-1]!r}; name it first")
        RECIPES[name](config)
    return config
