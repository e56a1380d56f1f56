"""Named options, presets, and the literal prompts they lead to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sync_r1.config import EvalConfig
from sync_r1.data import Concept
from sync_r1.session import Session
from sync_r1.unifybench.adapters import TokensAdapter
from sync_r1.unifybench.metrics import BenchmarkJudges, ItemMetrics, Row, clip_text, reference_pictures
from sync_r1.unifybench.protocol import (
    ABOUT,
    PRESETS,
    PUBLISHED_13,
    PUBLISHED_20,
    Protocol,
    describe_protocols,
    load_protocol,
)
from sync_r1.unifybench.tasks import EvalItem, build_items

PUBLISHED = load_protocol("unifybenchpp-2026")


def first(concept: Concept, root: Path, task: str, protocol: Protocol) -> EvalItem:
    return build_items(concept, root=root, tasks=[task], protocol=protocol)[0]


def text_of(session: Session, task: str, protocol: Protocol, **changes: str) -> str:
    item = replace(first(session.concept, session.root, task, protocol), **changes)  # type: ignore[arg-type]
    return TokensAdapter(session, protocol).request(item, rewrite="<bo> on a boat.").text


def test_published_seeds_of_real_items(concept: Concept, root: Path) -> None:
    assert first(concept, root, "rec", PUBLISHED).seed == 4270967948
    assert first(concept, root, "pure_gen", PUBLISHED).seed == 2126600951
    later = build_items(concept, root=root, tasks=["rec"], protocol=PUBLISHED, epoch=2)[0]
    assert later.seed != 4270967948
    ours = load_protocol("corrected")
    assert (
        build_items(concept, root=root, tasks=["rec"], protocol=ours, epoch=2)[0].seed
        == first(concept, root, "rec", ours).seed
    )


def test_published_bleu_and_recognition(concept: Concept) -> None:
    pins = {
        ("The hat is red.", "The hat is red."): 1.0,
        ("The hat is red.", "Red hat"): 0.253497,
        ("A photo of <x> running.", "A photo of <x> running on the beach."): 0.626965,
        ("Yes.", "yes"): 0.438190,
        ("Yes.", ""): 0.0,
    }
    rows = [Row(task="vqa", prompt="?", truth=truth, text=said) for truth, said in pins]
    assert ItemMetrics(concept, PUBLISHED, BenchmarkJudges())("bleu", rows) == pytest.approx(
        list(pins.values()), abs=5e-7
    )
    unsure = [Row(task="rec", prompt="?", truth="No.", text="I do not know")]
    assert ItemMetrics(concept, PUBLISHED, BenchmarkJudges())("recognition", unsure) == [0.0]
    assert ItemMetrics(concept, load_protocol("legacy"), BenchmarkJudges())("recognition", unsure) == [1.0]


def test_world_is_what_evaluate_does() -> None:
    assert load_protocol() == Protocol() == Protocol().with_decoding(EvalConfig())
    decoding = Protocol().with_decoding(EvalConfig(guidance_scale=2.0, max_completion_length=9))
    assert decoding.image_sampling.guidance_scale == 2.0 and decoding.text_sampling.max_completion_length == 9
    assert decoding.text_sampling.top_k == 1


def test_published_decoding_and_lists() -> None:
    assert (PUBLISHED.image_sampling.generation_timesteps, PUBLISHED.image_sampling.guidance_scale) == (50, 5.0)
    assert PUBLISHED.text_sampling.max_completion_length == 100
    assert (PUBLISHED.image_sampling.choice_temperature, PUBLISHED.image_sampling.temperature) == (1.0, 1.0)
    assert load_protocol("world", ["choice_temperature=0.3"]).image_sampling.choice_temperature == 0.3
    assert len(set(PUBLISHED_20)) == 20 and len(PUBLISHED_13) == 13 and set(PUBLISHED_13) < set(PUBLISHED_20)


def test_literal_prompts_of_questions(session: Session) -> None:
    concept, question = session.concept, "Is it?"
    prefix = f"name: bo\ninfo: {concept.info}"
    session.tokens = replace(session.tokens, read=2)
    line = "<bo> is <token_0><token_1>."
    session.tokens = replace(session.tokens, draw=3)  # the fourth is for reading only
    assert text_of(session, "vqa", PUBLISHED, prompt=question) == f"USER: {prefix}\n{line}\n{question} ASSISTANT:"
    both = "<bo> is <token_0><token_1><token_3>."
    assert text_of(session, "vqa", load_protocol("legacy"), prompt=question) == f"USER: {both}\n{question} ASSISTANT:"
    assert both in text_of(session, "vqa", Protocol(), prompt=question)
    plain = load_protocol("world", ["reading_tokens=none"])
    assert text_of(session, "vqa", plain, prompt=question) == f"USER: {prefix}\n{question} ASSISTANT:"


def test_literal_prompts_of_drawings(session: Session) -> None:
    tokens, prefix = "".join(session.tokens.tokens), f"name: bo\ninfo: {session.concept.info}"
    assert text_of(session, "dense_gen", PUBLISHED, prompt="<bo>, at sea") == f"{prefix}\n{tokens} <bo>, at sea"
    assert text_of(session, "dense_gen", Protocol(), prompt="<bo>, at sea") == f"{tokens}<bo>, at sea"
    assert text_of(session, "rea_gen", PUBLISHED) == f"{prefix}\n{tokens} <bo> on a boat."
    assert text_of(session, "rea_gen", Protocol()) == f"{tokens}<bo> on a boat"
    truth = load_protocol("legacy", ["text_prefix=none"])
    assert text_of(session, "rea_gen", truth, truth="<bo> in a tree") == f"{tokens} <bo> in a tree"


def test_rewriting_instructions(session: Session, tmp_path: Path) -> None:
    facts = repr(list(session.concept.facts))
    text = text_of(session, "rea", PUBLISHED, prompt="<bo> with {facts}")
    assert (
        text.startswith(f"USER: name: bo\ninfo: {session.concept.info}\n")
        and facts in text
        and "<bo> with {facts}" in text
    )
    assert text != text_of(session, "dense_rea", PUBLISHED, prompt="<bo> with {facts}")
    assert "\nfacts: " in text_of(session, "rea", Protocol()) and "[" not in text_of(session, "rea", Protocol())
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"rea": "{name}: {facts} {prompt}!", "dense_rea": "{facts} {prompt}"}))
    mine = load_protocol("corrected", [f"rewrite_prompt={file}"])
    assert text_of(session, "rea", mine, prompt="p").endswith(f"\n<bo>: {facts} p! ASSISTANT:")
    file.write_text('{"rea": "{prompt}"}')
    with pytest.raises(ValueError, match=r"field 'rea' must be a text that holds \{facts\} and \{prompt\}"):
        text_of(session, "rea", mine)


def test_the_name_inside_rainbow(concept: Concept) -> None:
    published = [
        item for item in build_items(concept, tasks=["pure_gen"], protocol=PUBLISHED) if "scarf" in item.prompt
    ]
    assert [item.prompt for item in published] == ["a <bo> wearing a rain<bo>w scarf"]
    ours = [
        item
        for item in build_items(concept, tasks=["pure_gen"], protocol=load_protocol("corrected"))
        if "scarf" in item.prompt
    ]
    assert [item.prompt for item in ours] == ["a <bo> wearing a rainbow scarf"] == [item.truth for item in published]


def test_one_picture_in_four_is_mirrored(session: Session) -> None:
    adapter = TokensAdapter(session, PUBLISHED)
    item = first(session.concept, session.root, "rec", PUBLISHED)
    flips = [adapter.flips(replace(item, seed=seed)) for seed in range(2000)]
    assert 0.22 < sum(flips) / 2000 < 0.28 and flips == [
        adapter.flips(replace(item, seed=seed)) for seed in range(2000)
    ]
    assert not TokensAdapter(session, Protocol()).flips(item)


def test_references_and_clip_texts(concept: Concept) -> None:
    odd = replace(concept, test_images=[Path("2.png"), Path("10.png")], train_images=[Path("a.png"), Path("b.png")])
    assert reference_pictures(odd, PUBLISHED) == [Path("10.png")] and reference_pictures(odd, Protocol()) == [
        Path("2.png")
    ]
    assert reference_pictures(odd, load_protocol("legacy")) == odd.train_images
    assert reference_pictures(odd, load_protocol("corrected")) == odd.test_images
    pure, dense = (Row(task=task, prompt="", truth="a <bo> at sea") for task in ("pure_gen", "rea_gen"))
    assert (clip_text(pure, concept, PUBLISHED), clip_text(dense, concept, PUBLISHED)) == (
        "a dog at sea",
        "a <bo> at sea",
    )
    assert clip_text(dense, concept, Protocol()) == "a dog at sea"


def test_wrong_names_are_named() -> None:
    with pytest.raises(ValueError, match="unknown protocol 'legcy'; did you mean legacy"):
        load_protocol("legcy")
    with pytest.raises(ValueError, match="did you mean eval_flip"):
        load_protocol("world", ["evalflip=true"])
    with pytest.raises(ValueError, match="pure_name is 'twice'"):
        load_protocol("world", ["pure_name=twice"])
    assert load_protocol("world", ["eval_flip=true"]).name == "world, eval_flip=true"


def test_every_option_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert list(ABOUT) == list(PRESETS) and all(f"*{name}*" in text for name in PRESETS)
    for name, _, values in describe_protocols():
        row = " | ".join(str(values[preset]) if values[preset] not in (None, []) else "–" for preset in PRESETS)
        assert f"| `{name}` | {row} |" in text, f"docs/benchmark.md lacks the row of {name}: {row}"
