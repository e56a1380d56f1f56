from __future__ import annotations

from pathlib import Path

import pytest
from concept_samples import picture, sample_concept, sample_pictures

from sync_r1.data.write import write_concept, write_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root that holds the concept zed."""
    folder = tmp_path / "unictokens_data"
    write_root(folder, [picture(9), picture(99)])
    concept = sample_concept(folder)
    write_concept(folder, concept, sample_pictures(concept))
    return folder
