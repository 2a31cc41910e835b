"""Line charts as SVG text, drawn to be read on a screen, on paper and without seeing colours.

Colours are CSS classes (``c0`` to ``c5``), which the page defines for light and dark; each of six
series has a dash pattern of its own besides, so that they stay apart in black and white. More than
six have the colours again, each time with other patterns.

Drawn here and not by matplotlib, whose pictures were held beside these. Its colours are written
into the picture, so a dark page shows white boxes; it names two values of an axis where there is
room for six, as at 50, 200 and 500 us; a picture is three to seven times as long. Its import and a
figure take longer than all of a page here, and no extra has to be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Protocol

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from pynvme_user.bench.report.rendering import render

Floats = npt.NDArray[np.float64]
Tick = tuple[float, str]  # value, label

#: Colours, as many as can be told apart, and dash patterns.
COLOURS = 6
_DASHES = ("", "6 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
#: As many series as have a colour and pattern of their own.
STYLES = COLOURS * len(_DASHES)

# Units of the drawing; the page scales it to its column.
_WIDTH, _HEIGHT = 440, 244
_TOP, _RIGHT, _BOTTOM = 28, 22, 48
_LETTER = 7.0  # width of a letter of a tick label
_LINE = 16  # least distance of two tick labels above one another


class Scale(Protocol):
    """Maps values to 0..1 and knows which of them to name."""

    def place(self, values: Floats) -> Floats:
        """Map values; what is out of range falls outside 0..1."""

    def ticks(self) -> Sequence[Tick]:
        """Name values, those that matter most first."""

    @property
    def label(self) -> Callable[[float], str]:
        """How a value is written."""


@dataclass(frozen=True, slots=True)
class Linear:
    """From ``low`` to ``high`` in even steps."""

    low: float
    high: float
    label: Callable[[float], str]

    @classmethod
    def up_to(cls, highest: float, label: Callable[[float], str]) -> Linear:
        """From zero to a round number above the highest value."""
        step = _round_step(max(highest, 1e-9) / 5)
        return cls(0.0, step * ceil(max(highest, 1e-9) / step * 1.0001), label)

    def place(self, values: Floats) -> Floats:
        """Map values."""
        return (values - self.low) / (self.high - self.low)

    def ticks(self) -> Sequence[Tick]:
        """Name round steps."""
        step = _round_step((self.high - self.low) / 5)
        first = ceil(self.low / step - 1e-9)
        last = floor(self.high / step + 1e-9)
        return [(n * step, self.label(n * step)) for n in range(first, last + 1)]


def _round_step(least: float) -> float:
    power = 10.0 ** floor(log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.9999)


@dataclass(frozen=True, slots=True)
class Log:
    """Powers of ten between two positive values, which it takes in with a little air."""

    low: float
    high: float
    label: Callable[[float], str]
    named: tuple[float, ...] = ()  # name these values instead of round ones

    def place(self, values: Floats) -> Floats:
        """Map values; what is not positive becomes NaN."""
        bottom, top = self._ends()
        with np.errstate(divide="ignore", invalid="ignore"):
            powers = np.where(values > 0, np.log10(np.maximum(values, 1e-300)), np.nan)
        return np.asarray((powers - bottom) / (top - bottom), dtype=np.float64)

    def _ends(self) -> tuple[float, float]:
        bottom, top = log10(self.low), log10(self.high)
        air = max(0.04 * (top - bottom), 0.05)
        return bottom - air, top + air

    def ticks(self) -> Sequence[Tick]:
        """Name tens first, then fives and twos where there is room."""
        if self.named:
            return [(value, self.label(value)) for value in self.named]
        bottom, top = self._ends()
        powers = range(floor(bottom), ceil(top) + 1)
        return [
            (factor * 10.0**power, self.label(factor * 10.0**power))
            for factor in (1, 5, 2)
            for power in powers
            if bottom <= log10(factor) + power <= top
        ]


@dataclass(frozen=True, slots=True)
class Nines:
    """Percentiles, each further nine as far from the last: 0, 90, 99, 99.9, ..."""

    count: int  # I/Os; no percentile beyond them is known

    def _end(self) -> float:
        return max(log10(max(self.count, 1)), 1.0)

    def place(self, values: Floats) -> Floats:
        """Map percentiles."""
        rest = np.maximum(1 - values / 100, 10.0 ** -self._end())
        return np.asarray(-np.log10(rest) / self._end(), dtype=np.float64)

    def ticks(self) -> Sequence[Tick]:
        """Name the median and every nine."""
        shares = [0.0, *(100 - 10.0 ** (2 - nines) for nines in range(1, floor(self._end()) + 1))]
        return [(share, self.label(share)) for share in (*shares, 50.0)]

    def label(self, value: float) -> str:
        """Write a percentile."""
        return f"{value:.10g}"


@dataclass(frozen=True, slots=True)
class Named:
    """Places without a measure, side by side."""

    names: tuple[str, ...]

    def place(self, values: Floats) -> Floats:
        """Map positions 0, 1, ..."""
        return (values + 0.5) / len(self.names)

    def ticks(self) -> Sequence[Tick]:
        """Name every place."""
        return [(float(n), name) for n, name in enumerate(self.names)]

    def label(self, value: float) -> str:
        """Write a place's name."""
        return self.names[round(value)]


@dataclass(frozen=True, slots=True)
class Axis:
    """What a direction of the chart measures, with its unit."""

    title: str
    scale: Scale


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line; a NaN breaks it."""

    name: str
    x: Floats
    y: Floats
    style: int  # 0 to STYLES - 1
    points: bool = False  # mark each point, with its values on hovering
    filled: bool = False


def chart(
    title: str, x: Axis, y: Axis, series: Sequence[Series], note: str = "", legend: str = ""
) -> Markup:
    """Draw a figure: caption, legend where there are several lines, axes with units, lines.

    ``legend`` says what the lines' names are values of; ``note`` stands below.
    """
    y_ticks = _thin(y.scale, _HEIGHT - _TOP - _BOTTOM, lambda _: _LINE)
    left = 12 + _LETTER * max((len(label) for _, label in y_ticks), default=0)
    frame = _Frame(left, x.scale, y.scale)
    x_ticks = _thin(x.scale, frame.width, lambda label: _LETTER * len(label) + 10)
    return render(
        "figure.html",
        title=title,
        legend=legend,
        note=note,
        width=_WIDTH,
        height=_HEIGHT,
        left=left,
        right=left + frame.width,
        top=_TOP,
        bottom=frame.bottom,
        x_title=x.title,
        y_title=y.title,
        x_ticks=frame.x_ticks(x_ticks),
        y_ticks=frame.y_ticks(y_ticks),
        lines=[frame.line(one, x, y) for one in series],
    )


def _look(style: int) -> tuple[str, str]:
    """Tell a style's class and dash pattern."""
    colour, again = style % COLOURS, style // COLOURS
    return f"c{colour}", _DASHES[(colour + again) % len(_DASHES)]


def _thin(scale: Scale, length: float, room: Callable[[str], float]) -> list[Tick]:
    """Keep the ticks that have room, in the order in which they matter."""
    kept: list[tuple[float, float, Tick]] = []
    for tick in scale.ticks():
        place = float(scale.place(np.array([tick[0]]))[0])
        if not (isfinite(place) and -1e-6 <= place <= 1 + 1e-6):
            continue
        at, half = place * length, room(tick[1]) / 2
        if all(abs(at - other) >= half + other_half for other, other_half, _ in kept):
            kept.append((at, half, tick))
    return [tick for _, _, tick in kept]


@dataclass(frozen=True, slots=True)
class _Line:
    """A series as it is drawn."""

    name: str
    colour: str
    dashes: str
    path: str
    area: str
    marks: list[tuple[float, float, str]]  # where, and what hovering shows


class _Frame:
    """The area inside the axes."""

    def __init__(self, left: float, x: Scale, y: Scale):
        self.left, self.x, self.y = left, x, y
        self.width = _WIDTH - left - _RIGHT
        self.bottom = _HEIGHT - _BOTTOM
        self.height = self.bottom - _TOP

    def _x(self, values: Floats) -> Floats:
        return self.left + self.width * self.x.place(values)

    def _y(self, values: Floats) -> Floats:
        return self.bottom - self.height * self.y.place(values)

    def y_ticks(self, ticks: Iterable[Tick]) -> list[tuple[float, str]]:
        """Tell where each tick is."""
        return [(float(self._y(np.array([value]))[0]), label) for value, label in ticks]

    def x_ticks(self, ticks: Iterable[Tick]) -> list[tuple[float, str, float]]:
        """Tell where each tick and its label are."""
        places = [(float(self._x(np.array([value]))[0]), label) for value, label in ticks]
        # The last label stays inside.
        return [(at, name, min(at, _WIDTH - _LETTER * len(name) / 2)) for at, name in places]

    def line(self, series: Series, x: Axis, y: Axis) -> _Line:
        """Draw a series."""
        xs, ys = self._x(series.x), self._y(series.y)
        # Outside the frame is where a value of zero on a logarithmic axis would lie.
        ys = np.minimum(ys, self.bottom)
        steps, pen = [], "M"
        for at_x, at_y in zip(xs.tolist(), ys.tolist(), strict=True):
            if not (isfinite(at_x) and isfinite(at_y)):
                pen = "M"
                continue
            steps.append(f"{pen}{at_x:.1f} {at_y:.1f}")
            pen = "L"
        path = "".join(steps)
        area = ""
        if series.filled and steps:
            first, last = float(xs[0]), float(xs[-1])
            area = f"{path}L{last:.1f} {self.bottom}L{first:.1f} {self.bottom}Z"
        marks = self._marks(series, x, y) if series.points else []
        return _Line(series.name, *_look(series.style), path, area, marks)

    def _marks(self, series: Series, x: Axis, y: Axis) -> list[tuple[float, float, str]]:
        made = []
        for value_x, value_y in zip(series.x.tolist(), series.y.tolist(), strict=True):
            at_x = float(self._x(np.array([value_x]))[0])
            at_y = float(self._y(np.array([value_y]))[0])
            if isfinite(at_x) and isfinite(at_y):
                said = f"{x.title} {x.scale.label(value_x)}: {y.scale.label(value_y)}"
                made.append((at_x, at_y, f"{series.name}, {said}"))
        return made
