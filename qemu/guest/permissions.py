"""Whether a user could read what a guest is asked to run; asked before the guest is started."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import GuestSetupError


@dataclass(frozen=True)
class Reader:
    """A user, as far as the mode bits of a file know one."""

    name: str
    uid: int
    gids: frozenset[int]

    @classmethod
    def myself(cls) -> Reader:
        """Describe this process's user, who need not be in /etc/passwd."""
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"user {uid}"
        return cls(name, uid, frozenset({os.getegid(), *os.getgroups()}))

    @classmethod
    def named(cls, name: str) -> Reader:
        """Look `name` up in the host's user database. Raises GuestSetupError."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise GuestSetupError(f"there is no user {name} on this machine") from error
        gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(name, entry.pw_uid, frozenset(gids))

    def check(self, paths: Iterable[Path]) -> None:
        """Raise GuestSetupError for the first of `paths` that this user could not read."""
        for path in paths:
            barrier = self._barrier(path)
            if barrier is not None:
                raise GuestSetupError(
                    f"the guest cannot use {path}, because {self.name} may not read {barrier}: "
                    f"put it where {self.name} can, or make it readable"
                )

    def _barrier(self, path: Path) -> Path | None:
        """Find the first of `path` and what is above it that may not be read or entered."""
        if self.uid == 0:
            return None
        for part in [*reversed(path.parents), path]:
            try:
                info = part.stat()
            except PermissionError:
                return part.parent
            except OSError:
                return None  # not there: the command will say so itself
            shift = 6 if info.st_uid == self.uid else 3 if info.st_gid in self.gids else 0
            needed = 0o4 if part.is_file() else 0o5 if part == path else 0o1
            if (info.st_mode >> shift) & needed != needed:
                return part
        return None
