"""Copies files from remote storage through fsspec: s3, gs, az, http(s) and its other file systems by URL.

A recipe that names no URL never comes here; nothing else is asked for over the network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from keepfit.core.errors import DataError, EnvironmentFault, KeepfitError, from_os_error, missing_extra
from keepfit.runtime.reading import redacted

_BLOCK = 1 << 20
_EXTRA = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}


@cache
def copies_folder() -> Path:
    """The folder of this process for copies; it goes when the process ends."""
    holder = tempfile.TemporaryDirectory(prefix="keepfit-copies-")
    _KEPT.append(holder)
    return Path(holder.name)


_KEPT: list[Any] = []  # a TemporaryDirectory removes itself when nothing refers to it


def copy_place(source: str, name: str) -> Path:
    """Where the copy of a source lies: the same for the same source, under a name that says nothing secret."""
    folder = copies_folder() / hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    folder.mkdir(exist_ok=True)
    return folder / (re.sub(r"[^\w.()+=, -]", "_", name).lstrip(".")[:120] or "source")


def copies(source: str, *, fresh: bool = False) -> list[Path]:
    """The files that a URL or a glob of URLs names, copied a block at a time. Raises DataError, EnvironmentFault."""
    with faults(source):
        system, path = file_system(source)
        rest = source.partition("://")[2]
        names = sorted(system.glob(path)) if re.search(r"[*\[]", rest.partition("?")[0]) else [path]
        if not names:
            raise FileNotFoundError(redacted(source))
        return [_copied(system, name, fresh) for name in names]


def file_system(source: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it. Raises EnvironmentFault where a package is missing."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise missing_extra("remote", "fsspec") from None
    scheme, _, rest = source.partition("://")
    try:
        system, path = fsspec.core.url_to_fs(f"{scheme.lower()}://{rest}")
    except ImportError:
        module = _EXTRA.get(scheme.lower(), "")
        if module:
            raise missing_extra("remote", module) from None
        raise EnvironmentFault(
            "missing_module",
            f"the file system {scheme} needs a package of its own",
            where=redacted(source),
            hint="see the fsspec documentation for its name",
        ) from None
    except ValueError as error:
        raise DataError(
            "unreachable",
            "there is no such kind of address",
            where=redacted(source),
            seen=redacted(str(error))[:200],
            hint="s3://, gs://, az://, file://, http(s)://, or a folder of this machine",
        ) from None
    return system, str(path)


@contextmanager
def faults(source: str) -> Iterator[None]:
    """Every file system has errors of its own: OSError, aiohttp's, botocore's; here they become ours."""
    try:
        yield
    except KeepfitError:
        raise
    except Exception as error:
        raise _unreachable(source, error) from None


def _copied(system: Any, name: str, fresh: bool) -> Path:
    place = copy_place(name, name.partition("?")[0].rstrip("/").rpartition("/")[2])
    if place.exists() and not fresh:
        return place
    part = place.with_name(place.name + ".part")
    with system.open(name, "rb") as far:
        try:
            with part.open("wb") as near:
                shutil.copyfileobj(far, near, _BLOCK)
        except OSError as error:
            if error.filename or error.errno == 28:
                raise from_os_error(error, "copying a remote file") from None
            raise
    part.replace(place)
    return place


def _unreachable(source: str, error: Exception) -> DataError:
    """The refusal of a remote file that is absent or cannot be had."""
    absent = isinstance(error, FileNotFoundError)
    seen = redacted(str(error).splitlines()[0][:300]) if str(error) else type(error).__name__
    return DataError(
        "no_file" if absent else "unreachable",
        "there is no such remote file" if absent else "the remote file cannot be read",
        where=redacted(source),
        seen=seen,
        hint="open the address in a browser, or test your credentials with the storage's own command",
    )
