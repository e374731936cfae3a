"""Settings of the documentation site: `python -m sphinx -W docs build/docs`.

All that a page needs lies beside it: no fonts, scripts or styles of other servers.
"""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "lenet_jax"
author = "the lenet_jax authors"
version = release = metadata.version("lenet-jax")
copyright = "the lenet_jax authors, Apache License 2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "repository_files",
    "docstrings",
    "command_pages",
    "component_pages",
]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}  # repository_files makes Markdown of a notebook
exclude_patterns = ["_extensions", "_static", "**.ipynb_checkpoints"]

html_theme = "furo"
html_title = "lenet_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

highlight_language = "text"
default_role = "code"  # docstrings have `name` for code
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False
maximum_signature_line_length = 88
nitpicky = False  # the types of JAX and NumPy are documented elsewhere, and no network is asked for them
