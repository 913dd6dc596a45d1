"""Runs every console, python and javascript block of docs/how-to/serve.md against a live server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serve_real import write_bundle

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "serve.md"
BLOCKS = re.findall(r"```(console|python|javascript)\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_has_its_blocks():
    assert [kind for kind, _ in BLOCKS] == ["console", "python", "console", "python", "console", "javascript"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_every_block_runs(tmp_path, live_of):
    pytest.importorskip("tritonclient.http")
    server = live_of("serve_real.py", str(write_bundle(tmp_path / "bundle")))
    try:
        for kind, text in BLOCKS:
            text = text.replace("127.0.0.1:8000", server.host)
            if kind == "javascript":
                if shutil.which("node") is None:
                    continue
                shown = (
                    'const token = "none is asked for";' + text + "console.log(prediction, probabilities, request_id);"
                )
                command = ["node", "--input-type=module", "-e", shown]
            else:
                command = ["sh", "-ec", text] if kind == "console" else [sys.executable, "-c", text]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, ""), text
            assert done.stdout.strip(), text
            assert '"error"' not in done.stdout, done.stdout
    finally:
        server.close()
