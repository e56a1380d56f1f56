"""The shipped weights of the world: the unified model, its CLIP, and the two readers.

Each network is imported where it is loaded: who only asks the model shall not wait for those that score.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_r1.models.showo.model import Showo
    from sync_r1.scorers.clip import ClipScorer
    from sync_r1.world.readers import AttributeReader

ASSETS = Path(__file__).parent / "assets"
EVALUATOR = "world evaluator (attention over patches)"
REWARD_MODELS = ["world CLIP", "world reward reader (convolutions)"]


def _part(name: str, assets: Path | None) -> Path:
    folder = (assets or ASSETS) / name
    if not folder.is_dir():
        raise ValueError(f"{folder} is missing; run `sync-r1 world pretrain` or install the package with its weights")
    return folder


def load_world_model(assets: Path | None = None) -> Showo:
    """The pretrained Show-o, which knows no personal concept.

    ValueError, here and below, when the weights are missing, or of an earlier version of the world.
    """
    from sync_r1.models.showo.model import Showo
    from sync_r1.world.version import check_version

    model = Showo.from_pretrained(_part("model", assets))
    check_version(model, "be used with this version's pictures and readers")
    return model


def load_world_clip(assets: Path | None = None) -> ClipScorer:
    """The CLIP trained on the world's pictures and captions."""
    from sync_r1.scorers.clip import ClipScorer

    return ClipScorer.from_pretrained(_part("clip", assets))


def load_reward_reader(assets: Path | None = None) -> AttributeReader:
    """The reader that rewards (convolutions)."""
    from sync_r1.world.readers import AttributeReader

    return AttributeReader.from_pretrained(_part("reward_reader", assets))


def load_evaluator_reader(assets: Path | None = None) -> AttributeReader:
    """The reader that evaluates (attention over patches); never used for a reward."""
    from sync_r1.world.readers import AttributeReader

    return AttributeReader.from_pretrained(_part("evaluator_reader", assets))
