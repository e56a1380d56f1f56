"""Fixtures of all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.forked import ForkServer


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs commands in processes that may get a signal."""
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    server = ForkServer(tmp_path_factory.mktemp("logs"))
    yield server
    server.close()


def pytest_collection_finish() -> None:
    """Whatever is imported by now stays, so garbage collections, with which every training begins, may pass it over."""
    gc.collect()
    gc.freeze()
