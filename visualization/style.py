"""HTML, CSS and script of the reports; light or dark according to the reader's settings."""

from collections.abc import Container, Iterable, Sequence
from html import escape


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    kind: str = "",
    final: Container[int] = (),
    links: bool = False,
    minor: Container[str] = (),
) -> str:
    """A table in HTML of the class `kind`; the rows whose numbers are in `final` are emphasised.

    Cells are escaped. With `links` the first cell of each row is HTML already. A narrow screen does not show
    the columns named in `minor`.
    """
    classes = [" class=minor" if name in minor else "" for name in header]
    head = "".join(f"<th{column}>{escape(name)}</th>" for column, name in zip(classes, header, strict=True))
    lines = []
    for number, row in enumerate(rows):
        cells = [cell if links and not index else escape(cell) for index, cell in enumerate(row)]
        emphasis = " class=final" if number in final else ""
        row_cells = (f"<td{column}>{cell}</td>" for column, cell in zip(classes, cells, strict=True))
        lines.append(f"<tr{emphasis}>{''.join(row_cells)}</tr>")
    attribute = f" class='{kind}'" if kind else ""
    return f"<table{attribute}><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --ink: #1c2128; --muted: #656d76; --paper: #f6f7f9; --card: #fff;
  --line: #d8dee4; --accent: #2f81f7; --bad: #cf222e; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --muted: #8d96a0; --paper: #0f1216;
  --card: #171b21; --line: #2b313a; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 76rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .8rem; font-size: 1.15rem; }
p { margin: .3rem 0 1rem; color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .9rem; }
.cards div { padding: 1rem 1.2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.cards b { display: block; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.cards span { color: var(--muted); font-size: .85rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .55rem 1rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--muted); font-weight: 500; font-size: .85rem; }
td { border-top: 1px solid var(--line); }
.sortable th { cursor: pointer; user-select: none; }
.sortable th[data-order="1"]::after { content: " ▲"; }
.sortable th[data-order="-1"]::after { content: " ▼"; }
.queries td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
.queries small { display: block; max-width: 34rem; color: var(--muted); }
.final td { font-weight: 650; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: .9rem; }
.plots figure { padding: .9rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
figure { margin: 0 0 .9rem; }
.plots figure { margin: 0; max-width: 40rem; }
.plan figure { max-width: 48rem; }
.query { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.panels { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2px; }
.panels figure { position: relative; margin: 0; }
.panels img { border-radius: 0; max-height: 30rem; object-fit: contain; background: #14171c; }
.panels figcaption { position: absolute; top: .5rem; left: .5rem; padding: .1rem .5rem; border-radius: 5px;
  color: #fff; background: #0009; font-size: .8rem; }
.query > figcaption { display: flex; flex-wrap: wrap; gap: .1rem .8rem; padding: .6rem 1rem; }
.query b { font-weight: 600; overflow-wrap: anywhere; }
.query i { color: var(--muted); font-style: normal; }
.query span { margin-left: auto; font-variant-numeric: tabular-nums; }
.query:not(.ok) span { color: var(--bad); }
svg { display: block; width: 100%; height: auto; color: var(--ink); }
img { display: block; width: 100%; height: auto; border-radius: 10px; }
.long { max-height: 34rem; overflow-y: auto; }
.page { display: none; }
.page:target { display: block; position: fixed; inset: 0; overflow: auto; background: var(--paper);
  padding: 1.5rem max(1.5rem, calc(50vw - 36.5rem)); }
.page h2 { margin-top: 1.2rem; overflow-wrap: anywhere; }
a { color: var(--accent); text-decoration: none; }
@page { margin: 1.2cm; }
@media print { body { max-width: none; padding: 0; background: #fff; font-size: 12px; }
  figure, tr, p, .cards { break-inside: avoid; } footer { margin-top: 1rem; }
  h2, h2 + p { break-after: avoid; } h2 { margin-top: 1.4rem; }
  .cards { grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); } .cards div { padding: .5rem .7rem; }
  .cards b { font-size: 1.1rem; } .plots { grid-template-columns: 1fr 1fr; } .plan figure { max-width: 60%; }
  .page:target { position: static; } .scroll { overflow: visible; max-height: none; }
  table { font-size: 11px; } th, td { padding: .2rem .4rem; } .panels { print-color-adjust: exact; } }
@media screen and (max-width: 40rem) { body { padding: 1.2rem .8rem 3rem; } th, td { padding: .45rem .6rem; }
  .plots { grid-template-columns: 1fr; } .cards { gap: .6rem; } .cards div { padding: .7rem .8rem; }
  .cards b { font-size: 1.3rem; } .scroll th:first-child, .scroll td:first-child { position: sticky; left: 0;
    background: var(--card); }
  .panels { grid-auto-flow: column; grid-template-columns: none; grid-auto-columns: 88%; overflow-x: auto;
    scroll-snap-type: x mandatory; } .panels figure { scroll-snap-align: center; }
  .query span { margin-left: 0; flex-basis: 100%; } .page { padding: 1rem .8rem; }
  .queries { font-size: .82rem; } .queries small, .minor { display: none; }
  .queries td:first-child { min-width: 7rem; } .queries :is(th, td) { padding: .45rem .4rem; } }
footer { margin-top: 3rem; color: var(--muted); font-size: .85rem; }
</style>
</head>
<body>
{body}
</body>
</html>
"""

# Appended to the body: a click on a column's head sorts the rows of its table, by the first number in each
# cell or by text. Without scripts, tables keep their order.
SORTABLE = """
<script>
for (const table of document.querySelectorAll("table.sortable"))
  table.tHead.addEventListener("click", ({target}) => {
    const head = target.closest("th"), order = head.dataset.order === "1" ? -1 : 1;
    for (const other of table.tHead.rows[0].cells) delete other.dataset.order;
    head.dataset.order = order;
    const key = row => {
      const text = row.cells[head.cellIndex].textContent;
      const number = head.cellIndex > 0 && text.match(/-?\\d+(\\.\\d+)?(e-?\\d+)?/);
      return number ? [0, parseFloat(number[0])] : [text ? 1 : 2, text];
    };
    const compare = (a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0);
    const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
    rows.sort((a, b) => order * compare(a[0], b[0]));
    table.tBodies[0].append(...rows.map(pair => pair[1]));
  });
</script>
"""
