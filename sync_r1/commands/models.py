"""`sync-r1 models …`: checks of the model implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Check model implementations.")


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="Folder with published weights and golden numbers (golden.safetensors).")]) -> None:
    """Compare our Show-o and MAGVIT-v2 with the published code's numbers.

    Prints the largest error per tensor as JSON; exits with 1 when one is beyond the tolerance.

    Example: sync-r1 models check path/to/kit
    """
    import json

    from sync_r1.models.showo.check import check_kit

    result = check_kit(folder)
    typer.echo(json.dumps(result, indent=2))
    if not all(entry["ok"] for entry in result.values()):
        raise typer.Exit(1)
