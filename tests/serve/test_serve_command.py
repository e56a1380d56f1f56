"""Which models are served, and the command: a process that answers, follows a training, and stops when it is asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from typer.testing import CliRunner

from sync_r1 import cli
from sync_r1.config import Config, save_config
from sync_r1.data import load_concept
from sync_r1.files import write_manifest
from sync_r1.serve import catalogue as module
from sync_r1.serve.catalogue import Catalogue, Source, sources_of
from sync_r1.serve.errors import ApiError
from sync_r1.session import Session
from tests.helpers import tiny_model

ROOT = Path(__file__).parents[2]


def save_checkpoint(run: Path, root: Path, step: int) -> None:
    """A complete checkpoint of a tiny model; every step has other weights."""
    config = Config()
    config.data.root, config.data.concepts, config.model.num_tokens = str(root), ["bo"], 2
    config.eval.generation_timesteps, config.eval.max_completion_length = 3, 4
    folder = run / "checkpoints" / f"step_{step:05d}"
    concept = load_concept(root, "bo", verify=False)
    made = Session(model=tiny_model(seed=step, max_text_tokens=60), concept=concept, settings=config.model)
    made.model.save_pretrained(folder)
    save_config(config, folder / "config.yaml")
    write_manifest(folder)


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "small", root, 5)
    return tmp_path / "small"


def test_a_run_that_is_being_trained_is_served_at_its_newest_checkpoint(
    run: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    served = Catalogue(sources_of([run]), "cpu")
    first = served.session("small")
    assert first.run == "small/step_00005" and served.session("small") is first
    (run / "checkpoints" / "step_00010").mkdir()  # not complete yet
    assert served.session("small") is first
    shutil.rmtree(run / "checkpoints" / "step_00010")
    save_checkpoint(run, root, 10)
    assert served.session("small").run == "small/step_00010"
    shutil.rmtree(run / "checkpoints" / "step_00005")
    assert served.session("small").run == "small/step_00010"


def test_a_run_deleted_while_it_is_served_answers_from_memory(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    served, fresh = Catalogue(sources_of([run]), "cpu"), Catalogue(sources_of([run]), "cpu")
    first = served.session("small")
    shutil.rmtree(run)
    assert served.session("small") is first and served.rows()[0]["id"] == "small"
    with pytest.raises(ApiError, match="no such run") as told:
        fresh.session("small")
    assert told.value.status == 404


def test_at_most_two_models_stay_in_memory(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(Catalogue, "_open", lambda self, source: opened.append(source.id) or session)
    served = Catalogue([Source(name, "bo") for name in "abc"])
    for name in "ababcacb":
        served.session(name)
    assert opened == ["a", "b", "c", "a", "b"]


def test_ids_of_runs_concepts_and_bases(run: Path, root: Path) -> None:
    (source,) = sources_of([run])
    assert (source.id, source.concept, source.run) == ("small", "bo", run)
    ids = [source.id for source in sources_of([])]
    assert "world/bo" in ids and len(ids) == len(set(ids)) > 3
    assert [source.id for source in sources_of([], concepts=["bo"])] == ["world"]
    assert [source.id for source in sources_of([], data=str(root), model="models/mine")] == ["mine"]
    with pytest.raises(ValueError, match="has no concept 'zed'; known are bo"):
        sources_of([run], concepts=["zed"])
    with pytest.raises(ValueError, match="two of the served models would be called 'small'"):
        Catalogue(sources_of([run, run]))
    with pytest.raises(ValueError, match="no such run"):
        sources_of([run.parent / "other"])


def test_the_process_answers_and_stops_in_peace(run: Path, tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sync_r1.cli", "serve", "--run", str(run), "--port", "0"]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("serving small at http://127.0.0.1:"), line + server.stdout.read()
        client = openai.OpenAI(base_url=line.split()[3].rstrip(";"), api_key="none", timeout=60)
        reply = client.images.generate(model="small", prompt="a photo of bo", extra_body={"seed": 1})
        stream = client.images.generate(
            model="small", prompt="a photo of bo", stream=True, partial_images=8, extra_body={"seed": 1, "steps": 32}
        )
        first = next(iter(stream))
        server.send_signal(signal.SIGTERM)
        events = [first, *stream]
        assert events[-1].type == "image_generation.completed", "what was under way is finished"
        assert reply.data and reply.data[0].b64_json
        assert server.wait(60) == 0
        assert server.stdout.read() == "stopped\n"


def test_the_image_serves_as_a_user_without_rights_from_what_is_copied() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    words = [line.split(" ", 1) for line in lines if line[:1].isupper()]
    assert [rest for word, rest in words if word == "USER"] == ["sync"]
    assert words[-1] == ["ENTRYPOINT", '["sync-r1", "serve", "--host", "0.0.0.0"]']
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    for sources in (rest.split()[:-1] for word, rest in words if word == "COPY"):
        assert all((ROOT / name).exists() and f"!{name}\n" in kept for name in sources)


def test_a_taken_port_and_a_missing_key_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNC_R1_API_KEY", raising=False)
    runner = CliRunner()
    open_to_all = runner.invoke(cli.app, ["serve", "--run", str(run), "--host", "0.0.0.0"])
    assert "SYNC_R1_API_KEY" in str(open_to_all.exception)
    taken = runner.invoke(cli.app, ["serve", "--run", str(run), "--host", "203.0.113.7", "--port", "1"])
    assert "so a key is needed" in str(taken.exception)
    monkeypatch.setenv("SYNC_R1_API_KEY", "x" * 20)
    taken = runner.invoke(cli.app, ["serve", "--run", str(run), "--host", "203.0.113.7"])
    assert "cannot be served" in str(taken.exception) and "choose another --port or --host" in str(taken.exception)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_the_extra_it_is_said_how_to_get_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("sync_r1.serve"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    told = str(CliRunner().invoke(cli.app, ["serve"]).exception)
    assert package in told and 'pip install "sync-r1[serve]"' in told
