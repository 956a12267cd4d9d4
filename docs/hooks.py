"""What the site needs beyond its pages: pictures of the gallery, links into the checkout, the API reference, formulas.

A page links to files outside `docs/` as they lie in the checkout, so that its links work there too. In the site a
picture of the gallery is copied, a module leads to its entry in the API reference, and any other file is named only.
"""

import html
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
GALLERY = "figures/gallery"
EXPLORER = "course/explorer/explorer.html"
_MODULES = re.compile(r"<!-- modules: (.+?) -->")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(((?:\.\./)+[^)\s#]*)\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures of the gallery, as `gallery/NAME.png`, and the explorer under its name in the checkout."""
    files.append(File.generated(config, EXPLORER, abs_src_path=str(ROOT / EXPLORER)))
    for picture in sorted((ROOT / GALLERY).glob("*.png")):
        files.append(File.generated(config, f"gallery/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """List the modules of a reference page, and turn links that leave `docs/` into links within the site."""
    folder = posixpath.dirname(page.file.src_uri)
    markdown = _MODULES.sub(lambda match: "\n\n".join(map(_entry, modules(match[1]))), markdown)
    return _LINK.sub(lambda match: _within_the_site(match, folder), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers show without a script."""

    def mathml(match: re.Match[str]) -> str:
        formula = re.sub(r"\\(log|arcsin) ", r"\\\1\\, ", html.unescape(match[2]))  # the space that TeX would leave
        return convert(formula, display="block" if match[1] == "div" else "inline")

    return _FORMULA.sub(mathml, content)


def modules(names: str) -> list[str]:
    """Return the named modules; of a package also every module in it. Raises `FileNotFoundError` for unknown names."""
    found = []
    for name in names.split():
        place = ROOT.joinpath(*name.split("."))
        files = sorted(place.rglob("*.py"), key=lambda file: (file.parent, file.name)) or [place.with_suffix(".py")]
        if not files[0].exists():
            raise FileNotFoundError(f"the API reference lists {name}, which is not in the checkout")
        found += [_module(file.relative_to(ROOT).as_posix()) for file in files]
    return found


def _entry(module: str) -> str:
    is_package = ROOT.joinpath(*module.split(".")).is_dir()
    return f"::: {module}" + ("\n    options:\n      members: false" if is_package else "")


def _within_the_site(match: re.Match[str], folder: str) -> str:
    """Return a link to what it means in the site; raise `FileNotFoundError` for one that leads nowhere."""
    picture, text, link = match.groups()
    path = posixpath.normpath(posixpath.join("docs", folder, link))
    if path.startswith("docs/"):
        return match.group()
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"a page in {folder or 'docs'} links to {link}, which is not in the checkout")
    if path == EXPLORER:
        return f"[{text}]({posixpath.relpath(EXPLORER, folder or '.')})"
    if path.startswith(GALLERY):
        return f"{picture}[{text}]({posixpath.relpath('gallery/' + posixpath.basename(path), folder or '.')})"
    return f"[{text}][{_module(path)}]" if _module(path) in _documented() else text


@cache
def _documented() -> frozenset[str]:
    pages = (page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    return frozenset(module for page in pages for names in _MODULES.findall(page) for module in modules(names))


def _module(path: str) -> str:
    return re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")
