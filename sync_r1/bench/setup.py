"""Who scores, and where the embedded world's data lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from sync_r1.bench.measure import Judges
from sync_r1.bench.protocol import Protocol
from sync_r1.config import load_config
from sync_r1.manifest import MANIFEST, write_manifest
from sync_r1.scorers.judge import RemoteJudge
from sync_r1.scoring import build_evaluator
from sync_r1.world.export import export_world


def build_judges(protocol: Protocol, options: Sequence[str], model: str = "world", device: str = "auto") -> Judges:
    """Judge and CLIP as `eval.*` options name them, set to the protocol's preprocessing and reading of replies.

    Args:
        options: "eval.judge.url=…" and the like.
        model: path of the model under test; the world's judges read pictures of the world's size only.
    Raises:
        ValueError: an option that does not exist, or judges that cannot be loaded or do not fit the model.
    """
    config = load_config(None, options)
    config.model.path, config.run.device = model, device  # type: ignore[assignment]
    found = build_evaluator(config.validate())
    if isinstance(found.image_judge, RemoteJudge):
        found.image_judge.parsing = "published" if protocol.unparsable == "zero" else "strict"
    if found.clip is not None:
        found.clip.preprocessing = protocol.clip_preprocessing
    judge_name = found.name if found.image_judge is not None else ""
    return Judges(judge=found.image_judge, judge_name=judge_name, clip=found.clip, clip_name=config.eval.clip)


def export_once(folder: Path) -> Path:
    """Write the embedded world's twenty concepts to `folder` unless a complete copy is there. Pictures keep their paths from then on."""
    state = PartialState()
    if state.is_main_process and not (folder / MANIFEST).is_file():
        export_world(folder, overwrite=True)
        write_manifest(folder)
    state.wait_for_everyone()
    return folder
