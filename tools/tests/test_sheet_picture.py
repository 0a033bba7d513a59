"""The picture of a contact sheet on the site is drawn by the package itself."""

import pytest
from PIL import Image

import sheet_picture


@pytest.mark.slow
def test_the_site_shows_a_sheet_of_the_demo(tmp_path):
    path = sheet_picture.draw(tmp_path / "pictures")
    with Image.open(path) as image:
        assert image.size[0] == 1286
        assert "viscy-train contact sheet" in image.info
