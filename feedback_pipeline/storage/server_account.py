"""The account the embedded server runs under, and how it reaches its directories; standard library only.

As root the server runs under an unprivileged account, since postgres refuses root. Where that account cannot reach the
data directory or the binaries (a parent directory with mode 0700), `setpriv` leaves it the one capability to pass.
"""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback_pipeline.storage.parent_death import tie_to_parent

# Preferred first: reading directories only; a container's default set often has just the second.
_PASSING_CAPABILITIES = (("dac_read_search", 2), ("dac_override", 1))


class ServerError(Exception):
    """The server cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The account the server runs under: `uid` None = the caller's own; `prefix` = command that changes to it."""

    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start the command under this account; the kernel interrupts it when this process dies (Linux)."""
        if self.prefix:
            return subprocess.Popen([*self.prefix, *command], **options)  # noqa: S603
        if self.uid is not None:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return subprocess.Popen(command, preexec_fn=tie_to_parent(signal.SIGINT), **options)  # noqa: S603


def choose_account(data: Path, binaries: Path) -> Account:
    """The account for the server on `data`, whose parent directory exists.

    Raises:
        ServerError: There is no unprivileged account, or none that can reach the directories.
    """
    if os.geteuid() != 0:
        return Account()
    owner = _unprivileged(data)
    account = Account(owner.pw_uid, owner.pw_gid)
    if _reaches(account, data.parent, binaries):
        return account
    setpriv = shutil.which("setpriv")
    effective = _effective_capabilities()
    for name, bit in _PASSING_CAPABILITIES:
        if not setpriv or not effective >> bit & 1:
            continue
        # no_setuid_fixup: else access(2) answers without the capability and the binaries do not find themselves.
        identity = f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"
        keeping = f"--inh-caps=+{name}", f"--ambient-caps=+{name}", "--securebits=+no_setuid_fixup"
        capable = Account(owner.pw_uid, owner.pw_gid, (setpriv, *identity, *keeping, "--pdeathsig=INT", "--"))
        if _reaches(capable, data.parent, binaries):
            return capable
    raise ServerError(
        f"the server runs as '{owner.pw_name}' because postgres refuses root, and that account cannot enter "
        f"{_barrier(owner, data.parent, binaries)}; allow it with chmod o+x, move FEEDBACK_HOME, or run as a normal user"
    )


def _unprivileged(data: Path) -> pwd.struct_passwd:
    candidates: list[str | int] = ["postgres", "nobody"]
    if data.exists() and data.stat().st_uid != 0:
        candidates.insert(0, data.stat().st_uid)
    for candidate in candidates:
        try:
            found = pwd.getpwuid(candidate) if isinstance(candidate, int) else pwd.getpwnam(candidate)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return found
    raise ServerError("postgres refuses root and there is no account 'postgres' or 'nobody'; add one or run as a normal user")


def _reaches(account: Account, folder: Path, binaries: Path) -> bool:
    script = 'cd "$1" && "$2" --version'
    probe = ["/bin/sh", "-c", script, "sh", str(folder), str(binaries / "postgres")]
    try:
        process = account.popen(probe, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    except OSError:
        return False
    return process.wait() == 0


def _effective_capabilities() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next((line for line in status.read_text().splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return int(line.split()[1], 16)


def _barrier(account: pwd.struct_passwd, *targets: Path) -> Path:
    """The first directory on the way that the account may not enter."""
    for target in targets:
        for folder in [*reversed(target.resolve().parents), target.resolve()]:
            facts = folder.stat()
            shared = stat.S_IXGRP if facts.st_gid == account.pw_gid else stat.S_IXOTH
            if not facts.st_mode & (stat.S_IXUSR if facts.st_uid == account.pw_uid else shared):
                return folder
    return targets[0]


def own_directory(path: Path, account: Account) -> None:
    """A directory with mode 0700 that belongs to the account.

    Raises:
        ServerError: Something else lies there, or it belongs to somebody else.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    facts = path.lstat()
    mine = {os.geteuid(), os.geteuid() if account.uid is None else account.uid}
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in mine:
        raise ServerError(f"{path} is not a directory of this account; remove it")
    path.chmod(0o700)
    if account.uid is not None and account.gid is not None:
        os.chown(path, account.uid, account.gid)
