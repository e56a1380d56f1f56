"""`sync-r1 concept …`: personal things on disk."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_r1.commands.data import data_root
from sync_r1.commands.inference import noted, open_session
from sync_r1.commands.options import AsJson, ConceptOption, DataOption, DeviceOption, ModelOption, RunOption
from sync_r1.console import say, say_json, show_table
from sync_r1.constants import WORLD

if TYPE_CHECKING:
    from sync_r1.data.add import AddedConcept

app = typer.Typer(no_args_is_help=True, help="List, show and add personal concepts.")

MOST_SHOWN = 5  # descriptions, of the two dozen that are tried

DataRoot = Annotated[
    Path, typer.Option("--data", envvar="SYNC_R1_DATA", help="Folder that holds concept/train/<name>/, or 'world'.")
]


@app.command("list")
def list_all(data: DataRoot = Path("data"), as_json: AsJson = False) -> None:
    """List the concepts of a data folder; those that cannot be read are named below.

    Example: sync-r1 concept list --data data
    """
    from sync_r1.data import Layout, list_concepts, load_concept

    root = data_root(data)
    concepts = []
    broken: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in list_concepts(root):
            try:
                concepts.append(load_concept(root, name, allow_empty_facts=True, verify=False))
            except ValueError as error:
                broken[name] = str(error)
    rows = [summary(concept) for concept in concepts]
    for name, reason in broken.items():
        say(f"left out {Layout(root).train(name)}: {reason}", "yellow", err=True)
    if caught:
        places = "1 doubtful place; see it" if len(caught) == 1 else f"{len(caught)} doubtful places; see them"
        say(f"{places} with: sync-r1 data check {shlex.quote(str(data))}", err=True)
    if as_json:
        say_json([{**row, "display_name": concept.called} for row, concept in zip(rows, concepts, strict=True)])
        return
    if not rows and broken:
        raise ValueError(f"none of the {len(broken)} concepts in {data} can be read")
    if not rows:
        say(f"no concepts in {data} yet; add one with: sync-r1 concept add --help")
        return
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(*(title.replace("_", " ") for title in rows[0]), box=SIMPLE)
    for row, concept in zip(rows, concepts, strict=True):
        table.add_row(*(Text(str(value)) for value in {**row, "name": concept.title}.values()))
    show_table(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name or id of the concept, for example bo.")],
    data: DataRoot = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Show what is known about one concept, after checking all of its files.

    Example: sync-r1 concept show bo --data data
    """
    from sync_r1.data import load_concept

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        concept = load_concept(data_root(data, [name]), name, allow_empty_facts=True)
    for warning in caught:
        say(f"note: {warning.message}", err=True)
    details = {
        **summary(concept),
        "info": concept.info,
        "facts": concept.facts,
        "training_prompts": [concept.conditions.implicit[index] for index in concept.rl_indices],
        "test_prompts": [concept.conditions.implicit[index] for index in concept.test_indices],
        "train_images": [str(path) for path in concept.train_images],
        "test_images": [str(path) for path in concept.test_images],
    }
    if as_json:
        say_json({**details, "display_name": concept.called})
        return
    for key, value in {**details, "name": concept.title}.items():
        title = key.replace("_", " ")
        if isinstance(value, list):
            say(f"{title}:")
            for line in value:
                say(f"  - {concept.shown(line)}")
        else:
            say(f"{title}: {concept.shown(str(value))}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Its name as you write it, in any script: bo, 猫咪, O'Neil, New York.")],
    pictures: Annotated[Path, typer.Option(help="Folder with its photos; 5 to 10 are good.")],
    class_noun: Annotated[str, typer.Option("--class", help='What kind of thing it is: "dog", "woman", "mug".')],
    info: Annotated[
        str, typer.Option(help='What it looks like, in one line: "a small grey terrier with a folded ear".')
    ],
    fact: Annotated[
        list[str] | None, typer.Option(help='A private fact, for example "it has a green raincoat". Repeat for more.')
    ] = None,
    fact_picture: Annotated[
        list[Path] | None,
        typer.Option("--fact-picture", help="A picture that tells facts; the model reads it and you confirm."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm what every reading of --fact-picture says; the rest is left out.")
    ] = False,
    model: ModelOption = "world",
    data: DataRoot = Path("data"),
    category: Annotated[
        str | None, typer.Option(help="person, animal or object; guessed from --class when not given.")
    ] = None,
    concept_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="Short id for folders and tokens (a to z, digits, _ and -); made from the name by default."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a concept of this name.")] = False,
) -> None:
    """Add your own concept: pictures, what it is, what it looks like and private facts.

    Nothing is written unless all of it is right.

    Example: sync-r1 concept add bo --pictures photos/bo --class dog --info "a small grey terrier" --fact "bo has a
        green raincoat."
    """
    from sync_r1.data import add_concept_folder

    if str(data) == WORLD:
        raise ValueError(
            "--data is 'world', which ships with the package and stays as it is; name a folder of your own"
        )
    facts = [*(fact or []), *_confirmed(fact_picture or [], class_noun, model, yes)]
    added = add_concept_folder(
        data,
        name,
        pictures,
        class_noun,
        info,
        facts,
        category=category,  # type: ignore[arg-type]
        overwrite=overwrite,
        concept_id=concept_id,
    )
    _print_added(added, data)


@app.command()
def read(
    picture: Annotated[Path, typer.Argument(help="A picture of the thing (png, jpg, webp).")],
    run: RunOption = None,
    model: ModelOption = "world",
    data: DataOption = None,
    concept: ConceptOption = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Propose private facts from a picture; nothing is stored.

    Example: sync-r1 concept read photo.png --concept bo
    """
    from dataclasses import asdict

    from sync_r1.apps.facts import read_facts
    from sync_r1.data import verify_images

    verify_images([picture])
    with noted():
        session = open_session(run, model, data, concept, device)
        proposed = read_facts(session, picture)
    if as_json:
        say_json([asdict(one) for one in proposed])
        return
    for one in proposed:
        say(f"{one.agreement:.2f}  {session.concept.shown(one.sentence)}  ({one.source})")
    if not proposed:
        say("nothing that could be a fact was read")


@app.command()
def describe(
    pictures: Annotated[list[Path], typer.Argument(help="Photos of the thing (png, jpg, webp).")],
    class_noun: Annotated[str, typer.Option("--class", help='What kind of thing it is: "dog", "woman", "mug".')],
    model: ModelOption = "world",
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Say what a thing looks like, for --info: the words under which the drawing half finds the photos likeliest.

    Nothing is stored. Beside each line stands by how many nats a photo is less likely than under the first. Give five
    to ten photos that show it alone: of fewer a mark may be missed. A --class that the model's world does not have is
    guessed as well.

    Example: sync-r1 concept describe photos/bo/*.png --class dog
    """
    from dataclasses import asdict

    from sync_r1.apps.describe import describe_photos
    from sync_r1.apps.facts import unknown_thing
    from sync_r1.data import verify_images

    verify_images(pictures)
    with noted():
        found = describe_photos(unknown_thing(class_noun, model, device), pictures)
    if as_json:
        say_json([asdict(one) for one in found])
        return
    for one in found[:MOST_SHOWN]:
        say(f"{one.nats - found[0].nats + 0.0:6.2f}  {one.text}")


def _confirmed(pictures: list[Path], class_noun: str, model: str, yes: bool) -> list[str]:
    """The facts read from pictures that their owner confirms on the terminal, or all of them; each about "it"."""
    from sync_r1.data import verify_images

    verify_images(pictures)
    if not pictures:
        return []
    from sync_r1.apps.facts import read_facts, unknown_thing

    session = unknown_thing(class_noun, model)
    found: list[str] = []
    for picture in pictures:
        for one in read_facts(session, picture):
            sentence = one.sentence.replace(session.concept.placeholder, "it")
            if sentence in found:
                continue
            say(f"{picture}: {sentence}  (agreement {one.agreement:.2f})")
            if yes:
                kept = one.sure
            else:
                kept = _says_yes()
            if kept:
                found.append(sentence)
    return found


def _says_yes() -> bool:
    say("keep it? y or n")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def summary(concept: Any) -> dict[str, Any]:
    """One line about a concept."""
    return {
        "name": concept.name,
        "class": concept.class_noun,
        "category": concept.category,
        "pictures": len(concept.train_images) + len(concept.test_images),
        "facts_known": len(concept.facts),
        "questions": len(concept.items),
        "prompts": len(concept.conditions.implicit),
    }


def _print_added(added: AddedConcept, data: Path) -> None:
    for note in added.notes:
        say(f"note: {note}")
    concept = added.concept
    say(
        f"added <{concept.called}> ({concept.class_noun}, {concept.category}) to {data}: "
        f"{len(concept.train_images)} pictures for training, {len(concept.test_images)} for testing, "
        f"{len(concept.facts)} facts, {len(concept.rl_indices)} training prompts"
    )
    say(f"see it with: sync-r1 concept show {concept.name} --data {shlex.quote(str(data))}")
