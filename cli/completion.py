"""Shell completion: commands, options and their values, devices and files.

Click finds out what is being completed. Here is what it does not do: the form ``--option=value`` in
every shell, and bash, which takes words apart at each colon and equals sign.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import (
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

SHELLS = ("bash", "zsh", "fish")

_PROGRAM = "nvme-user"
_VARIABLE = "_NVME_USER_COMPLETE"
#: The word of a command line that the cursor is at the end of, quoted or not.
_LAST_WORD = re.compile(r"""(?:\\.|'[^']*'?|"(?:\\.|[^"\\])*"?|[^\s\\'"])*\\?$""", re.DOTALL)
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_SPECIAL = re.compile(r"([\s\\'\"$`&|;<>()*?!\[\]{}#~])")
_END = "\1"

_BASH = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:/=] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Values(ShellComplete):
    """What all shells have in common."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Find what fits; paths are looked for here, since a shell knows nothing of a prefix."""
        prefix = ""
        if incomplete.startswith("--") and "=" in incomplete:
            option, _, incomplete = incomplete.partition("=")
            args, prefix = [*args, option], f"{option}="
        if args and args[-1].startswith("--"):
            args[-1] = args[-1].replace("_", "-")  # fio's spelling
        found = super().get_completions(args, incomplete)
        for item in found:
            item.value = prefix + item.value
        if any(item.type != "plain" for item in found):
            paths = [CompletionItem(prefix + path) for path in path_names(incomplete)]
            found = [item for item in found if item.type == "plain"] + paths
        return found


class _Bash(_Values):
    name = "bash"
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(line + _END)
        while _ASSIGNMENT.fullmatch(words[0]):
            del words[0]
        return words[1:-1], words[-1].removesuffix(_END)

    def complete(self) -> str:
        """Give what bash is to put in place of the last part of the word."""
        args, incomplete = self.get_completion_args()
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        word = _LAST_WORD.search(line)
        found = (item.value for item in self.get_completions(args, incomplete))
        if word and word[0][:1] in ("'", '"'):
            return "\n".join(found)
        breaks = os.environ.get("COMP_BREAKS", "=:")
        cut = 1 + max(incomplete.rfind(letter) for letter in "=:@" if letter in breaks + "=")
        return "\n".join(_SPECIAL.sub(r"\\\1", value[cut:]) for value in found)

    def format_completion(self, item: CompletionItem[str]) -> str:
        return item.value


class _Zsh(_Values, ZshComplete):
    pass


class _Fish(_Values, FishComplete):
    pass


_CLASSES: dict[str, type[_Values]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def script(cli: click.Command, shell: str) -> str:
    """Give the script that a shell evaluates."""
    return _CLASSES[shell](cli, {}, _PROGRAM, _VARIABLE).source()


def asked() -> str | None:
    """Tell what the shell asks for, if it does."""
    return os.environ.get(_VARIABLE)


def answer(cli: click.Command, instruction: str) -> int:
    """Write what the shell asks for; return the exit code.

    Nothing is written of an error, which would land in the middle of what is being typed.
    """
    shell, _, what = instruction.partition("_")
    if shell not in _CLASSES or what not in ("source", "complete"):
        return 1
    try:
        completion = _CLASSES[shell](cli, {}, _PROGRAM, _VARIABLE)
        click.echo(completion.source() if what == "source" else completion.complete())
    except (Exception, KeyboardInterrupt):
        return 1
    return 0


# --- what there is ------------------------------------------------------------------------------


def words(choices: Iterable[str], incomplete: str, *, several: bool = False) -> list[str]:
    """Choose the words that begin so; of a list with commas, the last one is completed."""
    before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
    return [f"{before}{comma}{word}" for word in choices if word.startswith(last)]


def path_names(start: str, suffixes: tuple[str, ...] = ()) -> Iterator[str]:
    """Find folders, with a slash, and files, of these suffixes if any are given."""
    folder, slash, name = start.rpartition("/")
    try:
        entries = sorted(os.scandir(Path(folder + slash or ".").expanduser()), key=_entry_name)
    except OSError:
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not name
        if not entry.name.startswith(name) or hidden or not entry.name.isprintable():
            continue
        if entry.is_dir():
            yield f"{folder}{slash}{entry.name}/"
        elif not suffixes or entry.name.endswith(suffixes):
            yield f"{folder}{slash}{entry.name}"


def _entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def device_names(start: str) -> list[str]:
    """Complete a device name: the machine's controllers, images and sockets."""
    from pynvme_user.errors import NvmeError
    from pynvme_user.host.pci import devices

    scheme, colon, rest = start.partition(":")
    if colon and scheme == "qemu":
        return [f"qemu:{path}" for path in path_names(rest, (".img", ".raw", ".qcow2"))]
    if colon and scheme == "soft":
        return [f"soft:{path}" for path in path_names(rest, (".img", ".raw"))]
    if colon and scheme == "vfio-user":
        return [f"vfio-user:{path}" for path in path_names(rest)]
    try:
        addresses = [device.address for device in devices()]
    except (OSError, NvmeError):  # no sysfs, no libudev
        addresses = []
    names = ["qemu:", "soft:", "vfio-user:", *addresses]
    names += [f"{scheme}:{address}" for scheme in ("vfio", "uio") for address in addresses]
    return words(names, start)
