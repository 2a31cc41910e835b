"""``get-feature`` and ``set-feature``: every feature, its value in words, its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.device import device_command, opened
from pynvme_user.cli.errors import Failure
from pynvme_user.cli.output import (
    JSON,
    NORMAL,
    echo_json,
    echo_lines,
    hexdump,
    human_option,
    output_option,
    raw_binary_option,
    refuse_terminal,
    write_all,
)
from pynvme_user.cli.types import U8, U32, U64
from pynvme_user.errors import NvmeStatusError

if TYPE_CHECKING:
    from pynvme_user import Controller
    from pynvme_user.driver.features import FeatureValue
    from pynvme_user.spec.features import Feature, SupportedCapabilities

_SELECTED = ("Current", "Default", "Saved", "Supported capabilities")
#: nvme-cli's way to ask for current, default and saved values at once.
_ALL_VALUES = 8
_CAPABILITIES = 3


@device_command("get-feature", "nvme-user get-feature qemu:disk.img --feature-id 4 -H")
@click.option("--feature-id", "-f", type=U8, help="The feature; all that there are if left out.")
@click.option("--namespace-id", "-n", type=U32, default=0, metavar="NSID", help="NSID.")
@click.option(
    "--sel",
    "-s",
    type=click.Choice(["0", "1", "2", "3", "8"]),
    default="0",
    help="0: the current value, 1: the default, 2: the saved one, 3: what can be done with it, "
    "8: the first three.",
)
@click.option("--data-len", "-l", type=U32, help="Bytes of data, where it has any.")
@click.option("--cdw11", "-c", type=U32, default=0, help="Dword 11: of what.")
@click.option("--uuid-index", "-U", type=click.IntRange(0, 127), default=0, help="UUID index.")
@output_option(NORMAL, JSON)
@raw_binary_option
@human_option
def get_feature(
    device: str,
    feature_id: int | None,
    namespace_id: int,
    sel: str,
    data_len: int | None,
    cdw11: int,
    uuid_index: int,
    output_format: str,
    raw_binary: bool,
    human_readable: bool,
) -> None:
    """Show a feature's value, in words with -H.

    Without --feature-id, each that the controller has.
    """
    from pynvme_user.spec.features import FeatureId

    selected = range(3) if int(sel) == _ALL_VALUES else [int(sel)]
    found: list[tuple[int, FeatureValue]] = []
    with opened(device) as controller:
        for fid in [feature_id] if feature_id is not None else list(FeatureId):
            for select in selected:
                try:
                    value = controller.feature(
                        fid,
                        select=select,
                        nsid=namespace_id or _namespace_of(controller, fid),
                        cdw11=cdw11,
                        uuid_index=uuid_index,
                        length=data_len,
                    )
                except NvmeStatusError:
                    if feature_id is not None:
                        raise
                    continue  # it has no such feature
                found.append((select, value))
        if raw_binary:
            refuse_terminal()
            write_all(b"".join(value.raw for _, value in found))
        elif output_format == JSON:
            _show_json(found)
        else:
            for select, value in found:
                echo_lines(_lines(select, value, human_readable))


def _namespace_of(controller: Controller, fid: int) -> int:
    """Give the namespace that a feature of namespaces is asked of where none is named."""
    from pynvme_user.driver.features import known_feature

    known = known_feature(fid)
    return min(controller.namespaces.ids, default=0) if known and known.per_namespace else 0


def _lines(select: int, value: FeatureValue, human: bool) -> Iterator[str]:
    from pynvme_user.cli.pages import bit_lines, lines
    from pynvme_user.cli.shape import View
    from pynvme_user.driver.features import known_feature
    from pynvme_user.spec.bits import Register
    from pynvme_user.spec.features import SupportedCapabilities

    known = known_feature(value.fid)
    name = known.name if known else "Unknown"
    yield f"get-feature:{value.fid:#04x} ({name}), {_SELECTED[select]} value:{_dword(value.result)}"
    if select == _CAPABILITIES:
        capabilities = SupportedCapabilities(value.result)
        yield from (f"  Feature is {word}" for word in _capabilities(capabilities))
        return
    if human and isinstance(value.value, Register):
        yield from bit_lines(value.value)
    data = value.data
    if isinstance(data, bytes):
        yield from hexdump(data)
    elif data is not None:
        if human:
            yield from lines(data, View(human=True))
        else:
            yield from hexdump(value.raw)


def _dword(value: int) -> str:
    """Write a dword as nvme-cli does, of which zero has no 0x."""
    return f"{value:#010x}" if value else "0" * 8


def _capabilities(found: SupportedCapabilities) -> Iterator[str]:
    words = ((found.svbl, "saveable"), (found.nsspec, "per-namespace"), (found.chang, "changeable"))
    yield from (word for has_it, word in words if has_it)


def _show_json(found: list[tuple[int, FeatureValue]]) -> None:
    from pynvme_user.cli.pages import plain
    from pynvme_user.cli.shape import View
    from pynvme_user.driver.features import known_feature
    from pynvme_user.spec.bits import Register

    made = []
    for select, value in found:
        known = known_feature(value.fid)
        one: dict[str, Any] = {
            "feature": value.fid,
            "name": known.name if known else None,
            "select": _SELECTED[select].lower(),
            "value": value.result,
        }
        if select != _CAPABILITIES and isinstance(value.value, Register):
            one["fields"] = plain(value.value, View())
        data = value.data
        if isinstance(data, bytes):
            one["data"] = data.hex()
        elif data is not None:
            one["data"] = plain(data, View())
        made.append(one)
    echo_json(made[0] if len(made) == 1 else {"features": made})


@device_command("set-feature", "nvme-user set-feature qemu:disk.img --feature-id 4 --value 0x157")
@click.option("--feature-id", "-f", type=U8, required=True, help="The feature.")
@click.option("--value", "-v", "-V", type=U64, default=0, help="Its new value, dword 11.")
@click.option("--cdw12", "-c", type=U32, default=0, help="Dword 12.")
@click.option("--namespace-id", "-n", type=U32, default=0, metavar="NSID", help="NSID.")
@click.option("--uuid-index", "-U", type=click.IntRange(0, 127), default=0, help="UUID index.")
@click.option("--data-len", "-l", type=U32, help="Bytes of data, where it has any.")
@click.option(
    "--data",
    "-d",
    "path",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Where the data comes from; stdin if left out.",
)
@click.option("--save", "-s", "-S", is_flag=True, help="Let it outlast resets and power cycles.")
def set_feature(
    device: str,
    feature_id: int,
    value: int,
    cdw12: int,
    namespace_id: int,
    uuid_index: int,
    data_len: int | None,
    path: str | None,
    save: bool,
) -> None:
    """Set a feature, and show its value."""
    from pynvme_user.driver.features import known_feature

    if value >> 32:
        cdw12, value = cdw12 or value >> 32, value & 0xFFFFFFFF
    known = known_feature(feature_id)
    with opened(device) as controller:
        data = _data(known, value, data_len, path)
        try:
            result = controller.set_feature(
                feature_id,
                value,
                data=data,
                save=save,
                nsid=namespace_id,
                cdw12=cdw12,
                uuid_index=uuid_index,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        name = known.name if known else "Unknown"
        echo_lines(
            [
                f"set-feature:{feature_id:#04x} ({name}), value:{_dword(value)}, "
                f"cdw12:{_dword(cdw12)}, save:{int(save)}"
            ]
        )
        if result:
            echo_lines([f"result:{result:#010x}"])


def _data(
    known: Feature | None, value: int, length: int | None, path: str | None
) -> bytearray | None:
    """Read the feature's data, if it takes any."""
    from pynvme_user.cli.files import source
    from pynvme_user.spec.fields import Struct

    if length is None:
        kind = known.set_data_of(value) if known else None
        if kind is None:
            length = 0
        elif issubclass(kind, Struct):
            length = kind.size
        else:
            length = known.room if known else 0
    if not length:
        if path is not None:
            raise click.UsageError("say how much data the feature takes with --data-len")
        return None
    data = bytearray(length)
    with source(path) as src:
        count = src.fill(data)
        if not count:
            raise Failure(f"{src.name} is empty: the feature takes {length} bytes of data")
    return data


COMMANDS = (get_feature, set_feature)
