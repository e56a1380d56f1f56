"""The one inference path, and the commands on top of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from sync_r1.commands import inference
from sync_r1.config import Config, EvalConfig, load_config, save_config
from sync_r1.data import load_concept
from sync_r1.drawings import save_pictures, to_images
from sync_r1.files import write_manifest
from sync_r1.run_folder import checkpoint_to_use, record_data
from sync_r1.session import Session
from sync_r1.types import Sampling, TextContext
from sync_r1.world.export import data_folder, export_world
from sync_r1.world.render import SIZE
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture(scope="module")
def session(root: Path) -> Session:
    options = EvalConfig(batch_size=3, generation_timesteps=2, max_completion_length=5)
    return Session(
        model=tiny_model(max_text_tokens=60), concept=load_concept(root, "bo"), run="runs/x", options=options
    )


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two complete checkpoints and an incomplete newer one."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    config = Config()
    config.data.root, config.data.concepts = str(root), ["bo"]
    config.model.num_tokens, config.eval.generation_timesteps, config.eval.max_completion_length = 2, 3, 4
    for step in (5, 10):
        checkpoint = folder / "checkpoints" / f"step_{step:05d}"
        made = Session(
            model=tiny_model(seed=step, max_text_tokens=60), concept=load_concept(root, "bo"), settings=config.model
        )
        made.model.save_pretrained(checkpoint)
        save_config(config, checkpoint / "config.yaml")
        write_manifest(checkpoint)
    (folder / "checkpoints" / "step_00015").mkdir()
    return folder


def photo(root: Path) -> Path:
    return load_concept(root, "bo", verify=False).test_images[0]


def test_a_new_concept_gets_tokens_a_known_one_keeps_them(session: Session, root: Path) -> None:
    assert session.tokens.placeholder == "<bo>" and len(session.tokens.tokens) == 4
    again = Session(model=session.model, concept=session.concept)
    assert again.tokens == session.tokens and len(session.model.concepts) == 1


def test_batches_equal_single_calls(session: Session, root: Path) -> None:
    contexts = [
        session.question_context(question) for question in ("What is <bo>?", "Where is <bo> now?", "Is it red?", "Why?")
    ]
    assert session.answers(contexts) == [session.answers([context])[0] for context in contexts]
    prompts, seeds = ["a photo of <bo>", "a <bo> in the snow", "a dog", "a photo of <bo>"], [1, 2, 3, 4]
    drawn = session.pictures(prompts, seeds)
    assert drawn.shape == (4, 3, 16, 16) and drawn.dtype == torch.uint8
    assert torch.equal(drawn, torch.cat([session.pictures([prompt], [seed]) for prompt, seed in zip(prompts, seeds)]))
    assert session.pictures([], []).shape == (0, 3, 16, 16)
    with pytest.raises(ValueError, match="got 1 seeds for 4 prompts"):
        session.pictures(prompts, [1])


def test_people_and_benchmark_share_one_path(session: Session, root: Path) -> None:
    codes = session.encode([photo(root)])[0]
    assert (
        session.ask("What is bo?", photo(root))
        == session.answers([session.question_context("What is <bo>?", codes)])[0]
    )
    assert session.rewrite("bo with its joy") == session.rewrites(["<bo> with its joy"])[0]
    picture = session.draw("a photo of bo", n=2, seed=7)[1]
    assert picture.tobytes() == to_images(session.pictures(["a photo of <bo>"], [8]))[0].tobytes()


def test_soft_tokens_stand_before_the_placeholder(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    generate = session.model.generate_image
    monkeypatch.setattr(
        session.model, "generate_image", lambda prompts, *rest: (seen.extend(prompts), generate(prompts, *rest))[1]
    )
    with pytest.warns(UserWarning, match="does not mention <bo>"):
        session.draw("a rainbow")
    session.draw("BO at sea")
    assert seen == ["a rainbow", f"{''.join(session.tokens.tokens)}<bo> at sea"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bo at sea", "<bo> at sea"),
        ("a bow, bo's rainbow", "a bow, <bo>'s rainbow"),
        ("<bo> is bo", "<bo> is bo"),
        ("<BO>", "<bo>"),
    ],
)
def test_the_bare_name_is_enough(session: Session, text: str, said: str) -> None:
    assert session.mention(text) == said


@pytest.mark.parametrize(
    ("answer", "present"),
    [("Yes.", True), ("no", False), ("yes and no", False), ("a dog", False), ("yesterday", False)],
)
def test_recognition_reads_whole_words(
    session: Session, root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, present: bool
) -> None:
    asked: list[TextContext] = []
    monkeypatch.setattr(Session, "answers", lambda self, contexts: asked.extend(contexts) or [answer])
    assert session.recognize(photo(root)) == (present, answer)
    assert "Is <bo> in this picture?" in asked[0].text and asked[0].image is not None


def test_what_was_seen_before_the_decision_is_shown_or_hidden(
    session: Session, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "answers", lambda self, contexts: ["a red dog with a star. no"])
    assert session.recognize(photo(root)) == (False, "a red dog with a star. no")
    assert session.recognize(photo(root), looking=False) == (False, "no")
    monkeypatch.setattr(Session, "answers", lambda self, contexts: ["a red dog"])
    assert session.recognize(photo(root), looking=False) == (False, "a red dog")


def test_drawings_carry_what_made_them(session: Session, tmp_path: Path) -> None:
    drawn = session.draw("a photo of bo in the snow", n=2, seed=3, sampling=Sampling(generation_timesteps=1))
    paths = save_pictures(drawn, tmp_path)
    assert paths[0].name.startswith("bo_a-photo-of-in-the-snow_") and [path.name[-6:] for path in paths] == [
        "_3.png",
        "_4.png",
    ]
    with Image.open(paths[1]) as image:
        assert image.text["prompt"] == ("a photo of <bo> in the snow") and image.text["seed"] == "4"  # type: ignore[attr-defined]
        assert image.text["run"] == "runs/x" and image.text["concept"] == "bo" and "sync-r1" in image.text["software"]  # type: ignore[attr-defined]


def test_words_that_were_cut_are_named(session: Session) -> None:
    with pytest.warns(UserWarning, match="lost: .*umbrella"):
        session.draw("a photo of <bo> " + "in the snow " * 30 + "with an umbrella")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.draw("a photo of bo", n=0), "n is 0"),
        (lambda s: s.draw("a photo of bo", seed=-1), "seed is -1"),
        (lambda s: s.draw("  "), "the prompt is empty"),
        (lambda s: s.ask(""), "the question is empty"),
        (lambda s: s.ask("what?", "nowhere.png"), "no such picture"),
    ],
)
def test_mistakes_are_explained(session: Session, call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(session)  # type: ignore[operator]


def test_a_run_opens_at_its_newest_complete_checkpoint(run: Path) -> None:
    opened = Session.open(checkpoint=run, device="cpu")
    assert opened.run == "small/step_00010" and opened.concept.name == "bo" and len(opened.tokens.tokens) == 2
    assert opened.image_sampling.generation_timesteps == 3 and opened.text_sampling.top_k == 1
    older = Session.open(checkpoint=run / "checkpoints" / "step_00005", device="cpu")
    assert older.run == "small/step_00005"
    assert not torch.equal(older.pictures(["a <bo>"], [1]), opened.pictures(["a <bo>"], [1]))


def test_a_run_knows_its_data_from_every_folder(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    shutil.copytree(root, project / "mine")
    mine = project / "runs" / "mine"
    checkpoint = mine / "checkpoints" / "step_00010"
    shutil.copytree(run / "checkpoints" / "step_00010", checkpoint)
    config = load_config(checkpoint / "config.yaml")
    config.data.root = "mine"
    save_config(config, checkpoint / "config.yaml")
    write_manifest(checkpoint)
    monkeypatch.chdir(project)
    assert Session.open(checkpoint="runs/mine").root == Path("mine")  # a run made before places were kept
    record_data(Path("runs/mine"), "mine")
    monkeypatch.chdir(tmp_path)
    assert Session.open(checkpoint=mine).root == project / "mine"
    project.rename(tmp_path / "moved")
    assert Session.open(checkpoint="moved/runs/mine").root == tmp_path / "moved" / "mine"
    (tmp_path / "moved/mine").rename(tmp_path / "data")
    (tmp_path / "project").mkdir()
    shutil.copytree(root, project / "mine")
    assert Session.open(checkpoint="moved/runs/mine").root == project / "mine"
    shutil.rmtree(project)
    with pytest.raises(ValueError, match=r"mine/concept/train: no such folder; --data must point at a folder"):
        Session.open(checkpoint="moved/runs/mine")
    assert Session.open(checkpoint="moved/runs/mine", data="data").root == Path("data")


def test_a_run_on_the_world_reads_its_own_copy(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "world-run"
    shutil.copytree(checkpoint_to_use(run), copy / "checkpoints" / "step_00010")
    path = copy / "checkpoints" / "step_00010" / "config.yaml"
    config = load_config(path)
    config.data.root = "world"
    save_config(config, path)
    write_manifest(path.parent)
    assert str(Session.open(checkpoint=copy, device="cpu").root).startswith(tempfile.gettempdir() + "/sync-r1-world-")
    export_world(copy / "data", ["bo"])
    assert Session.open(checkpoint=copy, device="cpu").root == copy.resolve() / "data"


def test_opening_explains_what_is_missing(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong, words in [
        ({"checkpoint": tmp_path / "none"}, "no such run"),
        ({"checkpoint": tmp_path}, "holds no complete checkpoint"),
        ({"model": tmp_path, "data": root}, "config.json is missing"),
        ({"model": "world", "data": "world"}, "which concept"),
        ({"checkpoint": run, "concept": "rex"}, "no concept 'rex'"),
    ]:
        with pytest.raises(ValueError, match=words):
            Session.open(**wrong)  # type: ignore[arg-type]
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(ValueError, match="model_type 'other'"):
        Session.open(model=tmp_path, data=root)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no GPU"):
        Session.open(checkpoint=run, device="cuda")


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint_to_use(run), tmp_path / "step_00010"))
    (copy / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="another size"):
        checkpoint_to_use(copy)


def test_the_embedded_world_is_a_data_root() -> None:
    folder = data_folder("world", ["chai"])
    assert load_concept(folder, "chai").class_noun == "mug"
    assert data_folder("elsewhere") == Path("elsewhere")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    inference.register(app)
    return app


def call(app: typer.Typer, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_commands(app: typer.Typer, run: Path, root: Path, tmp_path: Path) -> None:
    given = ["--run", run, "--device", "cpu"]
    opened = Session.open(checkpoint=run, device="cpu")
    assert call(app, "ask", "What is bo?", *given).strip() == opened.ask("What is bo?").strip()
    assert call(app, "rewrite", "bo with its joy", *given).strip() == opened.rewrite("bo with its joy").strip()
    found = json.loads(call(app, "recognize", photo(root), *given, "--json"))
    assert found == [
        {
            "image": str(photo(root)),
            "present": opened.recognize(photo(root))[0],
            "answer": opened.recognize(photo(root))[1],
            "words": opened.recognize(photo(root))[0],
        }
    ]
    paths = call(app, "draw", "bo at sea", "-n", 2, "--seed", 5, "--steps", 2, "--out", tmp_path, *given).split()
    assert len(paths) == 2 and all(Path(path).is_file() for path in paths)
    assert "drawing: " in call(app, "draw", "bo at sea", "--rewrite", "--out", tmp_path, *given)


def test_evaluate_compares_two_phases(app: typer.Typer, run: Path, tmp_path: Path) -> None:
    given = [
        "--task",
        "vqa",
        "--task",
        "rea",
        "--max-items",
        2,
        "--judge",
        "none",
        "--out",
        tmp_path,
        "--device",
        "cpu",
    ]
    assert "vqa" in call(app, "evaluate", "--run", run / "checkpoints" / "step_00005", "--phase", "before", *given)
    found = json.loads(call(app, "evaluate", "--run", run, *given, "--json"))
    assert found["comparison"]["understanding"]["n"] == 4 and found["tasks"]["rea"]["metric"] == "exact"
    assert {path.name for path in tmp_path.glob("*.json")} == {"before.json", "after.json"}
    assert "95 % interval" in call(app, "evaluate", "--run", run, *given)


def test_command_mistakes(app: typer.Typer, run: Path) -> None:
    for arguments, words in [
        (["evaluate", "--run", run, "--task", "reaa"], "did you mean rea"),
        (["evaluate", "--run", run, "--judge", "me"], "judge is 'me'"),
        (["evaluate", "--run", run, "--phase", "../x"], "phase is"),
        (["recognize", "nowhere.png", "--run", run], "no such picture"),
    ]:
        with pytest.raises(ValueError, match=words):
            CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_commands_load_torch_only_when_they_run() -> None:
    code = "import sync_r1.commands.inference, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_opening_does_not_warn_about_training_prompts(run: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Session.open(checkpoint=run, device="cpu")


@pytest.fixture(scope="module")
def called(session: Session) -> Session:
    """The same concept, whose owner calls it 猫咪."""
    concept = dataclasses.replace(session.concept, display_name="猫咪")
    return Session(model=session.model, concept=concept, options=session.options)


def test_the_owners_name_is_understood_and_shown(called: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TextContext] = []
    monkeypatch.setattr(Session, "answers", lambda self, contexts: asked.extend(contexts) or ["<bo> is red"])
    assert called.ask("猫咪是什么颜色？") == "<猫咪> is red" and called.rewrite("a photo of 猫咪") == "<猫咪> is red"
    assert "<bo>是什么颜色？" in asked[0].text and asked[1].text.endswith("rewrite: a photo of <bo> ASSISTANT:")
    assert called.mention(called.rewrite("猫咪")) == "<bo> is red"
    with pytest.warns(UserWarning, match="does not mention <猫咪>"):
        called.draw("a rainbow")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called.draw("a photo of 猫咪 at the beach")[0].info["prompt"] == "a photo of <bo> at the beach"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("bo in a red hat " * 2250, "the prompt has 36000 letters; at most 4000 are read"),
        ("bo in a caf\udce9", "the prompt holds bytes that are no UTF-8 text, after 'bo in a caf'"),
    ],
)
def test_prompts_that_no_model_can_read(session: Session, prompt: str, message: str) -> None:
    for use_it in (session.draw, session.rewrite):
        with pytest.raises(ValueError, match=message):
            use_it(prompt)
    with pytest.raises(ValueError, match=message.replace("prompt", "question")):
        session.ask(prompt)


def test_seeds_and_steps_have_bounds(session: Session) -> None:
    assert session.draw("bo", seed=2**63 - 1)[0].info["seed"] == 2**63 - 1
    with pytest.raises(ValueError, match=r"seed is \d+; it must lie between 0 and 9223372036854775806, so that 2 fit"):
        session.draw("bo", n=2, seed=2**63 - 1)
    most = 2 * session.model.num_image_tokens
    with pytest.raises(ValueError, match=f"generation_timesteps is 100000; it must be at most {most}"):
        session.draw("bo", sampling=Sampling(generation_timesteps=100_000))


@pytest.mark.parametrize("call", ["draw", "ask", "rewrite"])
def test_concepts_that_the_model_does_not_know_are_refused(session: Session, call: str) -> None:
    with pytest.raises(ValueError, match=r"names <stranger>, which this model does not know; it knows <bo>"):
        getattr(session, call)("<bo> and <stranger> at the beach")


def test_more_characters_than_the_world_draws_are_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(session.model), "image_size", SIZE)
    with pytest.raises(ValueError, match=r"asks for 3 characters \(<bo>, dog, cat\); .* two at most"):
        session.draw("<bo> and a dog and a cat")
