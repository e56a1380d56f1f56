"""Hostile inputs in any number: python tools/fuzz.py --inputs 2000 --target judge.

Prints the seed of every input that is not handled.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.fuzz.test_hostile_inputs import INPUTS


def main() -> int:
    """The number of unhandled inputs, as the exit status's truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="for each target")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--target", choices=[kind.name for kind in INPUTS], help="only this one")
    given = parser.parse_args()
    bad = 0
    for kind in INPUTS:
        if given.target in (None, kind.name):
            with tempfile.TemporaryDirectory() as folder:
                target, refused = kind(Path(folder)), 0
                for seed in range(given.first, given.first + given.inputs):
                    try:
                        refused += target.run(random.Random(seed))
                    except BaseException as error:  # a hang and a panic of Rust are no Exceptions
                        if isinstance(error, KeyboardInterrupt):
                            raise
                        bad += 1
                        print(
                            f"{kind.name} {seed}: {''.join(traceback.format_exception(error)[-3:])[-1500:]}", flush=True
                        )
            print(f"{kind.name}: {given.inputs} inputs, {refused} refused", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
