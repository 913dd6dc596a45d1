"""A service whose loop was killed before it could answer is ended, not left beside the next; a stranger's process is left alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.loop.service import Service


@pytest.mark.parametrize(("argument", "left"), [("m@champion", False), ("something else", True)])
def test_what_is_found_running(tmp_path: Path, argument: str, left: bool):
    code = "import time; print(flush=True); time.sleep(60)"
    found = subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE)
    try:
        assert (
            found.stdout is not None and found.stdout.readline()
        )  # the system says its arguments a moment after it has begun
        service = Service("m", tmp_path, "127.0.0.1", 0, [])
        service.folder.mkdir(parents=True)
        (service.folder / "service.json").write_text(json.dumps({"pid": found.pid, "port": 0}))
        assert not service._taken_over() and not service.pid
        assert (found.poll() is None) == left
    finally:
        found.kill()
        found.communicate()
