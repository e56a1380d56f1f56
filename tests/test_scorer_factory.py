"""From configuration to networks: what is loaded, what is refused before, and what reward and evaluation share."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from sync_r1.config import Config, load_config
from sync_r1.files import write_manifest
from sync_r1.recipes import apply_recipes
from sync_r1.scorer_factory import build_evaluator, build_scorers, evaluator_notes, is_world_sized
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.dino import DinoScorer
from sync_r1.scorers.judge import RemoteJudge
from sync_r1.scorers.reward_functions import weighted_mean
from sync_r1.world.assets import EVALUATOR, REWARD_MODELS
from sync_r1.world.judge import WorldJudge
from tests.scorers.published import save_published_clip, save_published_dino

REMOTE = ["scorers.judge.url=http://localhost:1/v1", "scorers.judge.model=m"]
EVAL_REMOTE = [text.replace("scorers.", "eval.") for text in REMOTE]


def config(*overrides: str, model: str = "world") -> Config:
    return load_config(None, [f"model.path={model}", "run.device=cpu", *overrides])


def weights(**values: Any) -> str:
    return f"rl.reward_weights={json.dumps(values)}"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_published_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_published_dino(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("onnxruntime")
    from tests.scorers.face_pack import save_face_pack

    return str(save_face_pack(tmp_path_factory.mktemp("pack")))


def test_the_demo_gets_the_world_s_networks() -> None:
    found = build_scorers(apply_recipes(["demo"]))
    assert found.models == REWARD_MODELS
    assert (
        set(found.library)
        == {"rewrite", "answer", "identity", "alignment", "likeness", "faithfulness", "unasked"}
        == {*found.weights, "unasked"}
    )
    assert found.preview is not None
    evaluator = build_evaluator(Config())
    assert evaluator.name == EVALUATOR and isinstance(evaluator.image_judge, WorldJudge) and evaluator.clip is not None
    assert not evaluator.image_judge.soft


@pytest.mark.parametrize(
    ("overrides", "models"),
    [
        ([weights(rewrite=1.0)], []),
        ([weights(rewrite=1.0, identity=0, likeness={"person": 0})], []),
        ([weights(rewrite=1.0, identity=0, alignment=0.1)], ["world CLIP"]),
        ([weights(likeness={"person": 1.0})], ["world reward reader (convolutions)"]),
        (
            [weights(likeness=1.0), "scorers.fallback.likeness=identity"],
            ["world CLIP", "world reward reader (convolutions)"],
        ),
        ([weights(rewrite=1.0), "scorers.fallback.likeness=identity"], []),
        ([weights(rewrite=1.0), "rl.dgs_enabled=true"], ["world CLIP"]),
        ([weights(rewrite=1.0, identity=1.0), "rl.optimise=text"], []),
    ],
)
def test_only_what_is_needed_is_loaded(overrides: list[str], models: list[str]) -> None:
    found = build_scorers(config(*overrides))
    assert found.models == models
    assert set(found.weights) <= set(found.library) and set(found.fallback.values()) <= set(found.library)
    assert (found.preview is not None) == ("rl.dgs_enabled=true" in overrides)


def test_a_weight_of_0_stays_for_the_log_when_its_network_is_there() -> None:
    assert build_scorers(config(weights(identity=0, alignment=0.1))).weights == {"identity": 0, "alignment": 0.1}
    assert build_scorers(config(weights(identity=0, rewrite=0.1))).weights == {"rewrite": 0.1}


def test_real_networks_by_name(clip: str, dino: str, pack: str, tmp_path: Path) -> None:
    options = [f"scorers.clip={clip}", f"scorers.dino={dino}", f"scorers.face={pack}", *REMOTE]
    given = config(
        weights(identity=0.2, dino=0.2, face={"person": 1.0}, likeness=0.1),
        "scorers.fallback.face=identity",
        *options,
        model="real",
    )
    found = build_scorers(given)
    assert found.models[:3] == [f"CLIP {clip}", f"DINOv2 {dino}", f"ArcFace w600k_r50.onnx of {pack}"]
    assert found.models[3].startswith("m at localhost")
    photo = tmp_path / "0.png"
    Image.new("RGB", (640, 640), (9, 99, 199)).save(photo)
    person: Any = SimpleNamespace(name="ana", category="person", class_noun="woman", info="", train_images=[photo])
    found.prepare(person)  # no face, but its fallback can score
    columns = {"images": torch.stack([torch.full((3, 640, 640), 99, dtype=torch.uint8)] * 2), "concept": [person] * 2}
    for name, sound in (("identity", True), ("dino", True), ("face", False)):
        function, part = found.library[name]
        scores = function(**columns, prompts=["", ""])
        assert part == "image" and [score is not None for score in scores] == [sound, sound]


def test_a_person_without_a_face_on_any_photo_is_refused_before_training(pack: str, tmp_path: Path) -> None:
    found = build_scorers(config(weights(rewrite=1.0, face={"person": 0.5}), f"scorers.face={pack}", model="real"))
    photo = tmp_path / "0.png"
    Image.new("RGB", (64, 64)).save(photo)
    person: Any = SimpleNamespace(name="ana", category="person", train_images=[photo])
    with pytest.raises(
        ValueError, match=r"weights.face is 0.5 for 'ana', but none of its 1 training photos shows a face; add one"
    ):
        found.prepare(person)
    found.prepare(SimpleNamespace(name="cup", category="object", train_images=[photo]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([weights(identitty=1.0)], "rl.reward_weights names 'identitty', which is no reward; did you mean identity"),
        (
            [weights(rewrite=1.0), "scorers.fallback.fase=identity"],
            "scorers.fallback names 'fase', .* did you mean face",
        ),
        ([weights(rewrite=1.0), "scorers.fallback={face: dino, dino: face}"], "goes in a circle: face → dino → face"),
        (
            [weights(dino=0.1)],
            "scorers.dino is empty, but dino of the reward needs it; set scorers.dino=facebook/dinov2-base",
        ),
        ([weights(face=0.1)], "scorers.face is empty, but face of the reward needs it"),
        (
            [weights(likeness=0.1), "scorers.judge.url="],
            "scorers.judge.url is empty, but likeness of the reward needs it",
        ),
        (
            [weights(rewrite=1.0), "rl.dgs_enabled=true", "scorers.clip="],
            "scorers.clip is empty, but the preview of rl.dgs_enabled",
        ),
        (
            [weights(unasked=0.1), "scorers.judge.url=http://localhost:1/v1"],
            "rl.reward_weights.unasked needs a judge that counts .* only 'world' does",
        ),
        ([weights(face=0.1), "scorers.face=/nowhere"], r"/nowhere: no \.onnx files"),
        ([weights(dino=0.1), "scorers.dino=/nowhere"], "/nowhere: no such folder; give one with a DINOv2 checkpoint"),
        ([weights(identity=0.1), "scorers.clip=/nowhere"], "/nowhere: no such folder; give one with a CLIP checkpoint"),
        (["rl.custom_rewards.mine.function=math.sqrt", weights(rewrite=1.0)], "rl.custom_rewards.mine has no weight"),
        (
            ["rl.custom_rewards.face.function=math.sqrt", weights(face=1.0)],
            "has the name of a ready-made reward; give it another",
        ),
        (["rl.custom_rewards.mine.function=math.sqrt", weights(mine=1.0)], r"end with \*\*columns"),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_scorers(config(*overrides))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [weights(identity=1.0)],
            "scorers.clip is 'world', which reads .* 32-pixel pictures only, but model.path is 'real'",
        ),
        (
            [weights(rewrite=1.0), "rl.dgs_enabled=true"],
            "scorers.clip is 'world'.*set scorers.clip=.* or do without the preview",
        ),
        (
            [weights(rewrite=1.0, likeness=0.1)],
            "scorers.judge.url is 'world'.*set scorers.judge.url=http://localhost:8000/v1",
        ),
    ],
)
def test_the_world_s_networks_do_not_score_other_models(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_scorers(config(*overrides, model="real"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "eval.clip is 'world'.*set eval.clip=openai/clip-vit-base-patch32"),
        (["eval.clip="], "eval.judge.url is 'world'.*set eval.judge.url=.*or leave it empty"),
    ],
)
def test_the_world_s_evaluators_do_not_score_other_models(overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_evaluator(config(*overrides, model="real"))


def test_world_sized_models_are_known_by_their_config(tmp_path: Path) -> None:
    assert is_world_sized("world") and not is_world_sized("showlab/show-o") and not is_world_sized(str(tmp_path))
    for place, side in (
        ("model", 32),
        ("run/checkpoints/step_5/model", 32),
        ("run/checkpoints/step_10/model", 32),
        ("other", 512),
    ):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text(json.dumps({"image_size": side}))
    for step in (5, 10):
        write_manifest(tmp_path / f"run/checkpoints/step_{step}")
    assert is_world_sized(str(tmp_path / "model")) and is_world_sized(str(tmp_path / "run"))
    assert is_world_sized(str(tmp_path / "run/checkpoints/step_10")) and not is_world_sized(str(tmp_path / "other"))
    (tmp_path / "run/checkpoints/step_5").rename(tmp_path / "elsewhere")
    # killed while replacing it
    (tmp_path / "run/checkpoints/step_10").rename(tmp_path / "run/checkpoints/.step_10.old")
    assert is_world_sized(str(tmp_path / "run"))
    build_scorers(config(weights(identity=1.0), model=str(tmp_path / "run")))


def test_evaluators_of_other_models(clip: str) -> None:
    found = build_evaluator(config(f"eval.clip={clip}", *EVAL_REMOTE, model="real"))
    assert isinstance(found.image_judge, RemoteJudge) and isinstance(found.clip, ClipScorer)
    assert found.name.startswith("m at localhost") and found.name.endswith(f"; CLIP {clip}")
    assert build_evaluator(config(f"eval.clip={clip}", "eval.judge.url=", model="real"))[::2] == (None, f"CLIP {clip}")
    assert build_evaluator(config("eval.clip=", "eval.judge.url=", model="real")) == (None, None, "")


@pytest.mark.parametrize(
    ("overrides", "notes"),
    [
        ([weights(rewrite=1.0)], []),
        ([weights(identity=1.0)], ["evaluator shares world CLIP with the reward (identity)"]),
        (
            [weights(rewrite=1.0), "rl.dgs_enabled=true"],
            ["evaluator shares world CLIP with the reward (the preview of rl.dgs_enabled)"],
        ),
        ([weights(identity=1.0), "eval.clip="], []),
        ([weights(identity=1.0), "eval.clip=a/clip"], []),
        (
            [weights(identity=1.0), "eval.clip=./folder/", "scorers.clip=folder"],
            ["evaluator shares CLIP ./folder/ with the reward (identity)"],
        ),
        ([weights(likeness=1.0)], []),  # the world's two judges are different networks
        (
            [weights(likeness=1.0), *REMOTE, *EVAL_REMOTE],
            ["evaluator shares the judge m at http://localhost:1/v1 with the reward (likeness)"],
        ),
        ([weights(likeness=1.0), *REMOTE, *EVAL_REMOTE, "eval.judge.model=other"], []),
        ([weights(rewrite=1.0), *REMOTE, *EVAL_REMOTE], []),
    ],
)
def test_what_the_evaluation_shares_with_the_reward(
    overrides: list[str], notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert evaluator_notes(config(*overrides)) == notes


def test_every_process_scores_on_its_own_gpu(dino: str, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []
    monkeypatch.setattr(
        DinoScorer,
        "from_pretrained",
        lambda folder, device: placed.append(device) or SimpleNamespace(image_features=None),
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    build_scorers(config(weights(dino=1.0), f"scorers.dino={dino}", "run.device=auto"))
    build_scorers(config(weights(dino=1.0), f"scorers.dino={dino}", "run.device=cpu"))
    assert placed == ["cuda:3", "cpu"]


def test_previews_may_be_judged_by_the_rewards_themselves() -> None:
    with pytest.raises(ValueError, match="no ready-made image reward"):
        build_scorers(config("rl.dgs_enabled=true", "rl.dgs_preview_score=reward", weights(rewrite=1.0)))


def test_a_weighted_mean_leaves_out_what_could_not_score() -> None:
    person, dog = SimpleNamespace(category="person"), SimpleNamespace(category="animal")

    def first(**_: object) -> list[float | None]:
        return [1.0, 0.5, None, None]

    def second(**_: object) -> list[float | None]:
        return [0.0, 1.0, 0.25, None]

    score = weighted_mean({"a": (first, 3.0), "b": (second, {"person": 1.0})})
    assert list(score(concept=[person, dog, person, person])) == [0.75, 0.5, 0.25, None]
