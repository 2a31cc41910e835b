"""What a device says of its own health before and after a run: the SMART log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pynvme_user.bench.results.result import Health
from pynvme_user.spec.logs import CriticalWarning, SmartLog

_KELVIN = 273
#: The specification's abbreviations, and nvme-cli's names for the same, with its units.
SMART_KEYS = {
    "cw": "critical_warning",
    "ctemp": "temperature",
    "avsp": "avail_spare",
    "avspt": "spare_thresh",
    "pused": "percent_used",
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
    "tmt1tc": "thm_temp1_trans_count",
    "tmt2tc": "thm_temp2_trans_count",
    "tttmt1": "thm_temp1_total_time",
    "tttmt2": "thm_temp2_total_time",
}
#: So much of its life is worth a word.
_MUCH_USED = 90


def throttles(log: SmartLog, warning_kelvin: int) -> str:
    """Say what the log has against a measurement; ``warning_kelvin`` is WCTEMP, 0: not known."""
    celsius = log.ctemp - _KELVIN
    if log.cw.temperature:
        return f"is outside its temperature limits ({celsius} degrees Celsius) and may throttle"
    if warning_kelvin and log.ctemp >= warning_kelvin:
        return f"is at {celsius} degrees Celsius, where it begins to throttle"
    return ""


def warnings(health: Health) -> Iterator[str]:
    """Say what makes a run's figures, or the device, less than they seem."""
    before, after, name = health.before, health.after, health.device
    if after is None:
        return
    if before is not None:
        for count, seconds, how in (("tmt1tc", "tttmt1", "light"), ("tmt2tc", "tttmt2", "heavy")):
            times = getattr(after, count) - getattr(before, count)
            held = getattr(after, seconds) - getattr(before, seconds)
            if times > 0 or held > 0:
                yield (
                    f"{name} throttled during the run to cool down ({how}: {max(times, 0)} times "
                    f"begun, {max(held, 0)} s): its rates are not those of a cool device"
                )
        if (warm := after.wctt + after.cctt - before.wctt - before.cctt) > 0:
            yield f"{name} was above its warning temperature for about {warm} minutes of the run"
        if (errors := after.mdie - before.mdie) > 0:
            yield f"{name} counted {errors} media and data integrity errors during the run"
    for field in CriticalWarning.layout:
        if not field.reserved and getattr(after.cw, field.name):
            yield f"{name} has a critical warning: {field.text}"


def changes(health: Health) -> list[str]:
    """Say what changed, or is worth knowing, in a few words each; no words where nothing is."""
    before, after = health.before, health.after
    if before is None or after is None:
        return []
    said = []
    if before.ctemp != after.ctemp:
        said.append(f"temperature {before.ctemp - _KELVIN} to {after.ctemp - _KELVIN} Celsius")
    if before.pused != after.pused:
        said.append(f"percentage used {before.pused} to {after.pused}")
    elif after.pused >= _MUCH_USED:
        said.append(f"percentage used {after.pused}")
    if before.avsp != after.avsp:
        said.append(f"available spare {before.avsp} % to {after.avsp} %")
    if after.mdie:
        said.append(f"media errors {before.mdie} to {after.mdie}")
    return said


def as_json(health: Health) -> dict[str, Any]:
    """Write both logs with nvme-cli's names and units; null for one that was not there."""
    return {
        "device": health.device,
        "before": _figures(health.before),
        "after": _figures(health.after),
    }


def _figures(log: SmartLog | None) -> dict[str, int] | None:
    if log is None:
        return None
    found = {name: int(getattr(log, field)) for field, name in SMART_KEYS.items()}
    sensors = enumerate(log.tsen, 1)
    return found | {f"temperature_sensor_{n}": kelvin for n, kelvin in sensors if kelvin}
