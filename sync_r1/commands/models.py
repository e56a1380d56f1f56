"""`sync-r1 models …`: look at models, bring published weights and concept tokens into one folder, check the
implementations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sync_r1.console import say, say_json

app = typer.Typer(no_args_is_help=True, help="Look at models and import published weights.")

Out = Annotated[Path, typer.Option(help="Folder to write the model to.")]
Name = Annotated[str, typer.Option(help="Name of the concept, without < and >.")]
Noun = Annotated[str, typer.Option(help="What the concept is, such as dog.")]
Epoch = Annotated[int, typer.Option(help="N of epoch_<N>_embed.pt.")]


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="Model folder, weight file, hub id, or 'world'.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Say what a model is: family, sizes, parameters, concepts, memory by dtype. Reads no weights (a hub id is
    downloaded, though).

    Example: sync-r1 models info showlab/show-o-512x512
    """

    from sync_r1.constants import WORLD
    from sync_r1.models.loading import describe

    if path == WORLD:
        from sync_r1.world.assets import ASSETS

        path = str(ASSETS / "model")
    facts = describe(path)
    if as_json:
        say_json(facts)
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{name} {number:,}" for name, number in value.items())
        else:
            shown = value
        say(f"{key:<14}{shown if shown != [] else 'none'}")


@app.command("import")
def import_weights(
    showo: Annotated[str, typer.Argument(help="Folder, weight file or hub id with Show-o's published weights.")],
    out: Out,
    image_tokenizer: Annotated[str, typer.Option(help="Folder or hub id of MAGVIT-v2.")] = "showlab/magvitv2",
    text_tokenizer: Annotated[str, typer.Option(help="Folder or hub id of phi-1.5.")] = "microsoft/phi-1_5",
    concept: Annotated[str, typer.Option(help="Name of the concept whose rows a UniCTokens checkpoint holds.")] = "",
    class_noun: Annotated[str, typer.Option(help="What that concept is, such as dog.")] = "",
    dtype: Annotated[str, typer.Option(help="fp32 or bf16, of the backbone.")] = "fp32",
) -> None:
    """Write published Show-o, its image tokenizer and its text tokenizer as ONE folder that every command reads.

    Examples: sync-r1 models import showlab/show-o-512x512 --out models/showo
    sync-r1 models import rl/bo/model_epoch4.pt --concept bo --class-noun dog --out models/bo
    """
    from sync_r1.models.base import ConceptTokens
    from sync_r1.models.loading import DTYPES
    from sync_r1.models.showo.published import import_showo

    if dtype not in DTYPES:
        raise ValueError(f"--dtype is {dtype!r}; use one of {', '.join(DTYPES)}")
    if concept and not class_noun:
        raise ValueError("--concept needs --class-noun: what it is, such as dog")
    tokens = None
    if concept:
        tokens = ConceptTokens(concept, class_noun=class_noun)
    model = import_showo(showo, image_tokenizer, text_tokenizer, concept=tokens, dtype=DTYPES[dtype])
    model.save_pretrained(out)
    say(f"model  {out}  ({model.config.vocab_size} vocabulary rows, {model.image_size} px)")


@app.command("import-concept")
def import_concept_tokens(
    model: Annotated[str, typer.Argument(help="Model folder or hub id, or 'world'.")],
    tokens: Annotated[Path, typer.Argument(help="Folder with epoch_<N>_{embed,lm_head_weight,lm_head_bias}.pt.")],
    concept: Name,
    class_noun: Noun,
    out: Out,
    epoch: Epoch = 15,
) -> None:
    """Give a model the trained tokens of a UniCTokens concept and write it as a new folder.

    Example: sync-r1 models import-concept models/showo saves/bo/run --concept bo --class-noun dog --out models/bo
    """
    from sync_r1.models.concept_files import import_concept
    from sync_r1.opening import load_model

    loaded = load_model(model, device="cpu")
    added = import_concept(loaded, tokens, epoch, concept, class_noun)
    loaded.save_pretrained(out)
    say(f"model  {out}  (<{added.name}> and {len(added.tokens)} soft tokens)")


@app.command("export-concept")
def export_concept_tokens(
    model: Annotated[str, typer.Argument(help="Folder of a model that knows the concept.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write the three files to.")],
    concept: Name,
    epoch: Epoch = 15,
) -> None:
    """Write a concept's tokens as UniCTokens does: epoch_<N>_{embed,lm_head_weight,lm_head_bias}.pt, plain fp32
    tensors.

    Example: sync-r1 models export-concept models/bo saves/bo/run --concept bo
    """
    from sync_r1.models.concept_files import export_concept
    from sync_r1.opening import load_model

    for path in export_concept(load_model(model, device="cpu"), concept, folder, epoch):
        say(f"wrote  {path}")


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(help="Folder with published weights and golden numbers (golden.safetensors).")
    ],
) -> None:
    """Compare our Show-o and MAGVIT-v2 with the published code's numbers.

    Prints the largest error per tensor as JSON; exits with 1 when one is beyond the tolerance.

    Example: sync-r1 models check path/to/kit
    """

    from sync_r1.models.showo.check import check_kit

    result = check_kit(folder)
    say_json(result)
    if not all(entry["ok"] for entry in result.values()):
        raise typer.Exit(1)
