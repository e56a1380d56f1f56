"""A configuration as a whole: read from YAML and overrides, checked before any weight is loaded, written again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sync_r1.config import checks
from sync_r1.config.rl import RLConfig
from sync_r1.config.sections import DataConfig, EvalConfig, ModelConfig, RunConfig, ScorersConfig, SFTConfig
from sync_r1.config_fields import check_ranges, check_unicode, describe, kind_of, merge, parse_yaml, shown
from sync_r1.files import read_text, write_text


@dataclasses.dataclass(kw_only=True, slots=True)
class Config:
    """Everything a run depends on; `config.yaml` in the run folder is this, resolved."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    scorers: ScorersConfig = dataclasses.field(default_factory=ScorersConfig)
    sft: SFTConfig = dataclasses.field(default_factory=SFTConfig)
    rl: RLConfig = dataclasses.field(default_factory=RLConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)

    def validate(self) -> Config:
        """Check every range, then what fields demand of each other. Raises ValueError: value seen, limit, fix."""
        check_ranges(self, "")
        checks.check_steps(self.rl)
        checks.check_losses(self.rl)
        checks.check_tree(self.rl)
        checks.check_run(self.rl, self.run)
        checks.check_rewards(self.rl)
        checks.check_warm_up(self.sft)
        checks.check_precision(self.model, self.rl)
        return self


@functools.cache
def _names() -> list[str]:
    return [name for name, *_ in describe(Config())]


def _override(config: Config, text: str) -> None:
    path, equals, raw = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2:
        raise ValueError(f"override {shown(text)} is not section.option=value; for example rl.num_generations=12")
    check_unicode(raw, path.strip())
    if kind_of(Config, keys) is str and raw.strip()[:1] not in ("'", '"'):
        tree: Any = raw.strip()
    else:
        tree = parse_yaml(raw, f"override {shown(text)}", texts=True)
    for key in reversed(keys):
        tree = {key: tree}
    current = getattr(getattr(config, keys[0], None), keys[1], None)
    if isinstance(current, dict) and len(keys) > 2:
        plain = dataclasses.asdict(config)[keys[0]][keys[1]]
        tree = {keys[0]: {keys[1]: _deep(plain, tree[keys[0]][keys[1]])}}  # one entry changes, the others stay
    merge(config, tree, known=_names())


def _deep(old: Any, new: Any) -> Any:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{key: _deep(old.get(key), value) for key, value in new.items()}}


def load_config(path: str | Path | None = None, overrides: Sequence[str] = (), *, base: Config | None = None) -> Config:
    """Base (defaults or a recipe) < YAML file < overrides, validated.

    Raises:
        ValueError: an unknown option (with near matches) or a value outside its range (value, limit, fix).
        FileNotFoundError: `path` does not exist.
    """
    if base is not None:
        config = base
    else:
        config = Config()
    if path is not None:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such configuration file")
        values = parse_yaml(read_text(Path(path)), str(path), texts=True) or {}
        if not isinstance(values, Mapping):
            raise ValueError(
                f"{path} holds {type(values).__name__}; it must be a mapping of "
                f"{', '.join(f.name for f in dataclasses.fields(config))}"
            )
        merge(config, values, known=_names())
    for text in overrides:
        _override(config, text)
    return config.validate()


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration; `load_config` of the file gives it back."""
    write_text(Path(path), yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True))
