"""Every broken input gives a coded error with the documented exit code, four parts, no traceback and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from broken_table import CASES, SERVED, Broken, ages, recipe

from keepfit.cli import main

MEANING = {2: ("usage", "recipe"), 3: ("data",), 4: ("gate",), 5: ("environment",)}


def check_error(stdout: str, stderr: str, exit_code: int, code: str) -> dict[str, str]:
    """The JSON error of the last line of stdout, once it is as the contract says."""
    error: dict[str, str] = json.loads(stdout.splitlines()[-1])["error"]
    assert error["code"] == code, error
    assert list(error) == ["code", "message", "where", "hint"] and all(isinstance(v, str) for v in error.values())
    assert error["message"]
    assert "Traceback" not in stderr
    assert any(f"{family} error [{code}]" in stderr for family in MEANING[exit_code]), stderr
    return error


def check_nothing_left(folder: Path, before: set[Path], bundles: int) -> None:
    new = {path for path in folder.rglob("*") if path.suffix in (".part", ".old")} - before
    assert not new
    assert len([path for path in folder.rglob("bundle.json") if ".keepfit" not in path.parts]) == bundles
    assert not (folder / "answers.csv").is_file() and not (folder / "new.yaml").exists()


@pytest.mark.parametrize("broken", CASES, ids=lambda broken: broken.name)
def test_broken(
    broken: Broken, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KEEPFIT_NOT_SET", raising=False)
    monkeypatch.setenv("KEEPFIT_SET", "secret")
    monkeypatch.chdir(tmp_path)
    arguments = broken.make(tmp_path, finished.bundle)
    before, bundles = set(tmp_path.rglob("*")), len(list(tmp_path.rglob("bundle.json")))
    try:
        exit_code = main.run([*arguments, "--json"])
    finally:
        while SERVED:
            SERVED.pop().close()
    out, err = capsys.readouterr()
    assert exit_code == broken.exit_code, err
    error = check_error(out, err, exit_code, broken.code)
    assert broken.where in error["where"], error
    check_nothing_left(tmp_path, before, bundles)


def test_init_leaves_an_existing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(ages)
    (tmp_path / "there.yaml").write_text("mine")
    assert main.run(["init", str(tmp_path / "t.csv"), "-o", str(tmp_path / "there.yaml")]) == 2
    assert (tmp_path / "there.yaml").read_text() == "mine"


BLOCKED = """
import sys
sys.modules[sys.argv[1]] = None
from keepfit.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("module", ["sklearn", "lightgbm", "onnx", "onnxmltools", "matplotlib"])
def test_missing_extra(module: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(ages)
    command = [
        sys.executable,
        "-c",
        BLOCKED,
        module,
        "run",
        str(recipe(tmp_path, columns="")),
        "--json",
        "--workspace",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, done.stderr
    error = check_error(done.stdout, done.stderr, 5, "missing_extra")
    assert "pip install 'keepfit[tables]'" in error["hint"]
    check_nothing_left(tmp_path, set(), 0)


@contextmanager
def small_disk(folder: Path, size_kb: int, options: str = "") -> Iterator[Path]:
    """A tmpfs of a few kB; skips where the machine does not let us mount one."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k{options}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size_kb", [4, 24, 100, 180])
def test_full_disk(size_kb: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(ages)
    with small_disk(tmp_path, size_kb) as disk:
        code = main.run(["run", str(recipe(tmp_path, columns="")), "--json", "--workspace", str(disk)])
        out, err = capsys.readouterr()
        assert code == 5, err
        check_error(out, err, 5, "disk_full")
        check_nothing_left(disk, set(), 0)


def test_read_only_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(ages)
    with small_disk(tmp_path, 500, ",ro") as disk:
        code = main.run(["run", str(recipe(tmp_path, columns="")), "--json", "--workspace", str(disk)])
        out, err = capsys.readouterr()
        assert code == 5, err
        check_error(out, err, 5, "read_only")


LIMITED = """
import resource, sys
from keepfit.cli.main import run
import keepfit.engine.run, keepfit.modalities.tabular.learn, lightgbm, matplotlib.font_manager
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [30_000])
def test_file_size_limit(limit: int, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(ages)
    command = [
        sys.executable,
        "-c",
        LIMITED,
        str(limit),
        "run",
        str(recipe(tmp_path, columns="")),
        "--json",
        "--workspace",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, (done.stdout, done.stderr)
    check_error(done.stdout, done.stderr, 5, "disk_full")
    check_nothing_left(tmp_path, set(), 0)


@pytest.mark.parametrize("limit", [500])
def test_predict_to_a_full_disk(limit: int, finished: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(finished.path.parents[2].joinpath("small.csv").read_text("utf-8"), "utf-8")
    for ending in ("csv", "parquet", "jsonl"):
        goal = tmp_path / f"answers.{ending}"
        command = [
            sys.executable,
            "-c",
            LIMITED,
            str(limit),
            "predict",
            str(finished.bundle),
            str(tmp_path / "t.csv"),
            "-o",
            str(goal),
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 5, (done.stdout, done.stderr)
        check_error(done.stdout, done.stderr, 5, "disk_full")
        assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}


def test_predict_prints_nothing_before_it_refuses(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert main.run(["predict", str(finished.bundle), str(tmp_path / "t.csv")]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "data error [column_missing]" in err and "where:" in err and "try:" in err


def test_a_test_file_without_the_target_is_told_which_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(ages)
    (tmp_path / "b.csv").write_text("\n".join(line.rpartition(",")[0] for line in ages.splitlines()))
    (tmp_path / "r.yaml").write_text("data: {train: a.csv, test: b.csv, target: answer}\nmodel: {use: linear}\n")
    assert main.run(["run", str(tmp_path / "r.yaml"), "--workspace", str(tmp_path)]) == 3
    assert "the target column 'answer' is absent from data.test" in capsys.readouterr().err


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    command = [sys.executable.encode(), b"-m", b"keepfit", b"check", b"\xff\xfe.yaml", b"--json"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    check_error(done.stdout.decode(), done.stderr.decode(), 2, "no_recipe")


def test_the_table_is_long_enough() -> None:
    names = Counter(broken.name for broken in CASES)
    assert max(names.values()) == 1, names.most_common(3)
    assert len(CASES) >= 100
    assert {broken.exit_code for broken in CASES} == {2, 3, 5}
    assert len({broken.code for broken in CASES}) >= 40
