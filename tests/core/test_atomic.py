"""What is written whole has the permissions that the user's umask leaves."""

from __future__ import annotations

import os
import stat

import pytest

from keepfit.core import atomic


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0o002, 0o664, 0o775)]
)
def test_the_umask_is_applied(tmp_path, mask, file, folder):
    old = os.umask(mask)
    try:
        atomic.write_bytes(tmp_path / "f", b"x")
        for _ in range(2):  # the second time over an old one
            with atomic.new_folder(tmp_path / "d") as scratch:
                (scratch / "g").write_bytes(b"x")
    finally:
        os.umask(old)
    found = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("f", "d", "d/g")]
    assert found == [file, folder, file] and sorted(p.name for p in tmp_path.iterdir()) == ["d", "f"]
