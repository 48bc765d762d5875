"""A notebook as one page of HTML that needs nothing else: no script, no font, no address to fetch.

nbconvert does the work. Its own templates load MathJax from the network; here formulas are drawn by matplotlib, which
sets most of TeX's mathematics, and stand in the page as small vector pictures with their source for those who cannot
see them.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from motorec.errors import MotorecError
from motorec.reporting.tables import of_numbers

POINTS = 10.0  # the size that formulas are drawn at; on the page they grow with the letters around them
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Way:
    """A link in the line above a page; `here` is the page itself."""

    text: str
    href: str
    here: bool = False


class _Renderer(IPythonRenderer):
    """Markdown to HTML with drawn formulas, and with links that lead to pages."""

    def __init__(self, follow: Callable[[str], str]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self._follow = follow

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, self._follow(url), title)

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        return f'<span class="display" style="display: block">{formula(body, display=True)}</span>'


@cache
def formula(tex: str, display: bool = False) -> str:
    """A formula as an `img` element, sized in the letters around it and standing on their line.

    Args:
        tex: TeX without dollars, as matplotlib's mathtext knows it.
        display: Whether it stands alone: its fractions are larger then.

    Raises:
        MotorecError: Mathtext does not know a command.
    """
    source = " ".join(tex.split())
    # Mathtext has no display style of its own.
    drawn = f"${source.replace(chr(92) + 'frac', chr(92) + 'dfrac') if display else source}$"
    with rc_context({"mathtext.fontset": "cm", "svg.fonttype": "path", "svg.hashsalt": "formula"}):
        font = FontProperties(size=POINTS)
        try:
            width, height, depth, *_ = MathTextParser("path").parse(drawn, dpi=72, prop=font)
        except ValueError as error:
            raise MotorecError(
                f"matplotlib cannot set the formula {source!r}: {str(error).splitlines()[-1]}. Write it in the part of "
                "TeX that https://matplotlib.org/stable/users/explain/text/mathtext.html lists."
            ) from None
        figure = Figure(figsize=(width / 72, height / 72))
        figure.text(0, depth / height, drawn, fontproperties=font)
        content = io.BytesIO()
        figure.savefig(content, format="svg", transparent=True, metadata=NO_METADATA)
    picture = base64.b64encode(content.getvalue()).decode("ascii")
    place = f"height: {height / POINTS:.3f}em; vertical-align: {-depth / POINTS:.3f}em"
    return f'<img class="math" alt="{escape(source)}" style="{place}" src="data:image/svg+xml;base64,{picture}">'


class Writer:
    """Turns notebooks into pages; one for many pages, since a template takes a while to read."""

    def __init__(self) -> None:
        templates = Path(__file__).parent / "templates"
        self._exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(templates)])

    def page(
        self,
        notebook: NotebookNode,
        title: str,
        about: str = "",
        ways: Sequence[Way] = (),
        follow: Callable[[str], str] = lambda url: url,
    ) -> str:
        """One page.

        Args:
            notebook: Executed; it is not changed.
            title: For the window's bar.
            about: What the page is of, for the line above its heading.
            ways: The line of links above it.
            follow: Where a link of its text leads, given where it leads in the notebook.

        Raises:
            MotorecError: A formula cannot be drawn.
        """

        def markdown(source: str) -> str:
            return MarkdownWithMath(renderer=_Renderer(follow)).render(source)

        self._exporter.register_filter("markdown2html", markdown)
        shown = {"page": {"title": title, "about": about, "ways": ways}}
        html, _ = self._exporter.from_notebook_node(_readable(notebook), shown)
        return str(html)


def _readable(notebook: NotebookNode) -> NotebookNode:
    """The notebook as a reader wants it.

    Default parameters are left out where others were given, each picture is named by the heading above it, and the
    columns of words of each data frame are marked.
    """
    cells, heading = [], ""
    injected = any("injected-parameters" in cell["metadata"].get("tags", []) for cell in notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            headings = [line.lstrip("# ") for line in cell["source"].splitlines() if line.startswith("#")]
            heading = headings[-1] if headings else heading
        elif injected and "parameters" in cell["metadata"].get("tags", []):
            continue
        outputs = [_shown(output, heading) for output in cell.get("outputs", [])]
        cells.append(NotebookNode(cell, outputs=outputs) if outputs else cell)
    return NotebookNode(notebook, cells=cells)


def _shown(output: NotebookNode, heading: str) -> NotebookNode:
    """An output of a cell below a heading."""
    data = output.get("data", {})
    if "image/png" in data:
        return NotebookNode(output, metadata=NotebookNode(output.get("metadata", {}), alt=heading))
    if 'class="dataframe"' in data.get("text/html", ""):
        return NotebookNode(output, data=NotebookNode({**data, "text/html": with_words_marked(data["text/html"])}))
    return output


def with_words_marked(frame: str) -> str:
    """A data frame, as pandas writes it in HTML, with the class `words` on its columns that do not hold numbers."""
    rows = re.compile(r"<tr.*?</tr>", re.DOTALL)
    values = [re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for row in rows.findall(frame)]
    columns = zip(*[row for row in values if row], strict=True)
    words = [not of_numbers(map(unescape, column)) for column in columns]

    def mark(row: re.Match[str]) -> str:
        start, *cells = re.split(r"(?=<t[hd]\b)", row[0])
        index = len(cells) - len(words)  # cells of the index come first
        if index < 0:  # headings that span columns
            return row[0]
        marked = [
            cell.replace(">", ' class="words">', 1) if word else cell
            for cell, word in zip(cells[index:], words, strict=True)
        ]
        return "".join([start, *cells[:index], *marked])

    return rows.sub(mark, frame)
