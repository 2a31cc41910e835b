"""The guest's kernel and busybox: found where installed, else fetched from Debian's packages.

Nothing here needs root. A package that is not installed is downloaded with ``apt-get download``
and unpacked below `cache_dir`; only the modules that a guest can use are kept.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pynvme_user.qemu.program import cache_path

from .errors import GuestSetupError

KERNEL_PACKAGE = "linux-image-amd64"
BUSYBOX_PACKAGE = "busybox-static"

# Of a kernel package's 400 MB, the quarter without drivers for hardware that the guest lacks.
_KERNEL_PARTS = (
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.*",
    *(
        f"./lib/modules/*/kernel/{part}"
        for part in ("arch", "block", "crypto", "fs", "lib", "mm", "net", "virt")
    ),
    *(
        f"./lib/modules/*/kernel/drivers/{part}"
        for part in ("block", "char", "iommu", "md", "nvdimm", "nvme", "uio", "vfio", "virtio")
    ),
)


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel.

    ``image`` is an ELF vmlinux where the compression is known (QEMU starts it in a fraction of
    the time under TCG, where a bzImage unpacks itself for seconds), else the bzImage.
    ``modules`` is its ``lib/modules/VERSION`` directory, with a ``modules.dep``.
    """

    version: str
    image: Path
    modules: Path

    def load_order(self, names: Sequence[str]) -> list[Path]:
        """List the module files to insert for `names`, dependencies first, built-in ones left out.

        Raises GuestSetupError for a module that this kernel does not have.
        """
        dependencies: dict[str, list[str]] = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            dependencies[_module_name(path)] = [path, *needs.split()]
        builtin = (self.modules / "modules.builtin").read_text().split()
        builtin_names = {_module_name(path) for path in builtin}
        order: list[str] = []

        def add(name: str) -> None:
            # busybox's depmod names a module's needs in no useful order, so each is followed.
            path, *needs = dependencies[name]
            for need in needs:
                if need not in order:
                    add(_module_name(need))
            if path not in order:
                order.append(path)

        for name in map(_module_name, names):
            if name in dependencies:
                add(name)
            elif name not in builtin_names:
                raise GuestSetupError(
                    f"kernel {self.version} has no module {name}: "
                    f"install another one, such as Debian's {KERNEL_PACKAGE}"
                )
        return [self.modules / path for path in order]


def cache_dir() -> Path:
    """Return `cache_path`, created where missing."""
    path = cache_path()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GuestSetupError(
            f"cannot create {path} ({error.strerror}): set XDG_CACHE_HOME to a writable directory"
        ) from error
    return path


def find_kernel(package: str = KERNEL_PACKAGE) -> Kernel:
    """Find the newest usable kernel in /boot, else fetch the one of Debian's `package`, once.

    A `package` other than the default is always taken from the package, never from /boot.
    Raises GuestSetupError when there is none and none can be fetched.
    """
    if package == KERNEL_PACKAGE:
        for image in sorted(Path("/boot").glob("vmlinuz-*"), key=_version_key, reverse=True):
            version = image.name.removeprefix("vmlinuz-")
            modules = Path("/lib/modules") / version
            if os.access(image, os.R_OK) and _has_modules(modules):
                return Kernel(version, _elf_image(image, version), modules)

    def unpack(deb: Path, target: Path) -> None:
        _unpack_deb(deb, target, _KERNEL_PARTS)
        image = next((target / "boot").glob("vmlinuz-*"))
        version = image.name.removeprefix("vmlinuz-")
        busybox = find_busybox()
        _run([str(busybox), "depmod", "-b", str(target), version], f"index the modules of {deb}")

    root = _cached_package(package, unpack)
    image = next((root / "boot").glob("vmlinuz-*"))
    version = image.name.removeprefix("vmlinuz-")
    return Kernel(version, _elf_image(image, version), root / "lib/modules" / version)


def find_busybox() -> Path:
    """Find a static busybox: the one in PATH, else Debian's busybox-static, fetched once."""
    installed = shutil.which("busybox")
    if installed and _is_static(Path(installed)):
        return Path(installed)

    def unpack(deb: Path, target: Path) -> None:
        _unpack_deb(deb, target, ("./bin/busybox", "./usr/bin/busybox"))

    root = _cached_package(BUSYBOX_PACKAGE, unpack)
    return next(path for path in root.rglob("busybox") if path.is_file())


def vmlinux(bzimage: bytes) -> bytes | None:
    """Unpack the ELF kernel of a bzImage; None when its compression is not xz, LZMA or gzip.

    The header's fields are those of Linux' Documentation/x86/boot.rst: setup_sects at 0x1f1,
    payload_offset at 0x248 and payload_length at 0x24c, from the end of the setup sectors.
    """
    if bzimage[0x202:0x206] != b"HdrS":
        return None
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = bzimage[start : start + length]
    try:
        if payload.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
            # The four bytes after the stream are the unpacked length: not part of it.
            elf = lzma.LZMADecompressor().decompress(payload)
        elif payload.startswith(b"\x1f\x8b"):
            elf = zlib.decompressobj(wbits=31).decompress(payload)
        else:
            return None
    except (lzma.LZMAError, zlib.error):
        return None
    return elf if elf.startswith(b"\x7fELF") else None


def module_bytes(path: Path) -> bytes:
    """Read a module's ELF file, unpacked where it is a .ko.xz or .ko.gz."""
    data = path.read_bytes()
    match path.suffix:
        case ".ko":
            return data
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
    raise GuestSetupError(
        f"{path} has a compression that Python cannot undo: install Debian's {KERNEL_PACKAGE}"
    )


def _elf_image(image: Path, version: str) -> Path:
    """Return the unpacked vmlinux of a bzImage, kept in the cache; else the bzImage itself."""
    stat = image.stat()
    unpacked = cache_dir() / f"vmlinux-{version}-{stat.st_size}-{stat.st_mtime_ns}"
    if unpacked.exists():
        return unpacked
    elf = vmlinux(image.read_bytes())
    if elf is None:
        return image
    with tempfile.NamedTemporaryFile(dir=unpacked.parent, delete=False) as file:
        file.write(elf)
    os.replace(file.name, unpacked)
    return unpacked


def _cached_package(package: str, unpack: Callable[[Path, Path], None]) -> Path:
    """Return the cache's directory for `package`, made by `unpack(deb, directory)` once."""
    target = cache_dir() / package
    if target.is_dir():
        return target
    # Beside the target, so that the finished tree appears in one step, also when two of us race.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{package}-") as name:
        work = Path(name)
        deb = _download(package, work)
        tree = work / "tree"
        tree.mkdir()
        unpack(deb, tree)
        try:
            tree.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _download(package: str, directory: Path) -> Path:
    """Fetch the .deb of `package`, or of the real package behind a metapackage of the kernel."""
    remedy = f"install it (sudo apt-get update; sudo apt-get install {package})"
    for tool in ("apt-get", "apt-cache", "dpkg-deb", "tar"):
        if shutil.which(tool) is None:
            raise GuestSetupError(
                f"the guest needs {package} and there is no {tool} to fetch it with: {remedy}"
            )
    depends = _run(["apt-cache", "depends", package], f"find the package {package}, {remedy}")
    real = re.search(r"Depends: (linux-image-\d\S*)", depends)
    _run(
        ["apt-get", "download", real[1] if real else package],
        f"download {package}, {remedy}",
        cwd=directory,
    )
    return next(directory.glob("*.deb"))


def _unpack_deb(deb: Path, target: Path, patterns: Sequence[str]) -> None:
    """Unpack what of `deb` matches; a pattern that matches nothing is no error."""
    archive = deb.with_suffix(".tar")
    with archive.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=file, check=True)
    extract = ["tar", "-x", "--wildcards", "--no-same-owner", "-f", str(archive), "-C", str(target)]
    subprocess.run([*extract, *patterns], check=False, stderr=subprocess.DEVNULL)
    archive.unlink()
    if not any(target.iterdir()):
        raise GuestSetupError(f"{deb.name} holds none of {', '.join(patterns)}")


def _run(command: Sequence[str], purpose: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise GuestSetupError(f"cannot {purpose}: {reason[-1] if reason else command[0]}")
    return done.stdout


def _module_name(path: str) -> str:
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def _has_modules(modules: Path) -> bool:
    # Cloud kernels leave 9p out; a compression that Python cannot undo is no use either.
    index = modules / "modules.dep"
    return index.is_file() and re.search(r"/9p\.ko(\.xz|\.gz)?:", index.read_text()) is not None


def _version_key(image: Path) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", image.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _is_static(program: Path) -> bool:
    """Whether an ELF program has no interpreter (PT_INTERP), and so runs in an initramfs."""
    elf = program.read_bytes()
    (phoff,) = struct.unpack_from("<Q", elf, 0x20)
    phentsize, phnum = struct.unpack_from("<HH", elf, 0x36)
    types = [struct.unpack_from("<I", elf, phoff + i * phentsize)[0] for i in range(phnum)]
    return 3 not in types
