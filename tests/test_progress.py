"""Progress of long work: a live bar on a real terminal, plain lines everywhere else."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from sync_r1 import progress
from sync_r1.progress import WorkProgress, over_tasks

PROGRAM = """
import sys, time
from sync_r1.console import open_console, say
from sync_r1.progress import WorkProgress
console = open_console()
with WorkProgress(console, "training [/x]", 200) as work:
    for step in (1, 2, 3):
        time.sleep(0.3)
        work.update(step, figures="reward 0.5")
    say("a message", console=console)
"""


def shown_in_a_terminal(columns: int, **environment: str) -> str:
    """What the program above writes to a terminal of so many columns."""
    pty = pytest.importorskip("pty", reason="needs a Unix terminal")
    ours, theirs = pty.openpty()
    import fcntl
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    variables = {**kept, "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_terminal_gets_a_live_bar_that_fits_its_width() -> None:
    for columns in (20, 40, 80, 140):
        shown = shown_in_a_terminal(columns)
        states = [state for state in plain(shown).replace("\n", "\r").split("\r") if state]
        assert "\x1b[2K" in shown, "the line is drawn anew in its place"
        assert max(map(len, states)) <= columns, states
        assert any("3/200" in state for state in states), states
        assert any("a message" in state for state in states)
        if columns >= 80:
            assert any("training [/x]" in state and "left" in state and "━" in state for state in states)
    assert any("reward 0.5" in state for state in states)


def test_no_color_and_a_dumb_terminal() -> None:
    colours = r"\x1b\[[0-9;]*m"
    assert re.search(colours, shown_in_a_terminal(140))
    assert not re.search(colours, shown_in_a_terminal(140, NO_COLOR="1"))
    dumb = shown_in_a_terminal(30, TERM="dumb")
    assert "\x1b" not in dumb
    lines = dumb.replace("\r\n", "\n").splitlines()
    assert len(lines) == 3 and lines[1] == "a message"
    assert re.fullmatch(r"training \[/x\]  3/200  0:0\d elapsed  \d:\d\d left  reward 0\.5", lines[2])


def test_a_file_gets_a_line_every_few_seconds_also_within_a_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.1)
    out = io.StringIO()
    with WorkProgress(Console(file=out, width=20, force_terminal=True), "training", 4, done=2) as work:
        time.sleep(0.25)
        first = out.getvalue().splitlines()
        work.update(3, figures="reward 0.5")
        assert out.getvalue().splitlines()[-1].startswith("training  3/4  "), "the first step is shown at once"
        time.sleep(0.25)
        work.update(4)
    lines = out.getvalue().splitlines()
    assert len(first) >= 1 and all(re.fullmatch(r"training  2/4  0:00 elapsed", line) for line in first)
    assert sum("3/4" in line for line in lines) >= 2
    assert re.fullmatch(r"training  3/4  0:0\d elapsed  0:0\d left  reward 0\.5", lines[len(first)])
    assert re.fullmatch(r"training  4/4  0:0\d elapsed  reward 0\.5", lines[-1])
    assert "\x1b" not in out.getvalue()
    work.stop()
    assert len(out.getvalue().splitlines()) == len(lines), "stopping again says nothing"


def test_nothing_comes_later_than_ten_seconds() -> None:
    assert progress.EVERY_S < 10


def test_time_left_follows_the_mean_speed_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    work = WorkProgress(Console(quiet=True), "training", 100, done=40)
    work.start()
    assert work.left_s() is None
    now += 30
    work.update(50)
    assert work.left_s() == 150
    now += 20
    assert work.left_s() == 130, "within a step the clock goes on"
    now += 1000
    assert work.left_s() == 0
    assert work.line() == "training  50/100  17:30 elapsed  0:00 left"
    now += 3600
    work.update(100)
    assert work.line() == "training  100/100  1:17:30 elapsed"


def test_a_quiet_console_and_an_unknown_total() -> None:
    out = io.StringIO()
    with WorkProgress(Console(file=out, quiet=True), "training", 4) as work:
        work.update(1)
    assert out.getvalue() == ""
    with WorkProgress(Console(file=out), "measuring", None):
        pass
    assert out.getvalue() == "measuring  0:00 elapsed\n"


def test_items_of_several_tasks_are_counted_together() -> None:
    out = io.StringIO()
    with over_tasks(Console(file=out, width=200), "evaluate [before]", 5) as advance:
        advance("rec", 2, 3)
        advance("rec", 3, 3)
        advance("vqa", 1, 2)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("evaluate [before]: rec  2/5  ")
    assert lines[-1].startswith("evaluate [before]  5/5  ")


def test_a_failure_still_shows_how_far_it_came() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError), WorkProgress(Console(file=out), "training", 5) as work:
        work.update(1)
        work.update(2)
        raise ValueError("stop")
    assert out.getvalue().splitlines()[-1].startswith("training  2/5  ")


# The command's words are its arguments. It ends where PyTorch would be imported.
UNTIL_TORCH = """
import os, sys

class UntilTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            os._exit(7)

sys.meta_path.insert(0, UntilTorch())
from sync_r1.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [
        "demo",
        "train --recipe demo --concept bo",
        "sft --recipe demo --concept bo",
        "evaluate --concept bo",
        "bench run --concept bo",
        "learn-from-feedback --concept bo",
    ],
)
def test_long_work_says_that_it_loads_before_it_imports_pytorch(words: str, tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", UNTIL_TORCH, *words.split()]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (7, "loading  0:00 elapsed\n")


def test_what_is_read_by_programs_has_no_such_line(tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", UNTIL_TORCH, "train", "--recipe", "demo", "--show-config"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (7, "")
