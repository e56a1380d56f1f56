"""The shipped weights of the world: the unified model, its CLIP, and the two readers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sync_r1.models.showo.model import Showo
from sync_r1.scorers.clip import ClipScorer
from sync_r1.world.readers import AttributeReader

ASSETS = Path(__file__).parent / "assets"
PARTS = ("model", "clip", "reward_reader", "evaluator_reader")


def _part(name: str, assets: Path | None) -> Path:
    folder = (assets or ASSETS) / name
    if not folder.is_dir():
        raise ValueError(f"{folder} is missing; run `sync-r1 world pretrain` or install the package with its weights")
    return folder


def load_world_model(assets: Path | None = None) -> Showo:
    """The pretrained Show-o, which knows no personal concept."""
    return Showo.from_pretrained(_part("model", assets))


def load_world_clip(assets: Path | None = None) -> ClipScorer:
    return ClipScorer.from_pretrained(_part("clip", assets))


def load_reward_reader(assets: Path | None = None) -> AttributeReader:
    """The reader that rewards (convolutions)."""
    return AttributeReader.from_pretrained(_part("reward_reader", assets))


def load_evaluator_reader(assets: Path | None = None) -> AttributeReader:
    """The reader that evaluates (attention over patches); never used for a reward."""
    return AttributeReader.from_pretrained(_part("evaluator_reader", assets))


def file_hashes(assets: Path | None = None) -> dict[str, str]:
    """sha256 of every weight file, by path relative to the assets folder."""
    root = assets or ASSETS
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*.safetensors"))}


def check_assets(assets: Path | None = None) -> list[str]:
    """Problems with the shipped weights, in words; empty when every file is there and unchanged since `card.json` was written."""
    root = assets or ASSETS
    card = root / "card.json"
    if not card.is_file():
        return [f"{card} is missing"]
    expected, found = json.loads(card.read_text())["sha256"], file_hashes(root)
    problems = [f"{root / name} is missing" for name in expected if name not in found]
    return problems + [f"{root / name} differs from the model card" for name in expected if name in found and found[name] != expected[name]]
