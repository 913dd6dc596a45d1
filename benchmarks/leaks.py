"""D3: planted leaks end the run before anything is trained; real sets without a leak go through.

Every leak is planted in data that is otherwise honest, and run with the default recipe. `--mutant report` turns the guard's
stop off, `--mutant off` the guard.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import is_quick, mutant, skipped, told
from keepfit import api
from keepfit.core.errors import GateError
from keepfit.core.events import silent

Row = dict[str, Any]
Rows = list[Row]
ANCHOR = {"stopped": "all", "false_stops": 0}


def honest(rows: int = 800, seed: int = 0, noise: float = 1.0) -> Rows:
    """A table that tells the target somewhat: numbers, two categories, a date, an amount for regressions."""
    rng = np.random.default_rng(seed)
    city = rng.integers(0, 12, rows)
    a, b, c = rng.normal(size=(3, rows))
    score = a + 0.6 * b * c + 0.1 * (city - 6) + noise * rng.normal(size=rows)
    days = rng.integers(0, 700, rows)
    return [
        {
            "age": round(40 + 12 * a[n], 1),
            "income": round(30000 * np.exp(0.4 * b[n])),
            "score": round(c[n], 4),
            "city": f"city {city[n]}",
            "plan": "abc"[rng.integers(3)],
            "seen": str(np.datetime64("2023-01-01") + days[n]),
            "amount": round(100 + 20 * score[n], 2),
            "y": "yes" if score[n] > 0.3 else "no",
        }
        for n in range(rows)
    ]


def halves(rows: Rows) -> tuple[Rows, Rows]:
    """Three quarters and the rest."""
    cut = 3 * len(rows) // 4
    return rows[:cut], rows[cut:]


def table(rows: Rows, without: tuple[str, ...] = ()) -> str:
    """CSV text."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [name for name in rows[0] if name not in without], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


Planted = tuple[dict[str, str | bytes], str, str]  # files, the data section, further lines


def one(rows: Rows, target: str, without: tuple[str, ...]) -> Planted:
    return {"d.csv": table(rows, without)}, f"{{source: d.csv, target: {target}}}", ""


def two(train: Rows, test: Rows, target: str = "y", without: tuple[str, ...] = ("amount", "seen")) -> Planted:
    files: dict[str, str | bytes] = {"a.csv": table(train, without), "b.csv": table(test, without)}
    return files, f"{{train: a.csv, test: b.csv, target: {target}}}", ""


def duplicates() -> Planted:
    train, test = halves(honest())
    return two(train, [*test[:170], *train[:20]])


def near_duplicates() -> Planted:
    train, test = halves(honest())
    copies = [{**row, "age": row["age"] + 0.01, "income": row["income"] + 3} for row in train[:25]]
    return two(train, [*test[:170], *copies])


def group() -> Planted:
    rng, rows = np.random.default_rng(0), []
    for patient, row in enumerate(honest(200)):
        for _ in range(4):
            rows.append({"patient_id": f"P{7 * patient % 1000:04d}", **row, "score": round(float(rng.normal()), 4)})
    order = rng.permutation(len(rows))
    return two(*halves([rows[n] for n in order]))


def time_backwards() -> Planted:
    rows = sorted(honest(), key=lambda row: str(row["seen"]))
    return two(rows[200:], rows[:200], without=("amount",))


def target_copy() -> Planted:
    return one([{**row, "status": {"yes": "churned", "no": "stays"}[row["y"]]} for row in honest()], "y", ("amount",))


def target_transform() -> Planted:
    rows = [{**row, "log_amount": round(float(np.log(row["amount"] + 50)), 5)} for row in honest()]
    return one([row for row in rows if row["amount"] > 0], "amount", ("y",))


def number_copy() -> Planted:
    """A copy among columns that tell nearly as much."""
    rng = np.random.default_rng(2)
    rows = [{**row, "taxed": round(row["amount"] * 1.19 + float(rng.normal(0, 0.5)), 2)} for row in honest()]
    return one([{**row, "billed": row["amount"]} for row in rows], "amount", ("y",))


def target_formula() -> Planted:
    rng = np.random.default_rng(1)
    rows = [{**row, "registered": float(rng.integers(0, 90))} for row in honest()]
    return one([{**row, "casual": round(row["amount"] - row["registered"], 2)} for row in rows], "amount", ("y",))


def identifier() -> Planted:
    rng, rows = np.random.default_rng(2), sorted(honest(), key=lambda row: str(row["y"]))
    steps = np.cumsum(rng.integers(3, 40, len(rows)))
    rows = [{"case_no": int(step) + 100_000, **row} for step, row in zip(steps, rows, strict=True)]
    return one([rows[n] for n in rng.permutation(len(rows))], "y", ("amount",))


def running_number() -> Planted:
    rows = [{"id": n + 1, **row} for n, row in enumerate(sorted(honest(), key=lambda row: str(row["y"])))]
    return one(rows, "y", ("amount",))


def file_name() -> Planted:
    rng = np.random.default_rng(3)
    names = {"yes": "fraud", "no": "regular"}
    rows = [
        {"scan": f"scans/{rng.integers(10**6)}/{names[row['y']]}_{rng.integers(10**5)}.pdf", **row} for row in honest()
    ]
    return one(rows, "y", ("amount",))


def after_event() -> Planted:
    rng = np.random.default_rng(4)
    rows = []
    for row in honest():
        gone = (row["y"] == "yes") ^ (rng.random() < 0.02)
        rows.append({**row, "closing_fee": round(float(rng.gamma(2, 30)), 2) if gone else ""})
    return one(rows, "y", ("amount",))


def target_means() -> Planted:
    rows = honest(1200)
    cities = {row["city"]: [r["y"] == "yes" for r in rows if r["city"] == row["city"]] for row in rows}
    return one([{**row, "city_rate": round(float(np.mean(cities[row["city"]])), 5)} for row in rows], "y", ("amount",))


def leave_one_out() -> Planted:
    rows = honest(1200)
    cities: dict[str, list[float]] = {}
    for row in rows:
        cities.setdefault(row["city"], []).append(row["amount"])
    made = [
        {**r, "city_mean": round((sum(cities[r["city"]]) - r["amount"]) / (len(cities[r["city"]]) - 1), 4)}
        for r in rows
    ]
    return one(made, "amount", ("y",))


def scaled() -> Planted:
    train, test = halves(honest())
    both = np.array([[row["age"], row["income"], row["score"]] for row in (*train, *test)], float)
    both[600:] += both.std(0) * 0.5
    both = (both - both.mean(0)) / both.std(0)
    rows = [
        {**row, **dict(zip(("age", "income", "score"), map(float, np.round(values, 5)), strict=True))}
        for row, values in zip((*train, *test), both, strict=True)
    ]
    return two(rows[: len(train)], rows[len(train) :])


_WORDS = ["plan", "train", "river", "stone", "light", "paper", "window", "garden", "music"]
_WORDS += ["winter", "answer", "letter", "market", "system", "travel", "money"]


def _text(rng: np.random.Generator, label: str, length: int = 14) -> str:
    more = ["good", "fine", "great"] if label == "yes" else ["bad", "poor", "awful"]
    words = [*rng.choice(_WORDS, length), *rng.choice(more, 2 if rng.random() < 0.8 else 0)]
    return " ".join(rng.permutation(words))


def near_texts() -> Planted:
    rng = np.random.default_rng(5)
    rows = [{"text": _text(rng, label), "y": label} for label in rng.choice(["yes", "no"], 600)]
    train, test = halves(rows)
    copies = [{**row, "text": row["text"].capitalize() + " !"} for row in train[:30]]
    files, data, _ = two(train, [*test, *copies])
    return files, data, "modality: text\n"


def text_label() -> Planted:
    rng = np.random.default_rng(6)
    rows = [{"text": f"{_text(rng, label)} tag{label}", "y": label} for label in rng.choice(["yes", "no"], 500)]
    return {"d.csv": table(rows)}, "{source: d.csv, target: y}", "modality: text\n"


def pictures() -> Planted:
    """Smaller and brighter copies of training pictures in the test folder."""
    from PIL import Image

    rng, out = np.random.default_rng(7), io.BytesIO()
    with zipfile.ZipFile(out, "w") as folder:
        for label in ("round", "flat"):
            for n in range(60):
                field = rng.normal(128, 30, (6, 6, 3)) + (30 if label == "round" else -30)
                picture = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).resize((48, 48), 3)
                _store(folder, f"{'test' if n >= 45 else 'train'}/{label}/{n}.png", picture)
                if n < 6:
                    _store(folder, f"test/{label}/copy{n}.png", picture.resize((40, 40)).point(lambda v: v * 0.95))
    return {"p.zip": out.getvalue()}, "{source: p.zip}", "modality: image\nmodel: {use: cnn}\n"


def _store(folder: zipfile.ZipFile, name: str, picture: Any) -> None:
    data = io.BytesIO()
    picture.save(data, "PNG")
    folder.writestr(name, data.getvalue())


LEAKS: tuple[Callable[[], Planted], ...] = (
    *(duplicates, near_duplicates, group, time_backwards, target_copy, target_transform, number_copy),
    *(target_formula, identifier),
    running_number,
    *(file_name, after_event, target_means, leave_one_out, scaled, near_texts, text_label, pictures),
)


def clean_sets() -> dict[str, Planted]:
    """Real sets without a leak, by name; those of the shared folder where it is there."""
    found: dict[str, Planted] = {
        name: ({}, f"{{source: 'sklearn:{name}', target: target}}", "")
        for name in ("iris", "wine", "digits", "breast_cancer", "diabetes")
    }
    for name, amount in (("honest", "amount"), ("honest_amount", "y")):
        found[name] = one(honest(), "y" if name == "honest" else "amount", (amount,))
    found["honest_halves"] = two(*halves(honest()))
    found["one_species"] = _one_species()
    found["coarse_halves"] = two(*halves(_coarse()))
    folder = Path(os.environ.get("KEEPFIT_SHARED", Path(__file__).parents[2] / "shared"), "data").resolve()
    tables = folder / "tabular"
    for name, section in (
        ("titanic", f"source: {tables}/titanic.csv.gz, target: Survived"),
        ("horse_colic", f"source: {tables}/horse_colic.csv.gz, target: c24, read: {{missing: ['?']}}"),
        ("horse_colic_outcome", f"source: {tables}/horse_colic.csv.gz, target: c23, read: {{missing: ['?']}}"),
        ("california", f"source: {tables}/california_housing.csv.gz, target: median_house_value"),
        ("adult", f"train: {tables}/adult_train.csv.gz, test: {tables}/adult_test.csv.gz, target: income"),
        ("oil_spill", f"source: {tables}/oil_spill.csv.gz, target: {_last(tables / 'oil_spill.csv.gz')}"),
    ):
        found |= {name: ({}, f"{{{section}}}", "")} if tables.is_dir() else {}
    if (texts := folder / "text").is_dir():
        spam = f"{{source: {texts}/sms_spam.tsv.gz, target: label, read: {{header: false, names: [label, text], quote: none}}}}"
        found["sms_spam"] = ({}, spam, "modality: text\n")
        found["snips"] = (
            {},
            f"{{source: {texts}/snips_intents.csv.gz, target: intent, text: text}}",
            "modality: text\n",
        )
    return found


def _last(path: Path) -> str:
    import gzip

    return gzip.open(path, "rt").readline().strip().split(",")[-1] if path.is_file() else ""


def _coarse() -> Rows:
    """Three questions of three answers each: most rows are equal to another one, which shows nothing."""
    rng = np.random.default_rng(8)
    rows = [{name: str(rng.choice(["no", "rather", "yes"])) for name in ("a", "b", "c")} for _ in range(600)]
    return [{**row, "y": "yes" if rng.random() < 0.2 + 0.6 * (row["a"] == "yes") else "no"} for row in rows]


def _one_species() -> Planted:
    """Setosa against the rest of iris: either petal is perfect alone, and nothing is wrong with that."""
    from sklearn.datasets import load_iris

    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    found = load_iris()
    rows = [
        {**dict(zip(names, map(float, x), strict=True)), "y": str(y == 0)}
        for x, y in zip(found.data, found.target, strict=True)
    ]
    return one(rows, "y", ())


def stops(planted: Planted, name: str) -> tuple[bool, str]:
    """Whether a default recipe is refused before training, and the first words of why."""
    files, data, more = planted
    off = {"report": "report", "off": "off"}.get(mutant() or "", "stop")
    with tempfile.TemporaryDirectory() as place:
        for file, content in files.items():
            Path(place, file).write_bytes(content.encode() if isinstance(content, str) else content)
        recipe = Path(place, "recipe.yaml")
        recipe.write_text(f"version: 1\nname: {name}\ndata: {data}\n{more}clean: {{leaks: {off}}}\n")
        from keepfit.engine.run import run
        from keepfit.stages.guard import refuse
        from keepfit.store.artifacts import Store

        walked = run(api.make_plan(recipe, until="clean"), Store(Path(place)), Path(place, "runs"), silent)
        try:
            refuse(off, walked.files["clean"])
        except GateError as error:
            return True, error.seen
    return False, ""


def main() -> int:
    """One JSON line: leaks stopped of those planted, and honest sets stopped."""
    caught = {leak.__name__: stops(leak(), leak.__name__) for leak in LEAKS}
    sets = clean_sets()
    if is_quick():
        sets = {name: sets[name] for name in list(sets)[:10]}
    false = {name: stops(planted, name) for name, planted in sets.items()}
    if len(sets) < 10 and not is_quick():
        return skipped("D3 leak guard", ANCHOR, "fewer than ten clean sets")
    value = {
        "stopped": sum(stopped for stopped, _ in caught.values()),
        "planted": len(caught),
        "false_stops": sum(stopped for stopped, _ in false.values()),
        "clean_sets": len(false),
    }
    passed = value["stopped"] == value["planted"] and not value["false_stops"]
    missed = [name for name, (stopped, _) in caught.items() if not stopped]
    wrongly = {name: why for name, (stopped, why) in false.items() if stopped}
    return told("D3 leak guard", value, ANCHOR, passed, missed=missed, false=wrongly)


if __name__ == "__main__":
    sys.exit(main())
