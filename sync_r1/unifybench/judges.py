"""What `sync-r1 bench` is started with: settings of the model, who scores, and where the embedded world's data lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from sync_r1.config import Config, JudgeConfig, load_config
from sync_r1.constants import WORLD
from sync_r1.data import load_image
from sync_r1.data.layout import Layout
from sync_r1.data.pictures import is_picture_name
from sync_r1.files import MANIFEST, write_manifest
from sync_r1.scorer_factory import build_evaluator
from sync_r1.scorers.judge import RemoteJudge
from sync_r1.unifybench.fingerprint import network_content, network_digest
from sync_r1.unifybench.metrics import BenchmarkJudges, counts_unasked
from sync_r1.unifybench.protocol import Protocol, digest
from sync_r1.world.export import export_world
from sync_r1.world.judge import WorldJudge
from sync_r1.world.render import SIZE

# options that a benchmark takes; decoding and the rest belong to the protocol
SCORING, MODEL = ("eval.judge.", "eval.clip="), "model."


def read_options(overrides: Sequence[str]) -> Config:
    """The configuration with `eval.judge.*`, `eval.clip` and `model.*` options.

    Raises ValueError for options that a benchmark would ignore, that do not exist or are out of range.
    """
    for text in overrides:
        name = text.partition("=")[0]
        if name == "model.path":
            raise ValueError(f"{text!r}: name the model under test with --model")
        if not text.startswith((*SCORING, MODEL)):
            raise ValueError(
                f"{text!r} has no effect on a benchmark; it takes eval.judge.*, eval.clip and model.* options, "
                "decoding and seeds with --set, and tasks with --tasks"
            )
    return load_config(None, overrides)


def is_world_data(root: Path, concepts: Sequence[str]) -> bool:
    """Whether the concepts' first photos have the size of the embedded world's pictures, all that its judge and CLIP
    can read.
    """
    for name in concepts:
        folder = Layout(root).train(name)
        photo = next((path for path in sorted(folder.glob("*")) if is_picture_name(path)), None)
        if photo is None or load_image(photo).size != (SIZE, SIZE):
            return False
    return True


def build_judges(
    protocol: Protocol, options: Sequence[str], model: str = "world", device: str = "auto"
) -> BenchmarkJudges:
    """Judge and CLIP as `eval.*` options name them, set to the protocol's preprocessing and reading of replies.

    Args:
        options: "eval.judge.url=…" and the like.
        model: path of the model under test; the world's judges read pictures of the world's size only.
    Raises:
        ValueError: an option that does not exist, or judges that cannot be loaded or do not fit the model.
    """
    config = read_options(options)
    config.model.path, config.run.device = model, device  # type: ignore[assignment]
    _set_client(protocol, config.eval.judge, options)
    found = build_evaluator(config.validate())
    judges = BenchmarkJudges(judge=found.image_judge, clip=found.clip, clip_name=config.eval.clip)
    if found.image_judge is not None:
        judges.judge_name = found.name
    if isinstance(judges.judge, RemoteJudge):
        judges.judge.parsing = "strict"
        if protocol.unparsable == "zero":
            judges.judge.parsing = "published"
        temperature = config.eval.judge.temperature
        if temperature is not None:
            judges.judge_name += f"; temperature {temperature:g}"
        judges.judge_setting = digest(
            [judges.judge.name, temperature, config.eval.judge.max_side, config.eval.judge.images_per_call]
        )
    elif isinstance(judges.judge, WorldJudge):
        judges.judge_setting = network_digest(judges.judge.reader)
    if protocol.unasked and not counts_unasked(judges.judge):
        raise ValueError(
            "protocol option unasked=true needs the embedded world's judge, and one that was trained with pictures of "
            "two (world 2); give --judge world, or leave the option out"
        )
    if found.clip is not None:
        found.clip.preprocessing = protocol.clip_preprocessing
        judges.clip_setting = network_content(config.eval.clip, found.clip.model)
    return judges


def _set_client(protocol: Protocol, judge: JudgeConfig, options: Sequence[str]) -> None:
    """The protocol's own temperature and timeout, where it names some. ValueError when an option says otherwise."""
    for name, wanted in (("temperature", protocol.judge_temperature), ("timeout_s", protocol.judge_timeout_s)):
        if wanted is not None and getattr(judge, name) != wanted:
            if any(text.startswith(f"eval.judge.{name}=") for text in options):
                raise ValueError(
                    f"eval.judge.{name} is {getattr(judge, name)}, but protocol {protocol.name!r} asks with {wanted}; "
                    f"change it with --set judge_{name}={getattr(judge, name)}"
                )
            setattr(judge, name, wanted)


def check_world_judges(judges: dict[str, str], root: Path, concepts: Sequence[str]) -> None:
    """ValueError when the embedded world's judge or CLIP (option → value) would score anything but the embedded
    world."""
    named = [option for option, value in judges.items() if value == WORLD]
    if named and not is_world_data(root, concepts):
        raise ValueError(
            f"{' and '.join(named)}: the default 'world' reads words and {SIZE}-pixel pictures of the embedded "
            f"world only, but the data is {root}; give --judge <URL> or --judge none, and --clip "
            "openai/clip-vit-base-patch32 or --clip none"
        )


def export_once(folder: Path) -> Path:
    """Write the embedded world's twenty concepts to `folder` unless a complete copy is there.

    Pictures keep their paths from then on.
    """
    state = PartialState()
    if state.is_main_process and not (folder / MANIFEST).is_file():
        export_world(folder, overwrite=True)
        write_manifest(folder)
    state.wait_for_everyone()
    return folder
