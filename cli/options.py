"""Options that I/O commands share, declared once; those that go together become one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from pynvme_user.cli.types import COUNT, U16, U64, Number

if TYPE_CHECKING:
    from pynvme_user import Namespace
    from pynvme_user.spec.protection import TagSpace

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

count_option = click.option(
    "--block-count",
    "-c",
    type=U64,
    default=0,
    metavar="COUNT",
    help="Blocks, less one: 0, the default, is one block.",
)
retry_option = click.option(
    "--limited-retry", "-l", is_flag=True, help="Let the device not try long."
)
fua_option = click.option(
    "--force-unit-access", "-f", is_flag=True, help="Bypass the device's volatile cache."
)
latency_option = click.option("--latency", "-t", is_flag=True, help="Print how long it took.")
dir_type_option = click.option(
    "--dir-type",
    "-T",
    type=Number(4),
    default=0,
    help="Directive of the write: 1 streams, 2 data placement.",
)
dir_spec_option = click.option(
    "--dir-spec", "-S", type=U16, default=0, help="The stream's or placement's identifier."
)


def file_option(long: str, short: str, help: str) -> _Decorator:
    """Declare an option that names a file."""
    return click.option(long, short, type=click.Path(allow_dash=True), metavar="FILE", help=help)


def gathered(name: str, kind: type, options: Sequence[_Decorator]) -> _Decorator:
    """Give a command options, which it gets as one object: a dataclass with their names."""
    names = [field.name for field in fields(kind)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(**given: Any) -> None:
            found = kind(**{key: given.pop(key) for key in names if key in given})
            function(**{name: found}, **given)

        decorated: Callable[..., Any] = command
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


# --- protection information ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tags:
    """What the options say of protection information; None is what they leave out."""

    prinfo: int | None = None
    ref_tag: int | None = None
    app_tag: int | None = None
    app_tag_mask: int | None = None
    storage_tag: int | None = None
    storage_tag_check: bool = False
    piremap: bool = False

    @property
    def given(self) -> bool:
        """Whether they say anything that is not 0."""
        return any(getattr(self, field.name) for field in fields(self))

    def keywords(self, *, metadata: bool) -> dict[str, Any]:
        """Return them as keywords of the driver's calls, with or without ``metadata``.

        As in nvme-cli nothing is checked by default where metadata is given, and no bit of the
        application tag without --app-tag-mask; but for one that --app-tag names.
        """
        prinfo = 0 if self.prinfo is None and metadata else self.prinfo
        mask = self.app_tag_mask
        if mask is None and self.prinfo is not None and self.app_tag is None:
            mask = 0
        found = {
            "prinfo": prinfo,
            "ref_tag": self.ref_tag,
            "app_tag": self.app_tag,
            "app_tag_mask": mask,
            "storage_tag": self.storage_tag,
            "storage_tag_check": self.storage_tag_check or None,
            "piremap": self.piremap or None,
        }
        return {key: value for key, value in found.items() if value is not None}

    def dwords(self, ns: Namespace) -> dict[str, int]:
        """Return dwords 2, 3, 14 and 15 of a command that is sent as it is."""
        from pynvme_user.spec.nvm import ProtectionCdw15

        cdw15 = ProtectionCdw15.build(lbat=self.app_tag or 0, lbatm=self.app_tag_mask or 0)
        return {**tag_space(ns).dwords(self.storage_tag or 0, self.ref_tag or 0), "cdw15": cdw15}


def tag_space(ns: Namespace) -> TagSpace:
    """Ask how the storage tag and the reference tag share their field."""
    from pynvme_user.errors import NvmeStatusError
    from pynvme_user.spec.admin import Cns
    from pynvme_user.spec.commands import CommandSetId
    from pynvme_user.spec.identify_nvm import IdentifyNamespaceNvm
    from pynvme_user.spec.protection import TagSpace

    try:
        raw = ns.controller.identify_page(Cns.CSI_NAMESPACE, nsid=ns.nsid, csi=CommandSetId.NVM)
    except NvmeStatusError:
        return TagSpace.of()  # a controller without that page has formats of 16-bit guards alone
    page = IdentifyNamespaceNvm.from_bytes(raw)
    return TagSpace.of(page.elbafs[ns.identify.format_index].elbaf)


def tag_options(*, storage: str = "", remap: bool = False) -> _Decorator:
    """Give a command those of protection information, which it gets as ``tags``.

    ``storage`` is the storage tag's short option, if the command has one.
    """
    options = [
        click.option(
            "--prinfo", "-p", type=Number(4), help="PRINFO: action 8, checks 4 guard, 2 and 1 tags."
        ),
        click.option("--ref-tag", "-r", type=COUNT, help="The first block's reference tag."),
        click.option("--app-tag", "-a", type=U16, help="The application tag."),
        click.option("--app-tag-mask", "-m", type=U16, help="The bits of it that are checked."),
    ]
    if storage:
        options += [
            click.option("--storage-tag", storage, type=COUNT, help="The storage tag."),
            click.option("--storage-tag-check", "-C", is_flag=True, help="Check the storage tag."),
        ]
    if remap:
        help = "Let reference tags follow the data; of type 1 they do."
        options.append(click.option("--piremap", "-P", is_flag=True, help=help))
    return gathered("tags", Tags, options)
