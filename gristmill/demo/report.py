"""The demo's report: a directory with one page and the pictures that it shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final, cast

from gristmill.demo.chapter import Chapter, Table
from gristmill.demo.pictures import STYLE

PAGE: Final = "index.html"

TITLE: Final = "What moves the CO2 in the air over Mauna Loa?"

LEGEND: Final = (
    "Kernels: time in them, all jobs together. Queue: median time from submission to start; many "
    "jobs are submitted at once. Jobs as small as these spend more time in the queue and in "
    "messages than in kernels."
)

OPENING: Final = (
    "Gristmill carries numeric jobs over a message queue to workers that compute them in C, or "
    "in NumPy where no C is loaded. Here its four families of operations work on three records "
    "of the Earth and the Sun: CO2 over Mauna Loa, the sea's temperature in the tropical "
    "Pacific, and the spots on the Sun."
)

#: The sources in short; `data/SOURCES.md` has them in full.
SOURCES: Final = (
    (
        "CO2 by week, 1958 to 2001: Carbon Dioxide Research Group, Scripps Institution of "
        "Oceanography (Keeling and Whorf 2004), by way of CDIAC, U.S. Department of Energy."
    ),
    (
        "Sunspot numbers by month, 1749 to 2008: National Geophysical Data Center, NOAA (classical "
        "numbers, before their revision of 2015)."
    ),
    (
        "Sea surface temperature in the region Niño 3.4 by month, 1950 to 2010: Climate Prediction "
        "Center, NOAA (ERSST version 3b)."
    ),
    "All three are in the public domain; gristmill/demo/data/SOURCES.md says how they came here.",
)

_STYLE: Final = """
:root { color-scheme: light; }
body { margin: 0; background: #f8fafc; color: #1f2937; font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .5rem; }
section { background: #fff; border: 1px solid #e5e7eb; border-radius: .6rem; }
section { margin-top: 1.5rem; padding: 1.25rem 1.5rem; }
.operation { color: #0f766e; font: 600 .85rem ui-monospace, monospace; margin: 0 0 .25rem; }
.work, figcaption { color: #4b5563; font-size: .9rem; }
figure { margin: 1.25rem 0; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .75rem 0; width: 100%; }
caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { border-bottom: 1px solid #e5e7eb; padding: .3rem .6rem; }
th, td { text-align: right; vertical-align: bottom; }
th { color: #4b5563; font-weight: 600; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
code { background: #f1f5f9; border-radius: .3rem; padding: .15rem .4rem; }
dt { margin-top: .75rem; }
dd { margin: .15rem 0 0 0; color: #4b5563; }
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page tells."""

    chapters: Sequence[Chapter]
    #: How the jobs of each operation were computed, and what they cost.
    accounts: Table
    #: What this was run on, in sentences.
    machine: str
    #: The answer to the title's question, in sentences.
    answer: str
    #: Commands to try next, each with what it does.
    next_steps: Sequence[tuple[str, str]]


def write(directory: Path, report: Report) -> Path:
    """Draw the pictures and write the page into `directory`; return the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    for chapter in report.chapters:
        _draw(chapter, directory)
    page = directory / PAGE
    page.write_text("\n".join(_page(report)) + "\n", encoding="utf-8")
    return page.resolve()


def _draw(chapter: Chapter, directory: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, STYLE))
        for picture in chapter.pictures:
            figure = Figure(figsize=picture.size)
            picture.draw(figure)
            figure.supxlabel(picture.source, x=0.99, ha="right", fontsize=7, color="0.45")
            figure.savefig(directory / f"{picture.name}.png")


def _page(report: Report) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f"<title>{TITLE}</title>"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{TITLE}</h1>"
    yield f"<p>{OPENING}</p>"
    yield f"<p><strong>In short.</strong> {escape(report.answer)}</p>"
    for chapter in report.chapters:
        yield from _section(chapter)
    yield "<section>\n<h2>How it was computed</h2>"
    yield f"<p>{escape(report.machine)}</p>"
    yield f"<p class=work>{LEGEND}</p>"
    yield from _html_table(report.accounts)
    yield "</section>\n<section>\n<h2>The data</h2>"
    yield from (f"<p>{escape(source)}</p>" for source in SOURCES)
    yield "</section>\n<section>\n<h2>What to try next</h2>\n<dl>"
    for command, what in report.next_steps:
        yield f"<dt><code>{escape(command)}</code></dt><dd>{escape(what)}</dd>"
    yield "</dl>\n</section>\n</main>\n</body>\n</html>"


def _section(chapter: Chapter) -> Iterator[str]:
    yield f"<section>\n<p class=operation>{chapter.operation}</p>"
    yield f"<h2>{escape(chapter.question)}</h2>"
    yield "<ul>"
    yield from (f"<li>{escape(finding)}</li>" for finding in chapter.findings)
    yield "</ul>"
    for picture in chapter.pictures:
        caption = escape(picture.caption)
        yield f'<figure>\n<img src="{picture.name}.png" alt="{caption}">'
        yield f"<figcaption>{caption}</figcaption>\n</figure>"
    yield from _html_table(chapter.table)
    yield f"<p class=work>{escape(chapter.work)}</p>\n</section>"


def _html_table(table: Table) -> Iterator[str]:
    yield f"<div class=table><table>\n<caption>{escape(table.title)}</caption>"
    yield f"<thead><tr>{_cells('th', table.columns)}</tr></thead>\n<tbody>"
    yield from (f"<tr>{_cells('td', row)}</tr>" for row in table.rows)
    yield "</tbody>\n</table></div>"


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
