"""The profile as one HTML file: a plot per column as inline SVG, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape

from sundog.profile import ColumnProfile, Profile
from sundog.tables import cell_text

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #68707c; --paper: #ffffff; --card: #f5f6f8; --bar: #d97706; --bad: #b42318 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --dim: #9aa3af; --paper: #14171a; --card: #1e2226; --bar: #f0a43a; --bad: #ff8a7a }
}
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere }
.dim { color: var(--dim) } .bad { color: var(--bad); font-weight: 600 }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 14px; margin-top: 1.5rem }
.card { background: var(--card); border-radius: 10px; padding: 14px }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 8px; margin: 8px 0 0; font-variant-numeric: tabular-nums }
dt { color: var(--dim) } dd { margin: 0; text-align: right; overflow: hidden; text-overflow: ellipsis }
svg { width: 100%; height: 90px; margin-top: 8px } rect { fill: var(--bar) } rect.back { fill: var(--dim); opacity: .18 }
text { fill: var(--ink); font-size: 10px } text.end { text-anchor: end; fill: var(--dim) }
"""
_WIDTH, _HEIGHT = 260, 90


def page(profile: Profile) -> str:
    """The whole page. Every text from the data is escaped."""
    warnings = "".join(f'<p class="bad">{escape(w)}</p>' for w in profile.warnings)
    classes = ""
    if profile.classes:
        bars = _bars([(f"{v}: {n:,}", n) for v, n in profile.classes.items()], profile.rows)
        classes = f'<div class="card" style="max-width:420px"><h2>Label {escape(profile.label)}</h2>{bars}</div>'
    cards = "".join(_card(column, profile.rows) for column in profile.columns)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(profile.dataset)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(profile.dataset)}</h1>"
        f'<p class="dim">{profile.rows:,} rows × {len(profile.columns)} columns · {profile.duplicate_rows:,} duplicate rows</p>'
        f'{warnings}{classes}<div class="grid">{cards}</div></body></html>\n'
    )


def _card(column: ColumnProfile, rows: int) -> str:
    missing = f"{column.missing:,}" + (f" ({100 * column.missing / rows:.1f} %)" if rows and column.missing else "")
    facts: list[tuple[str, str]] = [("missing", missing), ("distinct", f"{column.distinct:,}")]
    for name, value in (("min", column.min), ("max", column.max), ("mean", column.mean), ("std", column.std)):
        if value is not None:
            facts.append((name, cell_text(value)))
    for key, name in (("0.25", "25 %"), ("0.5", "median"), ("0.75", "75 %")):
        if key in column.quantiles:
            facts.append((name, cell_text(column.quantiles[key])))
    if column.label_auc is not None:
        facts.append(("label AUC", f"{column.label_auc:.3f}"))
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts)
    remarks = f'<div class="bad">{escape(column.remarks)}</div>' if column.remarks else ""
    return (
        f'<div class="card"><h2>{escape(column.name)} <span class="dim">{escape(column.type)}</span></h2>'
        f"{remarks}{plot(column, rows)}<dl>{listed}</dl></div>"
    )


def plot(column: ColumnProfile, rows: int) -> str:
    """A histogram of a numeric column, the most frequent values of another; "" if there is neither."""
    if column.counts and len(column.edges) == len(column.counts) + 1:
        return _histogram(column)
    return _bars([(f"{v}: {n:,}", n) for v, n in column.top[:5]], rows) if column.top else ""


def _histogram(column: ColumnProfile) -> str:
    highest = max(column.counts) or 1
    step = _WIDTH / len(column.counts)
    low, high = cell_text(float(column.edges[0])), cell_text(float(column.edges[-1]))
    bars = []
    for index, count in enumerate(column.counts):
        height = (_HEIGHT - 16) * count / highest
        edges = f"{cell_text(float(column.edges[index]))} to {cell_text(float(column.edges[index + 1]))}"
        bars.append(
            f'<rect x="{index * step:.1f}" y="{_HEIGHT - 14 - height:.1f}" width="{max(0.5, step - 1):.1f}" '
            f'height="{height:.1f}"><title>{escape(edges)}: {count:,}</title></rect>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of {escape(column.name)}">{"".join(bars)}'
        f'<text x="0" y="{_HEIGHT - 2}">{escape(low)}</text><text class="end" x="{_WIDTH}" y="{_HEIGHT - 2}">{escape(high)}</text></svg>'
    )


def _bars(values: list[tuple[str, int]], rows: int) -> str:
    if not values:
        return ""
    total = rows or sum(n for _, n in values) or 1
    step = _HEIGHT / max(3, len(values))
    lines = []
    for index, (text, count) in enumerate(values[:5]):
        y = index * step
        lines.append(
            f'<rect class="back" x="0" y="{y:.1f}" width="{_WIDTH}" height="{step - 3:.1f}"/>'
            f'<rect x="0" y="{y:.1f}" width="{_WIDTH * min(1.0, count / total):.1f}" height="{step - 3:.1f}" opacity=".75"/>'
            f'<text x="4" y="{y + step / 2 + 2:.1f}">{escape(text[:48])}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(lines)}</svg>'
