"""The account that PostgreSQL runs under: it refuses root, the usual user in a container."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from pitboss.embedded.errors import OWN_SERVERS, PartMissing
from pitboss.embedded.processes import Account

CANDIDATES = ("postgres", "nobody")


def server_account(data: Path) -> Account | None:
    """Return the account to run the server under; None for our own, unless that is root.

    An existing data folder decides: only its owner can open it. Raises PartMissing where there is
    no account.
    """
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    owner = data.stat().st_uid if data.exists() else 0
    for entry in (
        *(e for e in known.values() if e.pw_uid == owner != 0),
        *(known.get(n) for n in CANDIDATES),
    ):
        if entry is not None:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    candidates = " or ".join(CANDIDATES)
    raise PartMissing(
        f"PostgreSQL does not run as root, and this machine has no account {candidates} to run it "
        f"under: start pitboss as an ordinary user, {OWN_SERVERS}"
    )


def grant_access(
    account: Account, folder: Path, programs: Path, progress: Callable[[str], None]
) -> None:
    """Let the account reach its data and run the programs, where root's umask or home prevents it.

    It adds only the rights to pass through the folders above and to read the wheel's files.
    """
    for path in (folder, programs):
        for above in (path, *path.parents):
            if not above.stat().st_mode & stat.S_IXOTH:
                progress(f"letting the account {account.name} pass through {above} (chmod o+x)")
                above.chmod(above.stat().st_mode | stat.S_IXOTH)
    if not _can_run(account, programs / "postgres"):
        package = programs.parent.parent
        for path in (package, package.with_name(f"{package.name}.libs")):
            progress(f"letting the account {account.name} read {path} (chmod -R o+rX)")
            command = ["/bin/chmod", "-R", "o+rX", str(path)]
            subprocess.run(command, check=False)  # noqa: S603 - a fixed command


def _can_run(account: Account, program: Path) -> bool:
    try:
        run = subprocess.run(  # noqa: S603 - a program of the wheel
            [str(program), "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
            cwd="/",
        )
    except PermissionError:
        return False
    return run.returncode == 0
