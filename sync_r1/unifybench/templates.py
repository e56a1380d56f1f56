"""The plain prompts of pure_gen."""

from __future__ import annotations

import json
from pathlib import Path

from sync_r1.data import Concept

# The public DreamBooth evaluation prompts (Ruiz et al., CVPR 2023): ten places for both types, ten more places for
# objects or outfits for live subjects, five properties. Each continues "a {name}".
SCENES = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric",
    "on top of a wooden floor", "with a city in the background", "with a mountain in the background",
    "with a blue house in the background", "on top of a purple rug in a forest",
)  # fmt: skip
MORE_SCENES = (
    "with a wheat field in the background", "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background", "floating on top of water", "floating in an ocean of milk",
    "on top of green grass with sunflowers around it", "on top of a mirror",
    "on top of the sidewalk in a crowded street", "on top of a dirt road", "on top of a white rug",
)  # fmt: skip
OUTFITS = (
    "wearing a red hat", "wearing a santa hat", "wearing a rainbow scarf", "wearing a black top hat and a monocle",
    "in a chef outfit", "in a firefighter outfit", "in a police outfit", "wearing pink glasses",
    "wearing a yellow shirt", "in a purple wizard outfit",
)  # fmt: skip
PROPERTIES = ("red", "purple", "shiny", "wet", "cube shaped")


def plain_templates(generation_type: str) -> list[str]:
    """The 25 DreamBooth prompts of "object" or "live_subject", with `{name}`."""
    if generation_type == "object":
        middle = MORE_SCENES
    else:
        middle = OUTFITS
    return [*(f"a {{name}} {end}" for end in (*SCENES, *middle)), *(f"a {word} {{name}}" for word in PROPERTIES)]


def read_templates(root: Path | None, concept: Concept) -> list[str]:
    """pure_gen prompts with `{name}`: "pure_gen" of <root>/template.json, else the DreamBooth list.

    ValueError for a malformed list.
    """
    path = None
    if root is not None:
        path = root / "template.json"
    if path is None or not path.is_file():
        return plain_templates(concept.generation_type)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON file ({error})") from error
    # published archives hold a file of this name with other content
    if not isinstance(values, dict) or "pure_gen" not in values:
        return plain_templates(concept.generation_type)
    templates = values["pure_gen"]
    if (
        not isinstance(templates, list)
        or not templates
        or not all(isinstance(t, str) and "{name}" in t for t in templates)
    ):
        raise ValueError(f"{path}: field 'pure_gen' must be a list of prompts that each hold {{name}}")
    return templates
