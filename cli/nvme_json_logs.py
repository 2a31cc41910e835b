"""nvme-cli's names and shapes of log pages; see `nvme_json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pynvme_user.cli.shape import Json, Shape, View
from pynvme_user.spec.logs import SmartLog

_UNIT = 512_000  # bytes, of the data units of SMART and endurance groups
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q")


def _kelvins(name: str) -> Callable[[Any], str]:
    return lambda page: celsius(getattr(page, name))


def celsius(kelvins: int) -> str:
    """Write a temperature as nvme-cli does."""
    return f"{kelvins - 273}°C ({kelvins} Kelvin)"


def _percent(name: str) -> Callable[[Any], str]:
    return lambda page: f"{getattr(page, name)}%"


def _data_units(name: str) -> Callable[[Any], str]:
    def say(page: Any) -> str:
        units = getattr(page, name)
        size, power = units * _UNIT, 0
        while size >= 1000 ** (power + 1) and power < len(_PREFIXES) - 1:
            power += 1
        return f"{units} ({size / 1000**power:.2f} {_PREFIXES[power]}B)"

    return say


def _sensors(page: Any) -> Iterator[tuple[int, int]]:
    return ((number, kelvins) for number, kelvins in enumerate(page.tsen, 1) if kelvins)


def _sensors_json(page: Any, _: View) -> dict[str, object]:
    return {f"temperature_sensor_{number}": kelvins for number, kelvins in _sensors(page)}


def _sensor_lines(page: Any, _: View) -> Iterator[str]:
    for number, kelvins in _sensors(page):
        yield f"Temperature Sensor {number:<21}: {celsius(kelvins)}"


def _bits_if_human(field: str, key: str, names: dict[str, str]) -> Json:
    """Give a number, and with -H an object of its value and its bits."""

    def make(page: Any, view: View) -> dict[str, object]:
        value = getattr(page, field)
        if not view.human:
            return {key: int(value)}
        return {key: {"value": int(value), **{names[b]: getattr(value, b) for b in names}}}

    return make


_SMART_WARNINGS = {
    "spare": "available_spare",
    "temperature": "temp_threshold",
    "reliability": "reliability_degraded",
    "read_only": "ro",
    "backup": "vmbu_failed",
    "pmr": "pmr_ro",
}

LOGS: dict[type, Shape] = {
    SmartLog: Shape(
        heading="Smart Log for NVME device:{device} namespace-id:{nsid:x}",
        keys={
            "cw": _bits_if_human("cw", "critical_warning", _SMART_WARNINGS),
            "ctemp": "temperature",
            "avsp": "avail_spare",
            "avspt": "spare_thresh",
            "pused": "percent_used",
            "egcws": "endurance_grp_critical_warning_summary",
            "dur": "data_units_read",
            "duw": "data_units_written",
            "hrc": "host_read_commands",
            "hwc": "host_write_commands",
            "cbt": "controller_busy_time",
            "pwrc": "power_cycles",
            "poh": "power_on_hours",
            "upl": "unsafe_shutdowns",
            "mdie": "media_errors",
            "neile": "num_err_log_entries",
            "wctt": "warning_temp_time",
            "cctt": "critical_comp_time",
            "tsen": _sensors_json,
            "tmt1tc": "thm_temp1_trans_count",
            "tmt2tc": "thm_temp2_trans_count",
            "tttmt1": "thm_temp1_total_time",
            "tttmt2": "thm_temp2_total_time",
        },
        labels={
            "cw": "critical_warning",
            "avsp": "available_spare",
            "avspt": "available_spare_threshold",
            "pused": "percentage_used",
            "egcws": "endurance group critical warning summary",
            "dur": "Data Units Read",
            "duw": "Data Units Written",
            "wctt": "Warning Temperature Time",
            "cctt": "Critical Composite Temperature Time",
            "tmt1tc": "Thermal Management T1 Trans Count",
            "tmt2tc": "Thermal Management T2 Trans Count",
            "tttmt1": "Thermal Management T1 Total Time",
            "tttmt2": "Thermal Management T2 Total Time",
        },
        values={
            "ctemp": _kelvins("ctemp"),
            "avsp": _percent("avsp"),
            "avspt": _percent("avspt"),
            "pused": _percent("pused"),
            "dur": _data_units("dur"),
            "duw": _data_units("duw"),
        },
        lines={"tsen": _sensor_lines},
        hexadecimal=("egcws",),
        width=40,
    ),
}
