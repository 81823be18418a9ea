"""The page of a table: as HTML, Markdown, CSV and JSON, with our figures beside the published ones."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from gsplatloc.localization.evaluation import RECALL_THRESHOLDS
from gsplatloc.reproduction.figures import AVERAGE, Cost, Row, averages
from gsplatloc.reproduction.published import Published
from gsplatloc.reproduction.request import Request
from gsplatloc.utils.io import write_json, write_text
from gsplatloc.visualization.style import PAGE, html_table

NONE = "–"
_RECALLS = {name: f"{cm} cm {deg}°" for name, (cm, deg) in RECALL_THRESHOLDS.items()}


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and a table whose first cells name its rows."""

    title: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    ours: int = 0  # number of leading rows that are ours, for emphasis


@dataclass(frozen=True)
class Content:
    """All that the page is made of."""

    request: Request
    rows: Sequence[Row]  # of complete scenes
    costs: Sequence[Cost]
    failures: Mapping[str, str]  # scene -> why it could not be made
    facts: Mapping[str, str]  # machine, versions, settings

    @property
    def scenes(self) -> list[str]:
        return list(dict.fromkeys(row.scene for row in self.rows))


def write_page(content: Content) -> None:
    """Write table.html, table.md, figures.csv, costs.csv and table.json into the output folder.

    figures.csv holds no times: runs that were interrupted end with the same file.
    """
    output, sections = content.request.output, sections_of(content)
    title = content.request.table.title
    write_text(output / "table.md", markdown(title, sections))
    body = "".join(_html(section) for section in sections)
    page = PAGE.replace("{title}", escape(title)).replace("{body}", f"<h1>{escape(title)}</h1>{body}")
    write_text(output / "table.html", page)
    write_text(output / "figures.csv", figures_csv(content))
    write_text(output / "costs.csv", _csv([asdict(cost) for cost in content.costs]))
    write_json(output / "table.json", {
        "table": content.request.name,
        "title": title,
        "figures": [asdict(row) for row in (*content.rows, *averages(content.rows))],
        "published": [asdict(row) for row in content.request.table.published],
        "failures": dict(content.failures),
        "costs": [asdict(cost) for cost in content.costs],
        "facts": dict(content.facts),
    })  # fmt: skip


def sections_of(content: Content) -> list[Section]:
    """The sections of the page, in order."""
    sections = [Section("", tuple(_status(content)))]
    if content.rows:
        sections += [_errors(content), *_recall(content), _scenes(content), _cost(content)]
    sections.append(_sources(content))
    facts = tuple((name, value) for name, value in content.facts.items())
    sections.append(Section("How it was made", (), ("what", "value"), facts))
    return sections


def _status(content: Content) -> list[str]:
    """How much of the table there is: scenes, and the part of the published test split."""
    table = content.request.table
    wanted = list(dict.fromkeys((*content.request.scenes, *content.scenes)))
    missing = [scene for scene in wanted if scene not in content.scenes]
    found = [f"{len(wanted) - len(missing)} of {len(wanted)} scenes are complete."]
    found += [f"{scene}: failed: {reason}" for scene, reason in content.failures.items()]
    if set(content.scenes) != set(table.scenes):
        found.append(
            f"These are {len(content.scenes)} of the {len(table.scenes)} scenes of the published averages:"
            " averages are not comparable."
        )
    parts = [line for scene in content.scenes if (line := _part(content, scene))]
    if parts:
        found.append("Not the published split, so figures are not comparable: " + "; ".join(parts) + ".")
    return [*found, f"Published figures are of {table.split}."]


def _part(content: Content, scene: str) -> str:
    """What of a scene's published images was used; empty if it was all, or if the number is not known."""
    counts = {row.count for row in content.rows if row.scene == scene}
    cost = next(cost for cost in content.costs if cost.scene == scene)
    train, test = content.request.table.data.images.get(scene, (cost.mapping_images, cost.test_images))
    used = f"{max(counts):,} of {test:,} test images" if test and max(counts) != test else ""
    mapped = f"{cost.mapping_images:,} of {train:,} mapping images" if cost.mapping_images != train else ""
    both = " and ".join(part for part in (used, mapped) if part)
    return f"{scene}: {both}" if both else ""


def _errors(content: Content) -> Section:
    """Errors of every method in every scene, published ones below ours."""
    table, rows, scenes = content.request.table, content.rows, content.scenes
    means = {row.label: row for row in averages(rows)}
    share = "" if set(scenes) == set(table.scenes) else f" ({len(scenes)} of {len(table.scenes)} scenes)"
    ours = []
    for label, mean in means.items():
        of = {row.scene: _error(row.cm, row.deg) for row in rows if row.label == label}
        cells = [of.get(scene, NONE) for scene in scenes]
        ours.append((label, *cells, _error(mean.cm, mean.deg) + share))
    theirs = [
        (f"{item.method} (published)", *(_published(item.scenes.get(scene)) for scene in scenes),
         _published(item.average))
        for item in table.published
    ]  # fmt: skip
    tracked = table.evaluation == "track"
    title = "ATE RMSE in cm and mean angle" if tracked else "Median errors in cm and degrees"
    return Section(title, (), ("method", *scenes, AVERAGE), (*ours, *theirs), len(ours))


def _recall(content: Content) -> list[Section]:
    """Shares of queries below each threshold, means over scenes; none for RGB-D."""
    means = averages(content.rows)
    if not any(row.recall for row in means):
        return []
    ours = [(row.label, *(_percent(row.recall[name]) for name in _RECALLS)) for row in means]
    theirs = [
        (f"{item.method} (published)", *(_given(item.recall.get(name)) for name in _RECALLS))
        for item in content.request.table.published if item.recall
    ]  # fmt: skip
    text = "Share of all queries below both thresholds, mean over scenes. A failed query is a miss."
    return [Section("Recall", (text,), ("method", *_RECALLS.values()), (*ours, *theirs), len(ours))]


def _scenes(content: Content) -> Section:
    header = ["scene", "method", "queries", "failed", "median error"]
    recalls = _RECALLS if any(row.recall for row in content.rows) else {}
    rows = tuple(
        (row.scene, row.label, f"{row.count:,}", str(row.failed), _error(row.cm, row.deg),
         *(_percent(row.recall[name]) for name in recalls))
        for row in content.rows
    )  # fmt: skip
    return Section("Every scene", (), (*header, *recalls.values()), rows)


def _cost(content: Content) -> Section:
    header = ("scene", "method", "mapping images", "mapping", "peak memory", "map", "per query",
              "peak memory of localization", "commit")  # fmt: skip
    rows = tuple(
        (cost.scene, cost.method, f"{cost.mapping_images:,}",
         f"{cost.making_minutes:.1f} min" + (f" in {cost.runs} runs" if cost.runs > 1 else ""),
         f"{cost.making_gb:.2f} GB", f"{cost.map_mb:.1f} MB", f"{cost.query_ms:.0f} ms",
         f"{cost.localization_gb:.2f} GB" if cost.localization_gb else NONE, cost.commit)
        for cost in content.costs
    )  # fmt: skip
    text = "The time of runs that were killed is not included. Per query: median, decoding not included."
    return Section("Time, memory and size", (text,), header, rows)


def _sources(content: Content) -> Section:
    rows = tuple((item.method, item.source) for item in content.request.table.published)
    return Section("Sources of the published figures", (), ("method", "source"), rows)


def _error(cm: float, deg: float | None) -> str:
    if math.isinf(cm):
        return "half failed"
    return f"{cm:.2f}" + ("" if deg is None else f" / {deg:.2f}°")


def _published(error: tuple[float, float | None] | None) -> str:
    if error is None:
        return NONE
    return f"{error[0]:g}" + ("" if error[1] is None else f" / {error[1]:g}°")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _given(percent: float | None) -> str:
    return NONE if percent is None else f"{percent:.1f} %"


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The page as Markdown."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}"] if section.title else []
        parts += section.sentences
        if section.rows:
            rows = [_bold(row) if index < section.ours else row for index, row in enumerate(section.rows)]
            lines = [section.header, tuple("---" for _ in section.header), *rows]
            parts.append("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _bold(row: tuple[str, ...]) -> tuple[str, ...]:
    return (f"**{row[0]}**", *row[1:])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _html(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"] if section.title else []
    parts += [f"<p>{escape(sentence)}</p>" for sentence in section.sentences]
    if section.rows:
        table = html_table(section.header, section.rows, final=range(section.ours))
        parts.append(f'<div class="scroll">{table}</div>')
    return f"<section>{''.join(parts)}</section>"


def figures_csv(content: Content) -> str:
    """Every figure with all its digits, ours and published; times are in another file."""
    lines = []
    for row in (*content.rows, *averages(content.rows)):
        lines.append({"scene": row.scene, "method": row.label, "queries": row.count, "failed": row.failed,
                      "cm": row.cm, "deg": row.deg, **_shares(row.recall), "source": ""})  # fmt: skip
    for item in content.request.table.published:
        errors = {**item.scenes, AVERAGE: item.average}
        for scene, error in errors.items():
            lines.append(_published_line(scene, item, error))
    return _csv(lines)


def _shares(recall: Mapping[str, float]) -> dict[str, Any]:
    return {name: recall.get(name, "") for name in _RECALLS}


def _published_line(scene: str, item: Published, error: tuple[float, float | None] | None) -> dict[str, Any]:
    recall = {name: value / 100 for name, value in item.recall.items()} if scene == AVERAGE else {}
    cm, deg = error or ("", "")
    return {"scene": scene, "method": item.method, "queries": "", "failed": "", "cm": cm, "deg": deg,
            **_shares(recall), "source": item.source}  # fmt: skip


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["scene"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
