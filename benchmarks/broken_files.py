"""300 broken files beside good ones: no crash, bounded memory, each bad item told, the model that of the cleaned set.

100 pictures (truncated, empty, text, bombs, animated, CMYK) and 200 tables (ragged lines, NUL, bytes of no encoding, lines in
several encodings, byte order marks, NaN and infinity, empty, cut gzip, binary, CSV and workbook cells with formulas, values not
stored, entity bombs). The cleaned set is the same without what cannot be read, and with cells as they are after the repair;
animated and CMYK pictures can be read, and are the same in both. All of it is learned from: validation and test rows are files
of their own, since a row's place in a split follows from its text. Each run is a process of its own, whose peak memory is taken.

`--mutant stop` lets a file that cannot be read end the run: it must miss the goal. `--quick` is a fifth of the files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import is_quick, mutant, told

GOAL = "300 broken files: no crash, peak under 1 GB, each told with file, row and reason, model as from the cleaned set"
_RELS = '<Relationships><Relationship Id="r1" Target="worksheets/sheet1.xml"/></Relationships>'
_BOOK = '<workbook xmlns:r="r"><sheets><sheet name="A" sheetId="1" r:id="r1"/></sheets></workbook>'
CHILD = """
import json, resource, sys
import keepfit as kf
from keepfit.core.errors import KeepfitError
if sys.argv[2] == "stop":
    from keepfit.stages import ingest
    ingest.WHOLE_FILE = ()
try:
    run = kf.run(sys.argv[1], workspace=sys.argv[1] + ".ws")
    print(json.dumps({"run": str(run.path), "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
except KeepfitError as error:
    print(json.dumps({"error": str(error)[:300]}))
"""


def rows_of(rng: random.Random, count: int = 8) -> list[list[str]]:
    """Rows of two numbers, a name and the class."""
    made = []
    for _ in range(count):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        made.append([f"{a:.4f}", f"{b:.4f}", rng.choice(["Zoë", "Ann", "Jürgen"]), "yes" if a + b > 0 else "no"])
    return made


def text_of(rows: list[list[str]]) -> bytes:
    """A CSV file."""
    return "".join(",".join(row) + "\n" for row in [["a", "b", "name", "y"], *rows]).encode()


def sheet(rows: list[list[str]], second: str = "", doctype: str = "") -> bytes:
    """A workbook; `second` is the XML of the second cell of the first row."""

    def cell(text: str) -> str:
        return f'<c t="str"><v>{text}</v></c>' if text else "<c/>"

    body = [[cell(text) for text in row] for row in [["a", "b", "name", "y"], *rows]]
    body[1][1] = second or body[1][1]
    data = "".join(f"<row>{''.join(row)}</row>" for row in body)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/workbook.xml", _BOOK)
        file.writestr("xl/_rels/workbook.xml.rels", _RELS)
        file.writestr("xl/worksheets/sheet1.xml", f"{doctype}<worksheet><sheetData>{data}</sheetData></worksheet>")
    return out.getvalue()


def broken_table(kind: int, rng: random.Random) -> tuple[str, bytes, bytes | None]:
    """The ending, the broken file, and the cleaned one (None: nothing of it can be read)."""
    rows = rows_of(rng)
    clean, lines = text_of(rows), text_of(rows).split(b"\n")
    empty = [[rows[0][0], "", *rows[0][2:]], *rows[1:]]
    blank = sheet(empty)
    odd = [[row[0], text, *row[2:]] for row, text in zip(rows, ("NaN", "inf", "-Infinity", "1e999"), strict=False)]
    gone = [[row[0], "", *row[2:]] for row in rows[:4]]
    mixed = b"\n".join(line.decode().encode("cp1252") if n % 2 else line for n, line in enumerate(lines))
    return [
        ("csv", text_of([*odd, *rows[4:]]), text_of([*gone, *rows[4:]])),
        ("csv", text_of([[rows[0][0], "=1/0", *rows[0][2:]], *rows[1:]]), text_of(empty)),
        ("csv", mixed, clean),
        ("csv", b"\n".join([*lines[:4], b"1,2", *lines[4:]]), clean),
        ("csv", b"\n".join([*lines[:6], b"1,2,3,4,5,6", *lines[6:]]), clean),
        ("csv", clean.replace(b",", b"\x00,", 3).replace(b"a\x00", b"a"), clean),
        ("csv", b"\xef\xbb\xbf" + clean, clean),
        ("csv", b"\n".join([*lines[:3], b"x\xff\xfe\xfa", *lines[3:]]), clean),
        ("csv", b"", None),
        ("csv.gz", gzip.compress(clean * 9)[:60], None),
        ("csv", bytes(range(256)) * 8, None),
        ("xlsx", sheet(rows, '<c t="e"><f>1/0</f><v>#DIV/0!</v></c>'), blank),
        ("xlsx", sheet(rows, "<c><f>B9</f></c>"), blank),
        ("xlsx", sheet(rows, "", '<!DOCTYPE a [<!ENTITY b "c">]>'), None),
        ("xlsx", b"PK\x03\x04 no workbook", None),
    ][kind % 15]


def tables(broken: Path, clean: Path, count: int) -> int:
    """Write both sets of tables; returns how many files are broken."""
    rng = random.Random(0)
    for number in range(20):
        for place in (broken, clean):
            rng.seed(number)
            (place / f"good{number:03}.csv").write_bytes(text_of(rows_of(rng)))
    for number in range(count):
        rng.seed(1000 + number)
        ending, bad, good = broken_table(number, rng)
        (broken / f"odd{number:03}.{ending}").write_bytes(bad)
        if good is not None:
            (clean / f"odd{number:03}.{ending}").write_bytes(good)
    return count


def picture(rng: random.Random, label: str, form: str = "PNG") -> bytes:
    """A small picture, brighter above for one class and below for the other."""
    image = drawn(rng, label)
    out = io.BytesIO()
    if form == "GIF":
        image.save(out, form, save_all=True, append_images=[image.rotate(90), image.rotate(180)], duration=50)
    else:
        (image.convert("CMYK") if form == "CMYK" else image).save(out, "JPEG" if form == "CMYK" else form)
    return out.getvalue()


def drawn(rng: random.Random, label: str) -> Any:
    """The same as a Pillow image."""
    from PIL import Image

    image = Image.new("RGB", (24, 24))
    image.putdata(
        [
            tuple(min(255, max(0, int(rng.gauss(170 if (y < 12) == (label == "up") else 70, 30)))) for _ in range(3))
            for y in range(24)
            for _ in range(24)
        ]
    )
    return image


def pictures(broken: Path, clean: Path, count: int) -> int:
    """Write both sets of pictures; returns how many files cannot be read."""
    import struct
    import zlib

    rng = random.Random(1)
    for label in ("up", "down"):
        for place in (broken, clean):
            (place / label).mkdir()
        for number in range(40):
            data = picture(rng, label)
            for place in (broken, clean):
                (place / label / f"{number:03}.png").write_bytes(data)
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    for number in range(count):
        label = ("up", "down")[number % 2]
        data = picture(rng, label, "JPEG")
        kinds = [data[: len(data) // 3], b"", b"no picture at all", bomb + b"\0" * 60, picture(rng, label)[:90]]
        kinds += [picture(rng, label, "GIF"), picture(rng, label, "CMYK")]
        bad = kinds[number % 7]
        ending = {bomb[:4]: "png", b"GIF8": "gif"}.get(bad[:4], "jpg")
        for place in (broken, clean)[: 1 + (number % 7 > 4)]:
            (place / label / f"odd{number:03}.{ending}").write_bytes(bad)
    return count


def trained(recipe: Path, mode: str) -> dict[str, object]:
    """One run in a process of its own."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(recipe), mode], capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {"error": f"crash: {done.stderr[-400:]}"}


def told_files(run: str) -> set[str]:
    """Files with an entry in the ledger that names file, row and rule."""
    import duckdb

    sql = f"select distinct source from '{run}/ledger.parquet' where source <> '' and rule <> '' and row is not null"
    return {str(source).split("#")[0].rpartition("/")[2] for (source,) in duckdb.sql(sql).fetchall()}


def compared(folder: Path, kind: str, count: int, mode: str) -> dict[str, object]:
    """Both runs of one kind of input."""
    places = folder / f"{kind}-broken" / "data", folder / f"{kind}-clean" / "data"
    for place in places:
        place.mkdir(parents=True)
    (tables if kind == "tables" else pictures)(*places, count)
    said = (
        "data: {train: 'data/*', validation: 'held/v.csv', test: 'held/t.csv', target: y}\n"
        "model: {use: gbdt, params: {rounds: 20}}\n"
        if kind == "tables"
        else "data: {source: data}\nmodel: {use: cnn}\ntrain: {epochs: 2}\n"
    )
    runs = []
    for place in places:
        recipe = place.parent / "r.yaml"
        (place.parent / "held").mkdir()
        for name, seed in (("v", 5001), ("t", 5002)):
            (place.parent / "held" / f"{name}.csv").write_bytes(text_of(rows_of(random.Random(seed), 60)))
        recipe.write_text(f"version: 1\nname: r\n{said}")
        runs.append(trained(recipe, mode))
    if any("error" in run for run in runs):
        return {"errors": [str(run["error"]) for run in runs if "error" in run]}
    models = [hashlib.sha256(Path(str(run["run"]), "bundle", "model.onnx").read_bytes()).hexdigest() for run in runs]
    odd = {path.name for path in places[0].rglob("odd*")}
    marks = {
        path.name for path in places[0].rglob("odd*.csv") if path.read_bytes()[:3] == b"\xef\xbb\xbf"
    }  # nothing is changed
    silent = sorted(odd - marks - told_files(str(runs[0]["run"])))
    return {
        "files": len(odd),
        "silent": silent[:5],
        "same": models[0] == models[1],
        "mb": max(float(str(run["mb"])) for run in runs),
    }


def main() -> int:
    """Both kinds of input, each against its cleaned set."""
    share = 5 if is_quick() else 1
    with tempfile.TemporaryDirectory(prefix="keepfit-broken-") as scratch:
        found = {
            kind: compared(Path(scratch), kind, count // share, mutant() or "")
            for kind, count in (("tables", 200), ("pictures", 100))
        }
    good = all(
        "errors" not in one and one["same"] and not one["silent"] and float(str(one["mb"])) < 1024
        for one in found.values()
    )
    return told(GOAL, sum(int(str(one.get("files", 0))) for one in found.values()), 300 // share, good, **found)


if __name__ == "__main__":
    sys.exit(main())
