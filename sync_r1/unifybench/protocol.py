"""How a benchmark number was made: every choice the published code and texts leave open is one named option, kept with
each score.

Presets: "world" (the embedded model's own prompts and decoding, the default), "unifybenchpp-2026" (the published rules,
    oddities included), "legacy" (the first UnifyBench, in part: see ABOUT) and "corrected" (the published setting
    without its oddities).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from sync_r1.config import EvalConfig
from sync_r1.config_fields import check_ranges, merge, option, parse_yaml
from sync_r1.suggestions import did_you_mean
from sync_r1.types import Sampling

PUBLISHED_20 = (
    "fine_woolfhard", "butin", "will", "gold_pineapple", "coco", "nha_tho_hanoi", "wangkai", "adrien_brody", "bo",
    "ningning", "emma", "dunpai", "mam", "maeve_dog", "leonardo", "pig_cup", "skulls_mug", "mydieu", "b_jordan",
    "willinvietnam",
)  # fmt: skip
PUBLISHED_13 = (
    "adrien_brody", "b_jordan", "butin", "coco", "dunpai", "fine_woolfhard", "gold_pineapple", "leonardo", "maeve_dog",
    "mam", "ningning", "pig_cup", "wangkai",
)  # fmt: skip
CONCEPT_LISTS = {"published-20": PUBLISHED_20, "published-13": PUBLISHED_13}


@dataclasses.dataclass(kw_only=True, slots=True)
class Protocol:
    """Options up to `seed_epoch` decide predictions; those after it decide scores only."""

    name: str = option("world", "what numbers made this way are called")
    text_prefix: Literal["none", "understanding", "all"] = option(
        "understanding", "prompts that begin with the name and info lines"
    )
    baseline_name: Literal["own", "spoken"] = option(
        "spoken", "TP and IP say '<c>', as published, or a name met in pretraining ('the dog' without one)"
    )
    reading_tokens: Literal["none", "shared", "all"] = option(
        "all",
        "soft tokens of '<c> is TOKS.' before questions: those shared with drawing, or also those for reading alone",
    )
    token_space: bool = option(False, "a space between soft tokens and placeholder in drawing prompts")
    rewrite_prompt: str = option(
        "trained",
        "'trained' (short form of training), 'instruction' (facts as a Python list), or a JSON file",
        path=True,
    )
    pure_name: Literal["slot", "everywhere"] = option(
        "slot", "pure_gen: 'everywhere' also replaces the name inside words (rainbow)"
    )
    drawn_rewrite: Literal["composed", "verbatim"] = option(
        "composed", "*_rea_gen: 'composed' drops the final period as in training"
    )
    gen_input: Literal["prediction", "truth"] = option(
        "prediction", "*_rea_gen draws the model's own rewrite, or the right one"
    )
    eval_flip: bool = option(False, "mirror one understanding picture in four, by the item's seed")
    max_completion_length: int = option(48, "tokens per greedy answer at most", ge=1)
    generation_timesteps: int = option(8, "MaskGIT steps per picture", ge=1)
    guidance_scale: float = option(0.0, "w in (1+w)·cond − w·uncond", ge=0)
    temperature: float = option(1.0, "divides the logits of image tokens", gt=0)
    choice_temperature: float = option(
        1.0, "annealed noise on which image tokens are kept first; the published 'temperature'", ge=0
    )
    images_per_prompt: int = option(1, "pictures per prompt", ge=1)
    seed: int = option(3407, "base of every item's seed", ge=0)
    seed_name: str = option("sync_r1", "adapter name inside the seeds")
    seed_epoch: bool = option(False, "seeds differ between checkpoints; off, checkpoints are compared with equal noise")

    concepts: Literal["all", "published-20", "published-13"] = option("all", "concepts averaged when none are named")
    tasks: list[str] = dataclasses.field(
        default_factory=list, metadata={"doc": "tasks run when none are named; empty is all nine"}
    )
    recognition: Literal["whole-word", "substring"] = option("whole-word", "rec: 'substring' takes not and know for no")
    empty_side: Literal["skip", "zero"] = option("skip", "rec without positive or without negative items")
    clip_preprocessing: Literal["standard", "legacy"] = option(
        "standard", "'legacy' squeezes pixels to [0.5, 1] before CLIP"
    )
    clip_references: Literal["test", "train"] = option("test", "CLIP-I compares with held-out or training pictures")
    clip_reference_count: int | None = option(1, "how many of them; empty is all", ge=1)
    clip_reference_order: Literal["natural", "string"] = option("natural", "2.png before 10.png, or after")
    clip_text: Literal["class-noun", "published"] = option(
        "class-noun", "CLIP-T reads the class noun; 'published': in pure_gen only"
    )
    long_text: Literal["truncate", "raise"] = option("truncate", "CLIP-T texts above 77 tokens")
    image_judge: Literal["clauses", "whole", "both"] = option(
        "both", "gpt of drawings per clause or per picture; both adds 'judge'"
    )
    unparsable: Literal["none", "zero"] = option("none", "a judge's reply without a number")
    judge_temperature: float | None = option(None, "of the judge's replies; empty: as eval.judge.temperature", ge=0)
    judge_timeout_s: float | None = option(None, "seconds a judge may take; empty: as eval.judge.timeout_s", gt=0)
    lookalikes: bool = option(False, "also ask about look-alikes, in words and by drawing; the data must hold them")
    unasked: bool = option(
        False, "also count what drawings show that neither prompt nor concept names; needs the world's judge"
    )

    @property
    def text_sampling(self) -> Sampling:
        return Sampling(top_k=1, max_completion_length=self.max_completion_length)

    @property
    def image_sampling(self) -> Sampling:
        names = ("temperature", "choice_temperature", "guidance_scale", "generation_timesteps")
        return Sampling(**{name: getattr(self, name) for name in names})

    def prediction_options(self) -> dict[str, Any]:
        """What predictions depend on."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in _FIELDS[1 : _FIELDS.index("concepts")]}

    def scoring_options(self) -> dict[str, Any]:
        """What the score of one prediction depends on; not which of them are averaged."""
        values = dataclasses.asdict(self)
        # the last two add to what is measured and change no other score
        no_matter = ("judge_timeout_s", "lookalikes", "unasked")
        return {name: values[name] for name in _FIELDS[_FIELDS.index("tasks") + 1 :] if name not in no_matter}

    def with_decoding(self, options: EvalConfig) -> Protocol:
        """The same with the decoding of an `eval` section."""
        names = (
            "max_completion_length",
            "generation_timesteps",
            "guidance_scale",
            "temperature",
            "images_per_prompt",
            "seed",
            "lookalikes",
        )
        return dataclasses.replace(self, **{name: getattr(options, name) for name in names})


_FIELDS = [field.name for field in dataclasses.fields(Protocol)]

_PUBLISHED: dict[str, Any] = {
    "text_prefix": "all",
    "baseline_name": "own",
    "reading_tokens": "shared",
    "token_space": True,
    "rewrite_prompt": "instruction",
    "drawn_rewrite": "verbatim",
    "max_completion_length": 100,
    "generation_timesteps": 50,
    "guidance_scale": 5.0,
    "image_judge": "clauses",
}
PRESETS: dict[str, dict[str, Any]] = {
    "world": {},
    "unifybenchpp-2026": {
        **_PUBLISHED,
        "pure_name": "everywhere",
        "eval_flip": True,
        "seed_name": "showo_weighted",
        "seed_epoch": True,
        "concepts": "published-20",
        "empty_side": "zero",
        "clip_reference_order": "string",
        "clip_text": "published",
        "long_text": "raise",
        "unparsable": "zero",
        "judge_temperature": 1e-5,
        "judge_timeout_s": 120.0,
    },
    "legacy": {
        **_PUBLISHED,
        "text_prefix": "none",
        "reading_tokens": "all",
        "gen_input": "truth",
        "images_per_prompt": 4,
        "tasks": ["rec", "vqa", "qa", "pure_gen"],
        "recognition": "substring",
        "empty_side": "zero",
        "clip_preprocessing": "legacy",
        "clip_references": "train",
        "clip_reference_count": None,
        "clip_text": "published",
        "long_text": "raise",
        "image_judge": "whole",
    },
    "corrected": {**_PUBLISHED, "clip_reference_count": None},
}
ABOUT = {  # one sentence per preset
    "world": "prompts and decoding the embedded model was made for",
    "unifybenchpp-2026": "the published rules of UnifyBench++, oddities included",
    "legacy": (
        "the first UnifyBench in part: recognition, questions and plain drawings with its prompts, matching and CLIP; "
        "not its face metric, its pictures that need knowledge, its multiple choice, nor its judges' wording"
    ),
    "corrected": "the published setting without its oddities",
}


def load_protocol(preset: str = "world", changes: Sequence[str] = ()) -> Protocol:
    """A preset with `option=value` changes, which become part of its name.

    Raises:
        ValueError: an unknown preset or option, or a value outside its range.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown protocol {preset!r}; {did_you_mean(preset, PRESETS)}")
    return changed(Protocol(name=preset, **PRESETS[preset]), changes)


def changed(protocol: Protocol, changes: Sequence[str]) -> Protocol:
    """The protocol with `option=value` changes, which become part of its name. ValueError as for `load_protocol`."""
    protocol = dataclasses.replace(protocol)
    for text in changes:
        key, equals, raw = text.partition("=")
        if not equals or key not in _FIELDS[1:]:
            hint = did_you_mean(key, _FIELDS[1:])
            raise ValueError(f"protocol option {text!r} is not option=value of a known option; {hint}")
        merge(protocol, {key: parse_yaml(raw, f"protocol option {text!r}", texts=True)}, known=_FIELDS)
    protocol.name = ", ".join([protocol.name, *sorted(changes)])
    check_ranges(protocol, "protocol.")
    return protocol


def read_protocol(values: dict[str, Any]) -> Protocol:
    """The protocol recorded in a file. ValueError when it has options we do not know."""
    if unknown := sorted(set(values) - set(_FIELDS)):
        raise ValueError(
            f"the recorded protocol has unknown options {unknown}; it was written by another version of sync-r1"
        )
    return Protocol(**values)


def describe_protocols() -> list[tuple[str, str, dict[str, Any]]]:
    """(option, documentation, value per preset) of every option."""
    made = {name: dataclasses.asdict(load_protocol(name)) for name in PRESETS}
    fields = [field for field in dataclasses.fields(Protocol) if field.name != "name"]
    found: list[tuple[str, str, dict[str, Any]]] = []
    for field in fields:
        found.append((field.name, field.metadata["doc"], {name: made[name][field.name] for name in PRESETS}))
    return found


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
