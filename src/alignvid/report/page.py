"""The HTML page that plays the videos of each row in step: one file beside its videos, opened from disk."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, Template

from alignvid.fields import mended
from alignvid.files import write_bytes

PAGE_FILE = "index.html"
PIXEL_ART_BELOW = 160
"""Clips narrower than this are shown with hard pixel edges, several times their size."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one clip."""

    text: str
    """A few words."""
    is_good: bool
    """Whether it is what the prompt asked for."""
    detail: str = ""
    """Why, in a sentence."""


@dataclass(frozen=True)
class Clip:
    """A video or an image in a row."""

    label: str
    """What it is, such as "baseline"."""
    file: str
    """Path relative to the page."""
    width: int
    height: int
    verdicts: tuple[Verdict, ...] = ()
    is_reference: bool = False
    """Whether it is what the model was given, and not what it made."""

    @property
    def url(self) -> str:
        """The path as a relative link."""
        return relative_url(self.file)

    @property
    def is_image(self) -> bool:
        """Whether it stands still."""
        return self.file.endswith(".png")

    @property
    def is_pixel_art(self) -> bool:
        """Whether smoothing would blur it beyond recognition."""
        return self.height < PIXEL_ART_BELOW

    @property
    def aspect(self) -> float:
        """Width by height."""
        return self.width / self.height


@dataclass(frozen=True)
class Link:
    """A file beside the page: another page, or something to keep."""

    text: str
    file: str
    """Path relative to the page."""
    is_download: bool = False

    @property
    def url(self) -> str:
        """The path as a relative link."""
        return relative_url(self.file)


@dataclass(frozen=True)
class Row:
    """One generation."""

    id: str
    prompt: str
    clips: tuple[Clip, ...]
    fps: float
    facts: tuple[tuple[str, str], ...] = ()
    """Small print: pairs of a name and a value."""
    notes: tuple[str, ...] = ()
    """Warnings."""
    error: str | None = None
    """Why there are no clips."""
    record_file: str | None = None
    """Path of the record, relative to the page."""
    is_large: bool = False
    """Whether its clips have details to be read: shown larger, and loaded at once, so that a print has them."""
    links: tuple[Link, ...] = ()
    """Its own pages, and files to keep."""

    @property
    def is_pair(self) -> bool:
        """Whether there are clips to compare, which stand side by side on the narrowest screen, too."""
        return sum(not clip.is_reference for clip in self.clips) > 1

    @property
    def has_video(self) -> bool:
        """Whether anything in it can be played."""
        return not all(clip.is_image for clip in self.clips)


@dataclass(frozen=True)
class Count:
    """A number in the header."""

    label: str
    value: str


@dataclass(frozen=True)
class Panel:
    """One picture of a plot."""

    title: str
    svg: str
    """An SVG element; the only text that is not escaped."""


@dataclass(frozen=True)
class Plot:
    """Figures of one thing, below the rows: side by side where there is room."""

    id: str
    title: str
    panels: tuple[Panel, ...]
    lead: str = ""
    """How to read it, in a sentence or two."""


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    lead: str
    """A sentence or two on what is seen."""
    rows: tuple[Row, ...]
    counts: tuple[Count, ...] = ()
    plots: tuple[Plot, ...] = ()
    links: tuple[Link, ...] = ()
    """Other pages on the same videos."""


def write_page(folder: Path, page: Page) -> Path:
    """Write the page as index.html into the folder that its clips are relative to, and return its path."""
    path = folder / PAGE_FILE
    write_bytes(path, render_page(page).encode())
    return path


def render_page(page: Page) -> str:
    """The page as HTML. Every text in it is escaped: a prompt with tags is shown, not run."""
    html = template("page.html.jinja").render(
        page=page, style=part("page.css"), script=part("player.js") + part("page.js")
    )
    return mended(html)


def relative_url(file: str) -> str:
    """A path relative to the page, as a link."""
    return "/".join(quote(part) for part in Path(file).parts)


def template(name: str) -> Template:
    """One of this folder's templates; what it is filled with is escaped unless it says otherwise."""
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(part(name))


def part(name: str) -> str:
    """A file of this folder, to be put into a page."""
    return (files("alignvid.report") / name).read_text(encoding="utf-8")
