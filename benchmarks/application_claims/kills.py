"""A13: what kills and hostile requests do to the studio, from docs/studio_kills.json (benchmarks/studio_kills.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def rows(kills: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The share of kills, reloads and restarts after which all was whole, and of hostile requests that were refused.

    A problem of either kind is named in `problems`; a status of 500 or more is one of the requests.
    """
    failed = sum(number for status, number in kills["statuses"].items() if int(status) >= 500)
    lost = len(kills["problems"]) - failed
    for what, bad, count in (
        ("kills, reloads and restarts that lost nothing", lost, kills["kills"]),
        ("hostile requests without an error of the server", failed, kills["hostile"]),
    ):
        share = 1 - bad / count
        yield {"measure": what, "value": share, "ci95": [share, share], "n": count}
