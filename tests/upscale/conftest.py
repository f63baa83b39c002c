"""A folder of pictures, one of which is broken."""

import pytest
from PIL import Image

from tests.conftest import scene


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "deep/c.webp")):
        Image.fromarray(scene(i, 48)).save(source / name)
    (source / "broken.png").write_bytes(b"\x89PNG and nothing more")
    return source
