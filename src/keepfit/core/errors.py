"""The one tree of errors a user can meet; each has a stable code and an exit code.

KeepfitError
|- UsageError        2  the command line
|- RecipeError       2  the recipe file or an override
|- DataError         3  a source, a row, a target
|- GateError         4  quality, parity, budget or leak refused
|- EnvironmentFault  5  missing extra, disk full, port taken, damaged file
`- InternalFault     1  our own mistake
"""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Iterable


class KeepfitError(Exception):
    """What failed, where, what was seen, what to try. `code` is stable; `exit_code` is what the command line returns."""

    exit_code = 1
    family = "internal"

    def __init__(self, code: str, what: str, *, where: str = "", seen: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.where, self.seen, self.hint = code, what, where, seen, hint

    def __str__(self) -> str:
        lines = [f"{self.family} error [{self.code}]: {self.what}"]
        lines += [
            f"  {label}: {text}"
            for label, text in (("where", self.where), ("seen", self.seen), ("try", self.hint))
            if text
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, str]:
        """The machine-readable form: code, message, where, hint."""
        message = f"{self.what} (seen: {self.seen})" if self.seen else self.what
        return {"code": self.code, "message": message, "where": self.where, "hint": self.hint}


class UsageError(KeepfitError):
    """The command line is wrong."""

    exit_code, family = 2, "usage"


class RecipeError(KeepfitError):
    """The recipe or an override is wrong."""

    exit_code, family = 2, "recipe"


class DataError(KeepfitError):
    """The data cannot be used as asked."""

    exit_code, family = 3, "data"


class GateError(KeepfitError):
    """A gate refused: quality, parity, budget or leak."""

    exit_code, family = 4, "gate"


class EnvironmentFault(KeepfitError):
    """The machine cannot do it: missing extra, full disk, taken port, damaged file."""

    exit_code, family = 5, "environment"


class InternalFault(KeepfitError):
    """A fault of Keepfit itself."""


_SAME = {"auroc": "roc_auc", "auc": "roc_auc", "acc": "accuracy", "f1": "f1_macro", "r_squared": "r2", "mse": "rmse"}
"""Other names of what people look for, which no distance of letters finds."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for an unknown name, or the list of known names when nothing is near."""
    names = [str(item) for item in known]
    folded = {item.lower(): item for item in names}
    if _SAME.get(name.lower()) in folded:
        return f"did you mean {_SAME[name.lower()]!r}?"
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    shown = ", ".join(sorted(names)[:20])
    return f"known: {shown}" if shown else ""


def from_os_error(error: OSError, doing: str) -> EnvironmentFault:
    """An operating-system error in our four parts."""
    hints = {
        errno.ENOSPC: ("disk_full", "free some space or choose another --workspace"),
        errno.EACCES: ("not_permitted", "choose a folder you may write to, or change its permissions"),
        errno.EPERM: ("not_permitted", "choose a folder you may write to, or change its permissions"),
        errno.EROFS: ("read_only", "choose a folder on a writable disk, for example --workspace DIR"),
        errno.EDQUOT: ("disk_full", "your quota is used up: free some space"),
        errno.EFBIG: ("disk_full", "the system lets no file grow so large here: free some space or raise the limit"),
        errno.ENOTDIR: ("not_a_folder", "a file stands where a folder must be: choose another place"),
        errno.EEXIST: ("not_a_folder", "a file stands where a folder must be: choose another place"),
        errno.EISDIR: ("is_a_folder", "a folder stands where a file must be: choose another name"),
        errno.EADDRINUSE: ("port_taken", "choose another --port"),
    }
    code, hint = hints.get(error.errno or 0, ("os_error", "see the message of the operating system"))
    return EnvironmentFault(
        code, f"{doing} failed", where=str(error.filename or ""), seen=error.strerror or str(error), hint=hint
    )


def missing_extra(extra: str, module: str) -> EnvironmentFault:
    """The one install line for an extra that is not there."""
    return EnvironmentFault(
        "missing_extra",
        f"this needs the extra {extra!r}",
        where=f"Python {sys.executable}",
        seen=f"module {module!r} is not installed",
        hint=f"pip install 'keepfit[{extra}]'",
    )
