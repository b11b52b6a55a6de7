"""The documents as a site, by Sphinx: make site."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import lookalike

project = "lookalike"
copyright = "the lookalike authors, Apache-2.0"
version = release = lookalike.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"lookalike {version}"
html_show_sphinx = False
html_copy_source = False

# Links to sources outside docs/ stay names; docstrings are written for `help()`, with single ticks.
suppress_warnings = ["myst.xref_missing", "myst.header"]
myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "inherited-members": "Exception,tuple"}
autodoc_preserve_defaults = True
