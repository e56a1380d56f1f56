"""The session that a training starts with, from its configuration: data checked, model opened, concept introduced.

What asks or draws without a configuration is opened by opening.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from sync_r1.config import Config
from sync_r1.console import say
from sync_r1.constants import WORLD
from sync_r1.data import load_concept
from sync_r1.distributed import Processes, launched
from sync_r1.report import save_concept_card
from sync_r1.run_folder import record_data
from sync_r1.scorers.face import concept_face
from sync_r1.session import Session
from sync_r1.world.export import export_world
from sync_r1.world.version import check_version


def one_process(work: str) -> None:
    """Refuse several processes for work that a single one does in minutes."""
    if launched() > 1:
        raise ValueError(
            f"{work} runs in one process; run sync-r1 sft without accelerate launch or torchrun first, "
            "then train from its checkpoint with --model and without sft.stages"
        )


def check_data(config: Config) -> None:
    """Read the concept and all its pictures before any network is loaded. ValueError names what is wrong with them."""
    if len(config.data.concepts) != 1:
        raise ValueError(
            f"data.concepts is {config.data.concepts}; name the one concept to learn, for example --concept bo"
        )
    if config.data.root != WORLD:
        load_concept(config.data.root, config.data.concepts[0], allow_empty_facts=True)


def open_run(config: Config, console: Console, processes: Processes | None = None) -> Session:
    """Open the model with its concept and introduce it, on the console and in `<run>/concept.json`."""
    processes = processes or Processes()
    config.run.folder.mkdir(parents=True, exist_ok=True)
    processes.on_main(lambda: data_root(config))  # the others find the data complete
    session = open_session(config)
    concept = session.concept
    if not processes.main:
        return session
    if config.data.root != WORLD:
        record_data(config.run.folder, config.data.root)
    save_concept_card(
        config.run.folder,
        name=concept.name,
        display_name=concept.display_name,
        class_noun=concept.class_noun,
        info=concept.info,
        facts=concept.facts,
        pictures=concept.train_images[:6],
    )
    say(concept.shown(" ".join([concept.info, *concept.facts])), console=console)
    return session


def open_session(config: Config) -> Session:
    """The model with its concept.

    The embedded world is exported into the run folder first and read back as data of your own would be. ValueError for
    weights of an earlier version of that world.
    """
    root, names = data_root(config), config.data.concepts
    face = None
    if config.model.init == "images":
        face = concept_face(load_concept(root, names[0]), config.scorers.face)
    session = Session.open(
        model=config.model.path,
        data=root,
        concept=names[0],
        device=config.run.device,
        options=config.eval,
        settings=config.model,
        face=face,
    )
    if config.data.root == WORLD:
        check_version(session.model, "learn its concepts")
    return session


def data_root(config: Config) -> Path | str:
    """Where the concepts are; the embedded world's are exported first."""
    if config.data.root != WORLD:
        return config.data.root
    root = config.run.folder / "data"
    if not root.is_dir():
        partial = root.with_name(".data.partial")  # a world exported half, by a run that was killed, must not count
        shutil.rmtree(partial, ignore_errors=True)
        export_world(partial, config.data.concepts, lookalikes=config.eval.lookalikes)
        partial.rename(root)
    return root
