"""The models of a studio: every thing with every weights that know it, as the folders are now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_r1.apps.studio.folder import BASE, StudioFolder
from sync_r1.config_fields import shown
from sync_r1.data import Layout
from sync_r1.serve.catalogue import Catalogue, Source, Stamp, describe
from sync_r1.serve.errors import ApiError


def source_id(thing: str, weights: str) -> str:
    """The id of a thing with weights, also as clients of the API name it."""
    return f"{thing}/{weights}"


@dataclass(frozen=True)
class ThingSource(Source):
    """Is opened anew when the thing itself was changed, too."""

    info: Path = Path()  # of the thing

    def stamp(self) -> Stamp:
        changed, known = self.info.stat().st_mtime_ns, super().stamp()
        if known is None:
            return self.info, changed
        return known[0], known[1] ^ changed


class StudioCatalogue(Catalogue):
    """Looks at the folders whenever it is asked, so that a new thing or run is there at once."""

    def __init__(self, studio: StudioFolder, device: str = "auto") -> None:
        super().__init__([], device)
        self.studio = studio

    def find(self, name: str) -> Source:
        thing, _, weights = name.partition("/")
        try:
            self.studio.thing(thing)
            place = self.studio.find(thing, weights or BASE).place
        except ValueError as error:
            raise ApiError(
                404, f"the model {shown(name[:80])} does not exist: {error}", code="model_not_found", param="model"
            ) from error
        info = Layout(self.studio.things).info(thing)
        return ThingSource(name, thing, run=place, model=self.studio.model, data=str(self.studio.things), info=info)

    def rows(self) -> list[dict[str, Any]]:
        found = []
        for thing in self.studio.names():
            for one in self.studio.weights(thing):
                found.append(describe(self.find(source_id(thing, one.id))))
        return found
