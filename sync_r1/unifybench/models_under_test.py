"""Which model is under test: a base or its baselines, checkpoints of a run at several steps, or a chat model.

Opened concept by concept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sync_r1.config import EvalConfig, JudgeConfig, ModelConfig
from sync_r1.data import Concept
from sync_r1.models.base import UnifiedModel
from sync_r1.opening import load_model
from sync_r1.run_folder import checkpoint_to_use, config_of, run_of_concept, step_of
from sync_r1.run_folder import checkpoints as checkpoints_of
from sync_r1.scorers.chat.client import ChatClient
from sync_r1.session import Session
from sync_r1.unifybench.adapters import Adapter, TokensAdapter
from sync_r1.unifybench.baselines import ImagePrompt, TextPrompt
from sync_r1.unifybench.chat import ChatAdapter
from sync_r1.unifybench.protocol import Protocol

Kind = Literal["tokens", "text-prompt", "image-prompt", "chat"]
KINDS = ("tokens", "text-prompt", "image-prompt", "chat")


@dataclass(frozen=True, kw_only=True)
class ModelUnderTest:
    """A model under test at one epoch. `open` loads it with one concept."""

    label: str
    epoch: int
    open: Callable[[Concept, Path], Adapter]


def base_model(
    path: str,
    kind: Kind,
    protocol: Protocol,
    *,
    device: str = "auto",
    batch_size: int = 16,
    settings: ModelConfig | None = None,
) -> ModelUnderTest:
    """Weights of one folder; `{concept}` in its path stands for each concept's name.

    tokens: the concept's own, if the weights have them; else fresh ones as `settings` says, the start of every
        training. The model is loaded anew for each concept, so that no concept sees another's tokens. text-prompt,
        image-prompt: see baselines; one load serves all concepts.

    Args:
        settings: dtype, tokenizers, and number and start of fresh tokens.
    """
    if kind == "tokens":
        options = EvalConfig(batch_size=batch_size)

        def with_tokens(concept: Concept, root: Path) -> Adapter:
            weights = path.replace("{concept}", concept.name)
            session = Session.open(
                model=weights, data=root, concept=concept.name, device=device, options=options, settings=settings
            )
            return TokensAdapter(session, protocol)

        return ModelUnderTest(label=path, epoch=0, open=with_tokens)
    baseline = {"text-prompt": TextPrompt, "image-prompt": ImagePrompt}.get(kind)
    if baseline is None:
        raise ValueError(f"kind is {kind!r}; a model folder can be tested as {', '.join(KINDS[:3])}")
    loaded: dict[str, UnifiedModel] = {}  # the newest only

    def described(concept: Concept, root: Path) -> Adapter:
        weights = path.replace("{concept}", concept.name)
        if weights not in loaded:
            loaded.clear()
            loaded[weights] = load_model(weights, device, settings)
        return baseline(loaded[weights], concept, protocol, batch_size)

    return ModelUnderTest(label=f"{path} {kind}", epoch=0, open=described)


def chat_model(config: JudgeConfig, protocol: Protocol, photo: bool = False) -> ModelUnderTest:
    """An external chat model, for the understanding tasks."""
    client = ChatClient(config, version="bench")
    label = f"{config.model}{' with photo' if photo else ''}"
    return ModelUnderTest(
        label=label, epoch=0, open=lambda concept, root: ChatAdapter(client, concept, protocol, photo)
    )


def checkpoints(
    run: str,
    steps: Sequence[int] | None,
    concepts: Sequence[str],
    protocol: Protocol,
    *,
    device: str = "auto",
    batch_size: int = 16,
) -> list[ModelUnderTest]:
    """A run's checkpoints by step; step 0 is the model it started from.

    Args:
        run: a run folder, or a pattern for `run_of_concept` where every concept has a run of its own.
        steps: default: the newest complete checkpoint of each run, as one model under test, at the largest step.
    Raises:
        ValueError: no run, or several, for a concept; a run without such a checkpoint (the steps it has are named).
    """
    folders = {name: run_of_concept(run, name) for name in concepts}
    newest = {name: checkpoint_to_use(folder) for name, folder in folders.items()}
    for folder in folders.values():
        known = _steps(folder)
        for step in [step for step in steps or [] if step not in known]:
            raise ValueError(f"{folder} has no complete checkpoint of step {step}; it has {', '.join(map(str, known))}")
    options = EvalConfig(batch_size=batch_size)

    def opener(step: int | None) -> Callable[[Concept, Path], Adapter]:
        def open_one(concept: Concept, root: Path) -> Adapter:
            started = config_of(newest[concept.name])
            if step == 0:
                fresh = base_model(
                    started.model.path, "tokens", protocol, device=device, batch_size=batch_size, settings=started.model
                )
                return fresh.open(concept, root)
            if step is None:
                folder = newest[concept.name]
            else:
                folder = _steps(folders[concept.name])[step]
            session = Session.open(checkpoint=folder, data=root, concept=concept.name, device=device, options=options)
            return TokensAdapter(session, protocol)

        return open_one

    if not steps:
        last = max((step_of(path) for path in newest.values()), default=0)
        return [ModelUnderTest(label=run, epoch=last, open=opener(None))]
    return [ModelUnderTest(label=f"{run}@{step}", epoch=step, open=opener(step)) for step in steps]


def _steps(run: Path) -> dict[int, Path]:
    """Complete checkpoints of a run by step, and 0 for its start."""
    return {0: run, **{step_of(path): path for path in checkpoints_of(run)}}
