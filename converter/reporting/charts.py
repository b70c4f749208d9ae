"""The charts of a report, as SVG that takes its colours from the page around it.

Everything is drawn from values alone: no clock, no randomness, so that equal reports have equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from converter.reporting.scales import Scale, scale_of

__all__ = ["Bar", "Point", "bar_chart", "confusion_chart", "scatter_chart"]

_WIDTH, _HEIGHT = 720.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 76.0, 24.0, 20.0, 52.0
_LETTER = 6.4
"""About the width of a letter of a label."""
_LINE = 14.0
_BETWEEN_TICKS = 62.0
_ROW = 22.0
_CELL = 34.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A variant in a chart of quality against a price."""

    name: str
    x: float
    y: float
    low: float
    high: float
    kind: str
    """Its runtime, by which it is coloured."""
    dropped: bool
    """Not in the package, or failed: drawn hollow."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A row of a bar chart."""

    name: str
    value: float
    text: str
    strong: bool = False


def scatter_chart(
    points: Sequence[Point],
    *,
    x_name: str,
    y_name: str,
    x_text: Callable[[float], str],
    lines: Sequence[tuple[str, float]] = (),
    up: bool = True,
) -> Markup:
    """Quality (up) against size or latency (right), with intervals and the front drawn.

    Args:
        points: What to draw; none gives an empty chart that says so.
        x_name: What the price is.
        y_name: What the quality is.
        x_text: Prices as the axis names them.
        lines: Qualities to draw a line at, by name, such as the source's and the budget's.
        up: Whether more of the quality is better.
    """
    if not points:
        return _svg(
            _WIDTH, 48.0, [_text(_WIDTH / 2, 28, "nothing was measured here", "label middle")], y_name
        )
    x = scale_of((point.x for point in points), start=_LEFT, end=_WIDTH - _RIGHT, may_be_logarithmic=True)
    heights = [value for point in points for value in (point.low, point.high)] + [value for _, value in lines]
    y = scale_of(heights, start=_HEIGHT - _BOTTOM, end=_TOP)
    parts = [*_frame(x, y, x_name, y_name, x_text), *_lines(lines, y), _front(points, x, y, up=up)]
    parts += [_mark(point, x, y) for point in points]
    parts += _labels(points, x, y)
    return _svg(_WIDTH, _HEIGHT, parts, f"{y_name} against {x_name}")


def bar_chart(bars: Sequence[Bar], *, name: str) -> Markup:
    """Horizontal bars, from the first down; values are not negative."""
    left = min(330.0, max((len(bar.name) for bar in bars), default=0) * _LETTER + 16)
    most = max((bar.value for bar in bars), default=0.0) or 1.0
    room = _WIDTH - left - 110
    parts: list[Markup] = []
    for row, bar in enumerate(bars):
        top = row * _ROW + 4
        length = max(1.0, bar.value / most * room)
        shown = bar.name if len(bar.name) * _LETTER <= left else f"…{bar.name[-int(left / _LETTER) + 2 :]}"
        parts += [
            _text(left - 8, top + 12, shown, "label end"),
            Markup(
                '<rect class="bar{}" x="{}" y="{}" width="{}" height="14" rx="2"><title>{}</title></rect>'
            ).format(
                " strong" if bar.strong else "", _n(left), _n(top), _n(length), f"{bar.name}: {bar.text}"
            ),
            _text(left + length + 6, top + 12, bar.text, "label"),
        ]
    return _svg(_WIDTH, len(bars) * _ROW + 8, parts, name)


def confusion_chart(labels: Sequence[str], counts: Sequence[Sequence[int]], *, name: str) -> Markup:
    """What the source answered (rows) against what a variant answered (columns)."""
    left = 16 + max(len(label) for label in labels) * _LETTER
    most = max(
        (count for row, line in enumerate(counts) for column, count in enumerate(line) if row != column),
        default=0,
    )
    parts: list[Markup] = []
    for row, line in enumerate(counts):
        parts.append(_text(left - 8, row * _CELL + _CELL * 0.6 + 28, labels[row], "label end"))
        parts.append(_text(left + row * _CELL + _CELL / 2, 18, labels[row], "label middle"))
        for column, count in enumerate(line):
            same = row == column
            strength = 0.0 if same or not most else 0.25 + 0.75 * count / most
            shade = "same" if same else "moved" if count else "none"
            parts.append(
                Markup(
                    '<rect class="cell {}" style="--strength:{}" x="{}" y="{}" width="{}" height="{}">'
                    "<title>source {}, variant {}: {}</title></rect>"
                ).format(
                    shade,
                    f"{strength:.2f}",
                    _n(left + column * _CELL),
                    _n(row * _CELL + 28),
                    _n(_CELL - 2),
                    _n(_CELL - 2),
                    labels[row],
                    labels[column],
                    count,
                )
            )
            if count:
                middle = left + column * _CELL + _CELL / 2 - 1
                parts.append(
                    _text(middle, row * _CELL + _CELL * 0.6 + 28, str(count), f"label middle {shade}")
                )
    side = len(labels) * _CELL
    return _svg(left + side + 8, side + 36, parts, name)


def _frame(x: Scale, y: Scale, x_name: str, y_name: str, x_text: Callable[[float], str]) -> Iterable[Markup]:
    for tick in y.ticks:
        yield _line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "grid")
        yield _text(_LEFT - 8, y(tick) + 4, f"{tick:.10g}", "tick end")
    for tick in _apart(x):
        yield _line(x(tick), _TOP, x(tick), _HEIGHT - _BOTTOM, "grid")
        yield _text(x(tick), _HEIGHT - _BOTTOM + 18, x_text(tick), "tick middle")
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x_name, "axis middle")
    yield Markup('<text class="axis middle" transform="translate(16 {}) rotate(-90)">{}</text>').format(
        _n((_TOP + _HEIGHT - _BOTTOM) / 2), y_name
    )


def _apart(scale: Scale) -> Iterable[float]:
    """The ticks that have room for their text."""
    last = -1e9
    for tick in scale.ticks:
        if scale(tick) - last >= _BETWEEN_TICKS:
            last = scale(tick)
            yield tick


def _lines(lines: Sequence[tuple[str, float]], y: Scale) -> Iterable[Markup]:
    for name, value in lines:
        yield _line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), f"limit {name}")
        yield _text(_LEFT + 5, y(value) - 5, name, "tick")


def _front(points: Sequence[Point], x: Scale, y: Scale, *, up: bool) -> Markup:
    """The line below which nothing is worth having: steps over the points no other one beats."""
    corners: list[tuple[float, float]] = []
    sign = 1 if up else -1
    for point in sorted((p for p in points if not p.dropped), key=lambda p: (p.x, -sign * p.y)):
        if corners and sign * point.y <= sign * corners[-1][1]:
            continue
        if corners:
            corners.append((point.x, corners[-1][1]))
        corners.append((point.x, point.y))
    if len(corners) < 2:  # noqa: PLR2004 - a line has two ends
        return Markup("")
    places = " ".join(f"{_n(x(a))},{_n(y(b))}" for a, b in corners)
    return Markup('<polyline class="front" points="{}"/>').format(places)


def _mark(point: Point, x: Scale, y: Scale) -> Markup:
    across, hollow = x(point.x), " hollow" if point.dropped else ""
    return Markup(
        '<g class="mark {}{}"><title>{}</title><line x1="{}" y1="{}" x2="{}" y2="{}"/>'
        '<circle cx="{}" cy="{}" r="5.5"/></g>'
    ).format(
        point.kind, hollow, point.title, _n(across), _n(y(point.low)), _n(across), _n(y(point.high)),
        _n(across), _n(y(point.y)),
    )  # fmt: skip


def _labels(points: Sequence[Point], x: Scale, y: Scale) -> Iterable[Markup]:
    """Names beside the points, where they cover neither a point nor another name; else left to the title."""
    taken = [(x(p.x) - 7, y(p.y) - 7, x(p.x) + 7, y(p.y) + 7) for p in points]
    for point in sorted(points, key=lambda p: (p.dropped, p.x)):
        across, down, width = x(point.x), y(point.y), len(point.name) * _LETTER
        for left, middle in ((across + 10, down + 4), (across - 10 - width, down + 4),
                             (across - width / 2, down - 12), (across - width / 2, down + 20)):  # fmt: skip
            box = (left, middle - _LINE + 3, left + width, middle + 3)
            inside = left > _LEFT and left + width < _WIDTH - 4 and box[1] > 0 and box[3] < _HEIGHT - _BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield _text(left, middle, point.name, "label")
                break


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, _n(x), _n(y), text)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        kind, *map(_n, (x1, y1, x2, y2))
    )


def _svg(width: float, height: float, parts: Iterable[Markup], name: str) -> Markup:
    inner = Markup("\n").join(parts)
    return Markup(
        '<svg viewBox="0 0 {} {}" style="max-width:{}px" role="img" aria-label="{}">\n{}\n</svg>'
    ).format(_n(width), _n(height), _n(width), escape(name), inner)


def _n(value: float) -> str:
    """A coordinate: to a tenth, which the eye does not see beyond."""
    return f"{value:.1f}".removesuffix(".0")
