"""`sync-r1 world …`: the embedded pixel world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_r1.console import say, say_json
from sync_r1.file_errors import writing

app = typer.Typer(no_args_is_help=True, help="The embedded world: look at it, export it, pretrain its weights.")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write, in the UniCTokens / UnifyBench++ layout.")],
    concepts: Annotated[
        list[str] | None, typer.Option("--concept", help="Only this concept; may be repeated. Default: all twenty.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace concepts that are already there.")] = False,
    lookalikes: Annotated[
        bool, typer.Option("--lookalikes", help="Also pictures of look-alikes, which --set lookalikes=true asks about.")
    ] = False,
) -> None:
    """Write the world's concepts as an ordinary data folder.

    Example: sync-r1 world export data/world --concept bo
    """
    from sync_r1.world.export import export_world

    names = export_world(folder, concepts, overwrite=overwrite, lookalikes=lookalikes)
    say(f"wrote {len(names)} concepts to {folder}: {', '.join(names)}")


@app.command()
def show(
    picture: Annotated[Path, typer.Argument(help="PNG to write.")] = Path("world.png"),
    seed: Annotated[int, typer.Option(min=0, help="Which random things.")] = 0,
) -> None:
    """Draw a sheet of random things, one column per kind.

    Example: sync-r1 world show world.png
    """
    import numpy as np
    from PIL import Image

    from sync_r1.world.render import ATTRIBUTES, random_thing, render

    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(6):
        rows.append(np.concatenate([render(random_thing(rng, kind=kind)) for kind in ATTRIBUTES["kind"]], axis=1))
    sheet = Image.fromarray(np.concatenate(rows))
    with writing(picture):
        sheet.resize((sheet.width * 4, sheet.height * 4), Image.Resampling.NEAREST).save(picture)
    say(f"wrote {picture}")


@app.command()
def pretrain(
    work: Annotated[Path, typer.Option(help="Training state; a stopped run continues from it.")] = Path(
        "runs/pretrain"
    ),
    out: Annotated[Path, typer.Option(help="Where the weights go.")] = Path("runs/pretrain/assets"),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Cut every stage to this many steps, to try the recipe out.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: PyTorch's choice.")] = None,
) -> None:
    """Train the world's weights from random numbers: tokenizer, readers, CLIP, unified model. Hours on two CPU cores,
    resumable.

    Example: sync-r1 world pretrain --steps 20
    """
    import torch

    from sync_r1.folder_lock import hold
    from sync_r1.signals import if_stopped
    from sync_r1.world.pretrain.recipe import Recipe
    from sync_r1.world.pretrain.recipe import pretrain as run

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if steps is None:
        recipe = Recipe()
    else:
        recipe = Recipe().shortened(steps)
    with hold(work, "name another --work"), if_stopped(f"{work} keeps the training so far"):
        card = run(recipe, work, out)
    say_json(card["measured"])
    say(f"weights and model card in {out}")


@app.command("pretrain-larger")
def pretrain_larger(
    width: Annotated[int, typer.Option(min=32, help="Hidden size, a multiple of 32; the shipped model has 192.")] = 384,
    layers: Annotated[int, typer.Option(min=1, help="Layers; the shipped model has 6.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 2400,
    work: Annotated[Path, typer.Option(help="Training state; a stopped run continues from it.")] = Path(
        "runs/pretrain_larger"
    ),
    out: Annotated[Path, typer.Option(help="Where the weights go: train with model.path=<out>/model.")] = Path(
        "runs/world_larger"
    ),
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a larger unified model of the world with the shipped tokenizer, readers and CLIP. Minutes on a GPU.

    Example: sync-r1 world pretrain-larger --width 384 --layers 8
    """
    from sync_r1.folder_lock import hold
    from sync_r1.models.loading import pick_device
    from sync_r1.signals import if_stopped
    from sync_r1.world.pretrain.recipe import pretrain_larger as run

    with hold(work, "name another --work"), if_stopped(f"{work} keeps the training so far"):
        found = run(width, layers, steps, work, out, pick_device(device))
    say_json(found["measured"])
    say(f"{found['parameters'] / 1e6:.1f} M parameters in {out}")


@app.command()
def card() -> None:
    """Print the model card of the shipped weights.

    Example: sync-r1 world card
    """
    from sync_r1.world.assets import ASSETS

    path = ASSETS / "MODEL_CARD.md"
    if not path.is_file():
        raise ValueError(f"{path} is missing; reinstall the package or run `sync-r1 world pretrain`")
    say(path.read_text(encoding="utf-8"))
