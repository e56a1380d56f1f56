"""All screens of the studio, each under an address of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from sync_r1.app.chat import ChatScreen
from sync_r1.app.compare import CompareScreen
from sync_r1.app.draw import DrawScreen
from sync_r1.app.feedback import FeedbackScreen
from sync_r1.app.learn import LearnScreen
from sync_r1.app.server import Studio
from sync_r1.app.story import StoryScreen
from sync_r1.app.things import ThingsScreen
from sync_r1.app.train import TrainScreen
from sync_r1.app.why import WhyScreen

OLDEST_S = 3600  # of an uploaded or shown file
SCREENS: dict[str, Callable[[Studio, gr.Blocks], Any]] = {
    "Train": TrainScreen,
    "Draw": DrawScreen,
    "Chat": ChatScreen,
    "Feedback": FeedbackScreen,
    "Why": WhyScreen,
    "Compare": CompareScreen,
    "Story": StoryScreen,
    "Learn": LearnScreen,
}


def build(studio: Studio) -> gr.Blocks:
    """The page. Handlers call `apps` and hold no logic of their own."""
    with gr.Blocks(title="Sync-R1 studio", analytics_enabled=False, delete_cache=(600, OLDEST_S)) as page:
        ThingsScreen(studio, page)
    for name, screen in SCREENS.items():
        with page.route(name, f"/{name.lower()}"):
            screen(studio, page)
    for handler in page.fns.values():
        handler.api_visibility = "private"  # the API is that of `sync-r1 serve`
    return page
