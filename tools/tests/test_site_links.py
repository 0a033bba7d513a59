"""Site links: links of the repository's files work on the site."""

from pathlib import PurePosixPath

import pytest

from site_links import IMAGES, PAGES, ROOT, rewrite

TRAIN = PurePosixPath("packages/viscy-train/README.md")
PAGE = PurePosixPath("docs/reference/viscy-train.md")


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[a](../../docs/bring-your-data.md)", "[a](../bring-your-data.md)"),
        ("[a](HELA.md#the-data)", "[a](hela.md#the-data)"),
        ("[a](#tracks)", "[a](#tracks)"),
        ("[a](https://host/page.md)", "[a](https://host/page.md)"),
        ("[`a.py`](src/a.py)", "`a.py`"),
        ("```\n[a](src/a.py)\n```", "```\n[a](src/a.py)\n```"),
        ("![plot](benchmarks/crops_per_second.svg)", "![plot](../_pictures/crops_per_second.svg)"),
    ],
)
def test_a_link_leads_to_the_page_that_has_the_file(link, shown):
    assert rewrite(link, TRAIN, PAGE) == shown


@pytest.mark.parametrize("file", [*PAGES, *IMAGES])
def test_files_of_the_site_exist(file):
    assert (ROOT / file).is_file()
    assert (ROOT / "docs" / PAGES.get(file, "conf.py")).is_file()
