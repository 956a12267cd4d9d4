"""What the site needs beyond its pages: pictures of the gallery, links into the checkout, and formulas as MathML.

A page links to files outside `docs/` as they lie in the checkout, so that its links work there too. In the site a
picture of the gallery is copied, a module leads to its entry in the API reference, and any other file is named only.
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
GALLERY = "figures/gallery"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(((?:\.\./)+[^)\s#]*)\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures of the gallery, as `gallery/NAME.png`."""
    for picture in sorted((ROOT / GALLERY).glob("*.png")):
        target = f"gallery/{picture.name}"
        files.append(File.generated(config, target, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave `docs/` into links within the site; raise `FileNotFoundError` for one that leads nowhere."""
    folder = posixpath.dirname(page.file.src_uri)
    documented = _documented(files)

    def rewritten(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, link))
        if path.startswith("docs/"):
            return match.group()
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {link}, which is not in the checkout")
        if path.startswith(GALLERY):
            target = posixpath.relpath(f"gallery/{posixpath.basename(path)}", folder or ".")
            return f"{picture}[{text}]({target})"
        module = re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")
        return f"[{text}][{module}]" if module in documented else text

    return _LINK.sub(rewritten, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, which browsers show without a script."""

    def mathml(match: re.Match[str]) -> str:
        return convert(html.unescape(match.group(2)), display="block" if match.group(1) == "div" else "inline")

    return _FORMULA.sub(mathml, content)


def _documented(files: Files) -> set[str]:
    """Return the modules that have an entry in the API reference."""
    pages: list[Any] = [file for file in files.documentation_pages() if file.src_uri.startswith("reference/")]
    return {name for file in pages for name in re.findall(r"^::: (\S+)", file.content_string, flags=re.M)}
