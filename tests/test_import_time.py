"""What the first answer may import: seconds differ between machines, lists of modules do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE = "import torch; from transformers import PhiModel"
COMMAND = (
    "import sys; from sync_r1.cli import main; sys.argv = ['sync-r1', *{}]\n"
    "try:\n"
    "    main()\n"
    "except SystemExit:\n"
    "    pass"
)
SHOW = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
MOST_MODULES = 160  # of other packages, that the bare import of the model's classes does not need


def modules_after(code: str) -> set[str]:
    """Names of the modules that a Python process has loaded after `code`."""
    done = subprocess.run([sys.executable, "-c", code + SHOW], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    loaded = {name.partition(".")[0] for name in modules_after(COMMAND.format(["--help"]))}
    assert not loaded & {"torch", "transformers", "numpy", "PIL", "pydantic", "openai", "httpx2", "pyarrow", "nltk"}


def test_an_answer_loads_little_beyond_the_model() -> None:
    needed = modules_after(REFERENCE)
    beyond = modules_after(COMMAND.format(["ask", "What colour is <bo>?", "--concept", "bo"])) - needed
    others = {name for name in beyond if not name.startswith("sync_r1")}
    heavy = {"nltk", "openai", "httpx2", "pyarrow", "matplotlib", "peft", "accelerate", "pandas", "jinja2"}
    assert not {name.partition(".")[0] for name in others} & heavy
    assert not {name for name in others if name.startswith("transformers.models.")}, "classes of other models"
    assert len(others) <= MOST_MODULES, sorted(others)
