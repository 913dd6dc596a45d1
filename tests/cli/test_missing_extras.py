"""A verb whose extra is missing says the one line that installs it; nobody sees a traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from made_pictures import write_pictures, write_recipe

WALLED = """
import sys
BLOCKED = set(sys.argv[1].split(","))
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Wall())
from keepfit.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


def walled(folder, blocked, *arguments):
    """keepfit where some modules cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", WALLED, blocked, *map(str, arguments)], capture_output=True, text=True, cwd=folder
    )
    assert "Traceback" not in done.stderr, done.stderr[-800:]
    return done


@pytest.mark.parametrize("blocked", ["torch", "PIL", "onnxscript", "matplotlib"])
def test_a_recipe_of_pictures_without_the_extra(tmp_path, blocked):
    write_pictures(tmp_path / "pictures", 12)
    done = walled(tmp_path, blocked, "run", write_recipe(tmp_path), "--json", "-q")
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert (done.returncode, error["code"]) == (5, "missing_extra"), (done.stderr, error)
    assert error["hint"].startswith("pip install 'keepfit[") and repr(blocked) in error["message"]
    assert "pip install 'keepfit[" in done.stderr and not list((tmp_path / "runs").rglob("bundle.json"))


def test_a_network_for_tables_without_torch(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "version: 1\ndata: {source: 'sklearn:iris', target: target}\nmodel: {use: mlp}\ntrain: {epochs: 1}\n"
    )
    done = walled(tmp_path, "torch", "run", "r.yaml", "--json", "-q")
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert (done.returncode, error["code"]) == (5, "missing_extra") and "'torch'" in error["message"]


def test_a_bundle_of_pictures_without_pillow(finished_pictures, tmp_path):
    write_pictures(tmp_path / "pictures", 1)
    done = walled(tmp_path, "PIL", "predict", finished_pictures.bundle, "pictures")
    assert done.returncode == 5 and "pip install 'keepfit[image]'" in done.stderr, done.stderr
