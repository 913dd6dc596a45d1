"""The same `keepfit up` on other streams, over HTTP: electricity prices, pictures of a changing camera, texts of moving topics.

Beside each: the first champion, never renewed, on the same rows; for prices also the no-change baseline, which says again what
was true half an hour before and is strong, since prices go up and down for hours.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import keepfit as kf
from benchmarks.continual import FOLDER as FASHION
from benchmarks.loop import live
from benchmarks.measuring import is_quick, mutant, told
from keepfit.store.registry import Registry

GOAL = "keepfit up on prices, pictures of a changed camera, texts of new topics: better than never renewed, no failed request"
PACE = float(os.environ.get("KEEPFIT_LOOP_PACE", "1"))
"""Where a training takes long, as on a machine that others use too, rows should come more slowly as well."""
SHARED = Path(os.environ.get("KEEPFIT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
Rows = list[tuple[Any, Any]]


def main() -> int:
    """One JSON line; a stream whose data is not there is left out, with the reason."""
    streams: dict[str, Callable[[Path], dict[str, Any]]] = {"prices": prices, "pictures": pictures, "texts": texts}
    asked = sys.argv[sys.argv.index("--only") + 1].split(",") if "--only" in sys.argv else list(streams)
    found: dict[str, Any] = {}
    for name in asked:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = streams[name](Path(folder))
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    run = [one for one in found.values() if "skipped" not in one]
    good = all(one["accuracy"] > one["never"] and not one["failed"] for one in run)
    return told(GOAL, found, "accuracy above that of the first champion", bool(run) and good)


def measured(home: Path, rows: Rows, change: int, late: int, rows_per_s: float) -> dict[str, Any]:
    """The loop on these rows; accuracy before and after the row at which the world changes, and without a loop."""
    right, failed, summary, versions = live(home, rows, late, rows_per_s * PACE)
    first = kf.load(Registry(home).get("m", 1).path).predict([x for x, _ in rows])
    still = [one == y for one, (_, y) in zip(first.labels, rows, strict=True)]
    quarter = (len(rows) - change) // 4

    def share(some: Sequence[bool]) -> float:
        return round(float(np.mean(some)), 4)

    return {
        "rows": len(rows),
        "accuracy": share(right),
        "never": share(still),
        "before_change": share(right[:change]) if change else None,
        "after_change_by_quarter": [share(right[change + n * quarter : change + (n + 1) * quarter]) for n in range(4)],
        "never_after_change": share(still[change:]),
        "failed": failed,
        "versions": versions,
        "decisions": summary["decisions"],
    }


def recipe(home: Path, text: str) -> None:
    """The recipe of the mutant or the real one."""
    more = ", when: []" if mutant() == "trigger_off" else ""
    (home / "r.yaml").write_text(text.replace("MORE", more))


def prices(home: Path) -> dict[str, Any]:
    """Whether the price of electricity in New South Wales goes up, every half hour, labels a day late."""
    place = SHARED / "drift" / "electricity_nsw.csv.gz"
    if not place.is_file():
        return {"skipped": f"{place} is not there"}
    with gzip.open(place, "rt") as file:
        lines = list(csv.DictReader(file))
    first, some = lines[:2000], lines[2000 : 2000 + (3000 if is_quick() else 16000)]
    with (home / "first.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(first[0]))
        writer.writeheader()
        writer.writerows(first)
    recipe(home, "version: 1\nname: m\ndata: {source: first.csv, target: class}\nmodel: {use: gbdt}\nserve: {port: 0}\n"
           "retrain: {rows: 300, cool_down: 1s MORE}\n")  # fmt: skip
    rows = [({k: v for k, v in line.items() if k != "class"}, int(line["class"])) for line in some]
    truth = np.array([y for _, y in rows])
    found = measured(home, rows, 0, 48, 60.0)
    half_hour, day = (round(float(np.mean(truth[back:] == truth[:-back])), 4) for back in (1, 48))
    return {**found, "no_change_half_hour_before": half_hour, "no_change_a_day_before": day}


def pictures(home: Path) -> dict[str, Any]:
    """Fashion pictures; in the middle of the stream the camera gets darker and loses its focus."""
    if not FASHION.is_dir():
        return {"skipped": f"{FASHION} is not there"}
    from PIL import Image, ImageFilter

    raw = {
        part: gzip.decompress((FASHION / f"train-{part}-ubyte.gz").read_bytes())
        for part in ("images-idx3", "labels-idx1")
    }
    pixels = np.frombuffer(raw["images-idx3"], np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(raw["labels-idx1"], np.uint8, offset=8)
    names = [f"kind{one}" for one in labels]

    def png(number: int, changed: bool) -> bytes:
        picture = Image.fromarray(pixels[number])
        if changed:
            picture = picture.filter(ImageFilter.GaussianBlur(1.2)).point([int(0.45 * value) for value in range(256)])
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    for number in range(1500):
        place = home / "first" / names[number] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(number, False))
    count, change = (1500, 600) if is_quick() else (4000, 1200)
    rows = [({"image": base64.b64encode(png(1500 + n, n >= change)).decode()}, names[1500 + n]) for n in range(count)]
    recipe(home, "version: 1\nname: m\nmodality: image\ndata: {source: first}\nmodel: {use: cnn, size: 28, width: 0.5}\n"
           "train: {epochs: 6, early_stop: 'off'}\nserve: {port: 0}\n"
           "retrain: {rows: 300, memory: 400, cool_down: 1s MORE}\n")  # fmt: skip
    return measured(home, rows, change, 100, 12.0)


def texts(home: Path) -> dict[str, Any]:
    """Requests to an assistant, four intents; in the middle of the stream people begin to ask for three others as well."""
    place = SHARED / "text" / "snips_intents.csv.gz"
    if not place.is_file():
        return {"skipped": f"{place} is not there"}
    with gzip.open(place, "rt", encoding="utf-8") as file:
        lines = [(line["text"], line["intent"]) for line in csv.DictReader(file)]
    draw = np.random.default_rng(0)
    lines = [lines[n] for n in draw.permutation(len(lines))]
    early = ("PlayMusic", "GetWeather", "BookRestaurant", "RateBook")
    known = [line for line in lines if line[1] in early]
    count, change = (2000, 700) if is_quick() else (6000, 2000)
    used = known[: 1000 + change]
    left = [line for line in lines if line not in set(used)]
    later = [left[n] for n in draw.permutation(len(left))][: count - change]
    with (home / "first.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "intent"])
        writer.writerows(used[:1000])
    recipe(home, "version: 1\nname: m\nmodality: text\ndata: {source: first.csv, target: intent}\nmodel: {use: tfidf}\n"
           "serve: {port: 0, new_classes: true}\nretrain: {rows: 200, cool_down: 1s MORE}\n")  # fmt: skip
    return measured(home, [*used[1000:], *later], change, 100, 20.0)


if __name__ == "__main__":
    sys.exit(main())
