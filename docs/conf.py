"""How ``make docs`` makes a site of this folder, with Sphinx; what is read fetches nothing."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from subinterp_asgi import __version__

project = "subinterp-asgi"
author = copyright = "subinterp_asgi contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
# Links to headings have to lead somewhere, as those to pages do: each that does not is a warning.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Types are named in annotations that are never evaluated; their names are short enough.
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True

smartquotes = False  # options in texts are to be copied
html_theme = "furo"
html_title = f"subinterp-asgi {version}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}

# Documents above this folder are pages too: what stands in these files is taken from there.
ABOVE = {"CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing", "SECURITY.md": "security"}
ROOT = Path(__file__).parent.parent


def from_above(name: str) -> str:
    """Return a document of the folder above, its links made relative to this one."""
    text = (ROOT / name).read_text("utf-8")
    return re.sub(r"\]\((?![\w+.-]+:|#)(docs/)?", lambda m: "](" + ("" if m[1] else "../"), text)


def setup(app: Sphinx) -> dict[str, bool]:
    def read(app: Sphinx, document: str, source: list[str]) -> None:
        for name, page in ABOVE.items():
            if document == page:
                source[0] = from_above(name)
        up = "../" * document.count("/")
        for name, page in {**ABOVE, "README.md": "index"}.items():
            source[0] = source[0].replace(f"]({up}../{name}", f"]({up}{page}.md")
        # All else that lies above comes with the site, to be read as the file that it is.
        source[0] = source[0].replace(f"]({up}../", f"](path:{up}../")

    def shorten(*documented: str | object) -> tuple[str, str] | None:
        """Say of a default that is made by a function what it is."""
        signature, returned = documented[-2:]
        if isinstance(signature, str) and "<built-in function monotonic>" in signature:
            return signature.replace("<built-in function monotonic>", "now"), returned or ""
        return None

    app.connect("source-read", read)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True}
