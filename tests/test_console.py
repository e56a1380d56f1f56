"""What is printed survives every terminal: its encoding, its width, and brackets in people's texts."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image
from rich.console import Console
from rich.table import Table

from sync_r1 import cli
from sync_r1.console import FALLBACK, open_console, say, set_up_streams

PACKAGE = Path(__file__).parents[1] / "sync_r1"
ENCODINGS = ("ascii", "latin-1")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TERMINALS = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, C_LOCALE]
FACT = "<momo> hört 猫咪 – [sic] with a [red] bowl [/home/bowl] :dog: 🐶."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one concept, whose facts hold brackets and letters of several scripts."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "photos").mkdir()
    noise = np.random.default_rng(0)
    for number in range(4):
        picture = Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        picture.save(folder / "photos" / f"{number}.png")
    given = {"pictures": folder / "photos", "class": "dog", "info": FACT, "data": folder / "data"}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    facts = ["--fact", FACT, "--fact", "<momo> wears a scarf."]
    assert run_here("utf-8", "concept", "add", "momo", *options, *facts)[0] == 0
    return folder / "data"


def run_here(encoding: str, *arguments: str) -> tuple[int, bytes]:
    """The entry point in this process, on strict streams of an encoding; returns exit code and bytes of both."""
    out = io.BytesIO()
    streams = [io.TextIOWrapper(out, encoding=encoding, errors="strict", write_through=True) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["sync-r1", *arguments])
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        cli.main()
    written = out.getvalue()
    for stream in streams:
        stream.detach()
    return int(stop.value.code or 0), written


def run_command(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> tuple[int, bytes]:
    """The command in a process of its own; returns exit code and bytes of stdout and stderr."""
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "sync_r1.cli", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Words of every command."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", list(leaves(typer.main.get_command(cli.app))), ids=" ".join)
def test_help_of_every_command_in_every_encoding(path: tuple[str, ...], encoding: str) -> None:
    code, written = run_here(encoding, *path, "--help")
    assert code == 0 and b"Usage:" in written
    written.decode(encoding)


ODD = "{out}/猫咪 [/x]"  # a place that is not there
COMMANDS = [
    ["--version"],
    ["doctor"],
    ["doctor", "--json"],
    ["concept", "list", "--data", "{data}"],
    ["concept", "list", "--data", "{data}", "--json"],
    ["concept", "show", "momo", "--data", "{data}"],
    ["concept", "show", "momo", "--data", "{data}", "--json"],
    ["concept", "show", "猫咪 [/x]", "--data", "{data}"],
    ["concept", "add", "zed", "--pictures", ODD, "--class", "dog", "--info", "–", "--fact", "…", "--data", "{out}"],
    ["concept", "read", ODD],
    ["concept", "describe", ODD, "--class", "dog"],
    ["data", "check", "{data}"],
    ["data", "check", "{data}", "--json"],
    ["data", "check", "{data}/猫咪 [/x]"],
    ["world", "card"],
    ["world", "show", "{out}/world.png"],
    ["world", "export", "{out}/Ünal", "--concept", "bo"],
    ["world", "pretrain", "--steps", "猫咪 [/x]"],
    ["world", "pretrain-larger", "--steps", "猫咪 [/x]"],
    ["models", "info", "world"],
    ["models", "info", ODD],
    ["models", "import", ODD, "--out", "{out}/model"],
    ["models", "import-concept", ODD, ODD, "--concept", "bo", "--class-noun", "dog", "--out", "{out}/model"],
    ["models", "export-concept", ODD, "{out}/tokens", "--concept", "bo"],
    ["models", "check", ODD],
    ["bench", "protocols"],
    ["bench", "run", "--protocol", "猫咪 [/x]"],
    ["bench", "score", ODD],
    ["bench", "table", ODD],
    ["bench", "compare", ODD, ODD],
    ["bench", "report", ODD],
    ["bench", "build", "{data}", "--concept", "momo", "--overwrite"],
    ["bench", "apply", ODD],
    ["judge", "serve", "--port", "猫咪 [/x]"],
    ["judge", "check", "--url", "猫咪 [/x]", "--model", "–"],
    ["demo", "rl.optimise=猫咪 [/x]"],
    ["train", "--recipe", "demo", "--concept", "bo", "run.name=猫咪", "--show-config"],
    ["train", "--recipe", "猫咪 [/x]"],
    ["sft", "--config", ODD],
    ["study", ODD],
    ["report", ODD],
    ["evaluate", "--phase", "猫咪 [/x]"],
    ["ask", "–", "--run", ODD],
    ["recognize", ODD],
    ["rewrite", "–", "--run", ODD],
    ["edit", ODD, "–", "--region", "hat"],
    ["check", ODD, "–"],
    ["chat", "--run", ODD],
    ["rate", "good", "--run", ODD],
    ["learn-from-feedback", "--run", ODD],
    ["undo", "--concept", "猫咪 [/x]", "--feedback", "{out}"],
    ["why", "–", "--run", ODD],
    ["learn", "--learner", "猫咪 [/x]"],
    ["story", "–", "--out", ODD],
    ["compare", ODD, ODD, "--prompts", ODD],
    ["jobs", "{out}"],
    ["watch", ODD],
    ["stop", ODD],
    ["vary", ODD],
    ["serve", "--run", ODD],
    ["studio", "--wipe", "猫咪 [/x]", "--folder", "{out}"],
    ["draw", "猫咪 [/x]", "--nosuch[/x]", "猫咪"],
]


def test_the_list_above_names_every_command() -> None:
    known = set(leaves(typer.main.get_command(cli.app)))
    named = {path for path in known for words in COMMANDS if tuple(words[: len(path)]) == path}
    assert named == known


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_commands_print_people_s_text_in_every_encoding(
    data: Path, tmp_path: Path, arguments: list[str], encoding: str
) -> None:
    words = [word.format(data=data, out=tmp_path) for word in arguments]
    code, written = run_here(encoding, *words)
    shown = written.decode(encoding)
    assert "codec can't encode" not in shown and "Traceback" not in shown
    if "[/x]" in "".join(arguments):
        assert code in (1, 2)
        assert "[/x]" in shown or "Invalid value for" in shown, "what people wrote is shown, not read as markup"
    else:
        assert code == 0


def test_a_model_answers_draws_and_is_evaluated_in_ascii(tmp_path: Path) -> None:
    out, bo = str(tmp_path), ["--concept", "bo"]
    assert run_here("ascii", "draw", "a photo of bo – 猫咪 [/x]", "--rewrite", "--out", out, *bo)[0] == 0
    drawn = str(next(tmp_path.glob("*.png")))
    assert run_here("ascii", "ask", "What colour is bo – 猫咪 [/x]?", "--image", drawn, *bo)[0] == 0
    assert run_here("ascii", "rewrite", "a photo of bo with its treasure …", *bo)[0] == 0
    assert run_here("ascii", "recognize", drawn, "--json", *bo)[0] == 0
    limits = ["--max-items", "1", "--tasks", "rec,pure_gen"]
    code, written = run_here("ascii", "bench", "run", *limits, *bo, "--out", f"{out}/exp[/a]")
    assert code == 0 and f"written  {out}/exp[/a]/scores" in written.decode("ascii"), written
    assert "  2/2  " in written.decode("ascii"), "progress of the bench run"
    limits = ["--max-items", "1", "--task", "rec"]
    code, written = run_here("ascii", "evaluate", *limits, *bo, "--out", f"{out}/exp[/a]/eval")
    assert code == 0 and "evaluate before: rec  1/1  " in written.decode("ascii"), written


@pytest.mark.parametrize("environment", TERMINALS, ids=lambda environment: " ".join(environment.values()))
def test_real_processes_with_terminals_of_few_signs(data: Path, environment: dict[str, str]) -> None:
    code, written = run_command(environment, "concept", "show", "momo", "--data", str(data), "--json")
    assert code == 0
    assert json.loads(written)["facts"][0] == FACT, "JSON is exact in every encoding"


def test_a_real_process_of_the_c_locale_prints_signs_that_it_has() -> None:
    code, written = run_command(C_LOCALE, "doctor")
    assert code == 0 and written.startswith(b"+  python")


@pytest.mark.skipif(os.name == "nt", reason="streams are closed by a Unix shell")
@pytest.mark.parametrize(("closed", "shows"), [(">&-", False), ("2>&-", True), ("<&-", True), (">&- 2>&- <&-", False)])
def test_closed_streams_are_no_reason_to_fail(data: Path, closed: str, shows: bool) -> None:
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1", "SYNC_R1_DATA": str(data)}
    for words, code in (("concept list", 0), ("concept show momo --json", 0), ("report nowhere", 2)):
        command = ["sh", "-c", f'exec "{sys.executable}" -m sync_r1.cli {words} {closed}']
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.count("\n") <= 1
        assert ("momo" in done.stdout) == (shows and not code)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_output_that_cannot_be_written_is_one_line(data: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sync_r1.cli", "concept", "show", "momo", "--json", "--data", str(data)]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, env=variables, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "error: No space left on device; free some space, or name a place on another disk\n",
    )
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None and started.stderr is not None
        started.stdout.close()  # as `| head` does
        assert started.stderr.read() == b""


def test_a_warning_of_any_command_is_a_note(data: Path, tmp_path: Path) -> None:
    """Also one that the command does not expect: without the place in the code."""
    given = ["--pictures", str(data.parent / "photos"), "--class", "dog", "--info", "grey", "--data", str(tmp_path)]
    code, written = run_here("utf-8", "concept", "add", "rexi", *given, "--fact", "it barks.", "--fact", "it runs.")
    assert code == 0 and b"UserWarning" not in written and b".py" not in written
    notes = [line for line in written.decode().splitlines() if "implicit prompts repeat another" in line]
    assert len(notes) == 1 and notes[0].startswith("note: concept rexi: "), written
    listed = run_here("utf-8", "concept", "list", "--data", str(tmp_path))[1].decode()
    assert f"1 doubtful place; see it with: sync-r1 data check {tmp_path}" in listed


def test_columns_are_as_wide_as_what_is_printed(data: Path, tmp_path: Path) -> None:
    given = ["--pictures", str(data.parent / "photos"), "--info", "grey", "--fact", "it has a bowl.", "--data"]
    for name, noun in (("猫咪", "cat"), ("momo", "dog")):
        assert run_here("utf-8", "concept", "add", name, "--class", noun, *given, str(tmp_path))[0] == 0
    for command in (["concept", "list", "--data", str(tmp_path)], ["data", "check", str(tmp_path)]):
        lines = run_here("latin-1", *command)[1].decode("latin-1").splitlines()
        escaped = next(line for line in lines if "\\u732b\\u54aa" in line)
        plain = next(line for line in lines if "momo" in line and "dog" in line)
        assert escaped.index("cat") == plain.index("dog"), lines


def test_a_training_with_output_in_a_file_of_the_c_locale(data: Path, tmp_path: Path) -> None:
    """Plain lines, paths on one line, brackets as they are, and nothing that a terminal alone understands."""
    place = tmp_path / "shared" / "personalization" / "experiments" / "with a long name" / "of more than eighty columns"
    changes = ["rl.dgs_enabled=false", "rl.num_generations=2", "rl.prompts_per_step=1", "rl.text_prompts_per_step=1"]
    changes += ["rl.validation_prompts=0", "rl.train_timesteps=1"]
    run = ["--recipe", "demo", "--data", str(data), "--concept", "momo", "--no-evaluate", "rl.max_steps=1"]
    options = [*changes, "sft.epochs=1", f"run.output_dir={place}", "run.name=exp[a]"]
    code, written = run_command({**C_LOCALE, "COLUMNS": "80"}, "train", *run, *options, cwd=tmp_path)
    text = written.decode("ascii")
    lines = text.splitlines()
    assert code == 0, text
    assert "\x1b" not in text and "\r" not in text
    assert any("[sic] with a [red] bowl [/home/bowl] :dog:" in line for line in lines)
    assert f"report  {place}/exp[a]/report.html" in lines
    assert any(line.startswith("warm-up photos  ") and "loss " in line for line in lines)
    assert any(line.startswith("training  1/1  ") and "reward " in line for line in lines)


def test_signs_have_an_ascii_form_and_other_characters_an_escape() -> None:
    out = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch, io.TextIOWrapper(out, encoding="ascii") as stream:
        patch.setattr(sys, "stdout", stream)
        set_up_streams()
        say("✓ 0.5 – 0.7 … Ü 猫 🐶")
        say(os.fsdecode(b"caf\xe9.png"))
        assert out.getvalue() == b"+ 0.5 - 0.7 ... \\u00dc \\u732b \\ud83d\\udc36\ncaf\xe9.png\n"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", FALLBACK)


def test_a_console_prints_text_and_tables_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/a path" * 40
    say(f"[bold]{long}[/bold] [/home] :dog:", "yellow")
    table = Table("[b]", "path")
    table.add_row("[red]x[/red]", long)
    open_console().print(table)
    shown = capsys.readouterr().out
    assert f"[bold]{long}[/bold] [/home] :dog:\n" in shown
    assert "[b]" in shown and "[red]x[/red]" in shown and long in shown.splitlines()[-2]


def test_say_keeps_text_as_it_is_on_anybody_s_console() -> None:
    out = io.StringIO()
    say("[/home] :dog: " + "x" * 100, console=Console(file=out, width=20))
    assert out.getvalue() == "[/home] :dog: " + "x" * 100 + "\n"


def test_everything_is_printed_through_one_module() -> None:
    """Other ways to print would know neither the terminal's encoding nor that brackets are text."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "console.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (way := ast.unparse(node.func)) in ("print", "typer.echo", "typer.secho"):
                found.append(f"{path.name}:{node.lineno}: {way}")
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "Console"
                and "quiet=True" not in ast.unparse(node)
            ):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found
