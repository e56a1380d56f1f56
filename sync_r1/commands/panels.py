"""The panels of `sync-r1 --help`: which commands stand together, and in which order."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

PANELS = {
    "Start here": ("demo", "studio", "doctor"),
    "Your things": ("concept", "data", "learn", "story"),
    "Use a model": ("ask", "chat", "recognize", "rewrite", "draw", "edit", "vary", "check", "why", "compare", "serve"),
    "Train": ("train", "jobs", "watch", "stop", "sft", "rate", "learn-from-feedback", "undo", "report"),
    "Measure": ("evaluate", "bench", "judge", "study"),
    "Models and the embedded world": ("models", "world"),
}
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}


class InPanels(TyperGroup):
    """Lists its commands in the order of `PANELS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands; one that no panel names comes last."""
        order = list(PANEL_OF)
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else len(order))


def put_into_panels(app: typer.Typer) -> None:
    """Give every command of `app` its panel."""
    for command in app.registered_commands:
        command.rich_help_panel = PANEL_OF.get(command.name or getattr(command.callback, "__name__", ""))
    for family in app.registered_groups:
        family.rich_help_panel = PANEL_OF.get(str(family.name))
