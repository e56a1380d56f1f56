"""One configuration: keyword-only dataclasses, a line of documentation per field, checked before any weight is loaded.

Precedence: defaults < recipe < YAML file < dotted overrides (`rl.num_generations=12`). Names follow TRL where the
meaning is the same.
"""

from sync_r1.config.loading import Config, load_config, save_config
from sync_r1.config.rl import RewardConfig, RLConfig, Weight
from sync_r1.config.sections import (
    SFT_STAGES,
    DataConfig,
    EvalConfig,
    JudgeConfig,
    ModelConfig,
    RunConfig,
    ScorersConfig,
    SFTConfig,
)

__all__ = [
    "SFT_STAGES",
    "Config",
    "DataConfig",
    "EvalConfig",
    "JudgeConfig",
    "ModelConfig",
    "RLConfig",
    "RewardConfig",
    "RunConfig",
    "SFTConfig",
    "ScorersConfig",
    "Weight",
    "load_config",
    "save_config",
]
