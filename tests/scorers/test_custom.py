"""Your own reward functions by dotted path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sync_r1.scorers.custom import load_function

MODULE = """
import statistics
LIMIT = 3
def brief(*, completions, **columns): return [len(text) < LIMIT for text in completions]
def like_trl(prompts, completions, **kwargs): return [0.0 for _ in prompts]
def forgot_columns(images): return [0.0 for _ in images]
def wants_more(*, completions, reference, **columns): return [0.0]
async def later(*, completions, **columns): return [0.0 for _ in completions]
class Held:
    def __call__(self, *, images, **columns): return [0.0 for _ in images]
held = Held()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A current directory with a module of its own name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    name = f"module_{abs(hash(request.node.name))}"
    Path(f"{name}.py").write_text(MODULE, encoding="utf-8")
    return name


@pytest.mark.parametrize("function", ["brief", "like_trl", "later", "held"])
def test_modules_of_the_current_directory_are_found(here: str, function: str) -> None:
    assert callable(load_function(f"{here}.{function}"))
    assert sys.path[-1] == str(Path.cwd())  # last: it hides no installed package


def test_a_module_in_a_folder_is_found(here: str) -> None:
    Path("mine").mkdir()
    Path(f"{here}.py").rename(f"mine/{here}.py")
    assert load_function(f"mine.{here}.brief")(completions=["a", "abc"]) == [True, False]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "no_such_module.f",
            "'no_such_module.f' cannot be imported .*No module named 'no_such_module'.*write module.function",
        ),
        ("{}.missing", "has no 'missing'; name a function that it defines"),
        ("{}.LIMIT", "is a int; a reward must be callable"),
        (
            "{}.forgot_columns",
            r"has the signature \(images\) .*it is called with the keywords prompts, .*end with \*\*columns",
        ),
        ("{}.wants_more", "missing a required argument: 'reference'"),
        ("broken.f", "'broken.f' cannot be imported .NameError: name 'undefined' is not defined"),
        ("sentence.f", "'sentence.f' cannot be imported .SyntaxError"),
    ],
)
def test_what_cannot_be_a_reward_is_refused(here: str, path: str, said: str) -> None:
    Path("broken.py").write_text("undefined", encoding="utf-8")
    Path("sentence.py").write_text("no code at all", encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        load_function(path.format(here))
