"""The table of broken inputs: how each is made in a folder, which command meets it, what it must answer."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_tables import csv_text, mixed

Make = Callable[[Path, Path], list[str]]
SERVED: list[socket.socket] = []


@dataclass(frozen=True)
class Broken:
    """`make(folder, bundle)` puts the broken thing into `folder` and returns the command line."""

    name: str
    make: Make
    exit_code: int
    code: str
    where: str = ""


CASES: list[Broken] = []


def case(name: str, exit_code: int, code: str, where: str = "") -> Callable[[Make], Make]:
    def keep(make: Make) -> Make:
        CASES.append(Broken(name, make, exit_code, code, where))
        return make

    return keep


def plain(rows: int = 60) -> str:
    return csv_text(mixed(rows))


def recipe(
    folder: Path,
    data: str = "",
    more: str = "model: {use: linear}",
    source: str = "t.csv",
    target: str = "answer",
    columns: str = ", columns: {price: ignore}",
) -> Path:
    path = folder / "r.yaml"
    path.write_text(
        f"version: 1\nname: r\ndata: {{source: {json.dumps(source)}, target: {target}{columns}{data}}}\n{more}\n",
        "utf-8",
    )
    return path


# ---------------------------------------------------------------- data


def data_case(
    name: str,
    code: str,
    content: str | bytes,
    *,
    file: str = "t.csv",
    exit_code: int = 3,
    data: str = "",
    more: str = "model: {use: linear}",
    target: str = "answer",
    columns: str = "",
) -> None:
    def make(folder: Path, bundle: Path) -> list[str]:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["run", str(recipe(folder, data, more, file, target, columns))]

    CASES.append(Broken(name, make, exit_code, code))


def table(header: str, row: Callable[[int], str], rows: int = 40) -> str:
    return "\n".join([header, *(row(n) for n in range(rows))]) + "\n"


ages = table("age,city,answer", lambda n: f"{n * 7 % 31},{'ab'[n % 2]}x,{('no', 'yes')[n % 2]}")
zipped = gzip.compress(ages.encode())
flipped = bytearray(zipped)
flipped[len(flipped) // 2] ^= 0xFF

data_case("wrong target name", "no_target", ages, target="anwser")
data_case("empty file", "empty_file", "")
data_case("blank file", "empty_file", "\n \n")
data_case("header only", "no_rows", "age,city,answer\n")
data_case("one-class target", "one_class", table("age,answer", lambda n: f"{n * 7 % 31},yes"))
data_case("all features missing", "no_features", table("id,a,b,answer", lambda n: f"K{n:05d},,?,{'ny'[n % 2]}"))
data_case("all features constant", "no_features", table("id,a,b,answer", lambda n: f"K{n:05d},1,x,{'ny'[n % 2]}"))
data_case("equal rows but for the target", "no_features", table("a,b,answer", lambda n: f"1,x,{'ny'[n % 2]}"))
data_case("the target is the only column", "no_features", table("answer", lambda n: "ny"[n % 2]))
data_case("duplicate column names", "duplicate_columns", ages.replace("city", "age", 1))
data_case("binary junk named .csv", "binary_file", bytes(range(256)) * 40)
data_case("a picture named .csv", "binary_file", b"\x89PNG\r\n\x1a\n" + bytes(range(200)) * 9)
data_case("3-row file", "too_few_rows", "\n".join(ages.splitlines()[:4]) + "\n")
data_case("target all missing", "no_answers", table("age,answer", lambda n: f"{n * 7 % 31},"))
data_case("wrong delimiter said", "no_target", ages, data=', read: {delimiter: ";"}')
data_case("delimiter of two characters", "bad_value", ages, data=', read: {delimiter: "ab"}', exit_code=2)
data_case("quote of two characters", "bad_value", ages, data=', read: {quote: "ab"}', exit_code=2)
data_case("target an identifier", "too_many_classes", table("age,answer", lambda n: f"{n * 7 % 31},K{n:05d}"))
data_case("regression on a text target", "target_not_numeric", ages, more="task: regression\nmodel: {use: linear}")
data_case("damaged gzip: cut", "damaged_gzip", zipped[:-20], file="t.csv.gz")
data_case("damaged gzip: a flipped byte", "damaged_gzip", bytes(flipped), file="t.csv.gz")
data_case("gzip that is none", "damaged_gzip", ages, file="t.csv.gz")
data_case("damaged gzip of JSON lines", "damaged_gzip", zipped[:-20], file="t.jsonl.gz")
data_case("damaged parquet", "unreadable", b"PAR1" + b"\x00junk" * 40 + b"PAR1", file="t.parquet")
data_case("JSON lines that are none", "unreadable", "{'age': 1}\n" * 40, file="t.jsonl")
data_case(
    "JSON lines mostly broken",
    "mostly_unreadable",
    '{"age": 1, "answer": "no"}\n' * 9 + '{"age": \n' * 20,
    file="t.jsonl",
)
data_case("JSON cut in the middle", "unreadable", '[{"age": 1, "answer": "no"}, {"age"', file="t.json")
data_case("JSON nested without end", "unreadable", '[{"a": ' + "[" * 90_000, file="t.json")
data_case("JSON lists in a cell", "cell_type", '{"age": [1, 2], "answer": "no"}\n' * 40, file="t.jsonl")
data_case("unknown ending", "unknown_format", ages, file="t.docx")
data_case(
    "mostly ragged lines",
    "mostly_unreadable",
    table("a,b,answer", lambda n: "1,2,yes" if n % 5 == 0 else "1,2,3,4,5,6"),
)
data_case(
    "encoding that does not fit", "bad_encoding", ages.replace("ax", "ä€").encode(), data=", read: {encoding: ascii}"
)
data_case("encoding that does not exist", "bad_encoding", ages, data=", read: {encoding: klingon}")
data_case(
    "JSON lines in another encoding",
    "bad_encoding",
    '{"age": 1, "answer": "né"}\n'.encode("latin-1") * 40,
    file="t.jsonl",
)
data_case("names fewer than columns", "no_target", ages, data=", read: {names: [a, b, c]}")
data_case("group without a column there", "column_missing", ages, data=", split: {by: group, column: house}")
data_case("time column of words", "no_time", ages, data=", split: {by: time, column: city}")
data_case("split by given, one source", "nothing_given", ages, data=", split: {by: given}")
data_case("kind for a column that is not there", "column_missing", ages, columns=", columns: {agee: numeric}")
data_case(
    "metric that does not fit",
    "metric_task",
    ages,
    exit_code=2,
    more="model: {use: linear}\nevaluate: {metrics: [rmse]}",
)
data_case(
    "slice of a column that is not there",
    "column_missing",
    ages,
    exit_code=2,
    more="model: {use: linear}\nevaluate: {slices: [cty]}",
)
data_case("environment variable not set in the source", "no_variable", ages, file="${KEEPFIT_NOT_SET}.csv")


@case("missing file", 3, "no_file")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["run", str(recipe(folder, source="gone.csv"))]


@case("a database without a query", 3, "no_query")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["run", str(recipe(folder, source="postgresql://me:secret@host/db"))]


@case("prediction for a source of a kind to come", 3, "not_available")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["predict", str(bundle), "hf:imdb"]


@case("missing file of fit", 3, "no_file")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["fit", str(folder / "gone.csv"), "--target", "answer"]


@case("fit without a target", 2, "no_target")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    return ["fit", str(folder / "t.csv")]


@case("source with a zero byte", 3, "no_file")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["run", str(recipe(folder, source="a\0b.csv"))]


@case("folder as source", 3, "is_a_folder")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").mkdir()
    return ["run", str(recipe(folder))]


@case("glob with no match", 3, "no_file")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["run", str(recipe(folder, source="part-*.csv"))]


@case("train and test with other columns", 3, "columns_differ", "a.csv")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "a.csv").write_text(ages)
    (folder / "b.csv").write_text(ages.replace("city", "town", 1))
    path = folder / "r.yaml"
    path.write_text("data: {train: a.csv, test: b.csv, target: answer}\nmodel: {use: linear}\n")
    return ["run", str(path)]


@case("test file without the target", 3, "columns_differ", "b.csv")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "a.csv").write_text(ages)
    (folder / "b.csv").write_text(ages.replace("answer", "reply", 1))
    path = folder / "r.yaml"
    path.write_text("data: {train: a.csv, test: b.csv, target: answer}\nmodel: {use: linear}\n")
    return ["run", str(path)]


@case("files of a glob with other columns", 3, "columns_differ")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "a.csv").write_text(ages)
    (folder / "b.csv").write_text(ages.replace("city", "town", 1))
    return ["run", str(recipe(folder, source="?.csv", columns=""))]


@case("unknown sklearn set", 3, "unknown_set")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["run", str(recipe(folder, source="sklearn:wines", columns=""))]


@case("init of a missing file", 3, "no_file")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["init", str(folder / "gone.csv"), "-o", str(folder / "new.yaml")]


@case("init with a wrong target", 3, "no_target")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    return ["init", str(folder / "t.csv"), "--target", "anser", "-o", str(folder / "new.yaml")]


# ---------------------------------------------------------------- recipe


def recipe_case(
    name: str, code: str, text: str | bytes, *, where: str = "r.yaml:", exit_code: int = 2, more: tuple[str, ...] = ()
) -> None:
    def make(folder: Path, bundle: Path) -> list[str]:
        (folder / "t.csv").write_text(ages)
        (folder / "r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["run", str(folder / "r.yaml"), *more]

    CASES.append(Broken(name, make, exit_code, code, where))


DATA = "data: {source: t.csv, target: answer}\n"
bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

recipe_case("typo of version", "unknown_key", f"verson: 1\n{DATA}", where="r.yaml:1")
recipe_case("version of the future", "bad_value", f"version: 2\n{DATA}")
recipe_case("typo of name", "unknown_key", f"nmae: x\n{DATA}")
recipe_case("name with a slash", "bad_value", f"name: ../up\n{DATA}")
recipe_case("typo of seed", "unknown_key", f"sed: 1\n{DATA}")
recipe_case("seed of the wrong type", "bad_value", f"seed: many\n{DATA}")
recipe_case("typo of task", "unknown_key", f"taks: regression\n{DATA}")
recipe_case("unknown task", "bad_value", f"task: clasification\n{DATA}")
recipe_case("unknown preset", "bad_value", f"preset: fats\n{DATA}")
recipe_case("typo in budget", "unknown_key", f"{DATA}budget: {{tme: 5s}}\n", where="r.yaml:2")
recipe_case("budget that is no time", "bad_value", f"{DATA}budget: {{time: soon}}\n", where="r.yaml:2")
recipe_case("typo of data", "unknown_key", f"dta: {{source: t.csv}}\n{DATA}")
recipe_case("typo in data", "unknown_key", "data: {source: t.csv, target: answer, colums: {}}\n")
recipe_case("no data at all", "key_missing", "version: 1\n", where="r.yaml")
recipe_case("source and train", "bad_value", "data: {source: t.csv, train: t.csv, target: answer}\n")
recipe_case("typo in data.read", "unknown_key", "data: {source: t.csv, target: answer, read: {delimeter: ';'}}\n")
recipe_case(
    "typo in data.split",
    "unknown_key",
    "data:\n  source: t.csv\n  target: answer\n  split: {tets: 0.1}\n",
    where="r.yaml:4",
)
recipe_case(
    "shares too large", "bad_value", "data: {source: t.csv, target: answer, split: {test: 0.6, validation: 0.5}}\n"
)
recipe_case("group without column", "bad_value", "data: {source: t.csv, target: answer, split: {by: group}}\n")
recipe_case("unknown column kind", "bad_value", "data: {source: t.csv, target: answer, columns: {age: number}}\n")
recipe_case("typo in clean", "unknown_key", f"{DATA}clean: {{duplicate: drop}}\n")
recipe_case("typo in clean.missing", "unknown_key", f"{DATA}clean: {{missing: {{numric: mean}}}}\n")
recipe_case("typo in model", "unknown_key", f"{DATA}model: {{use: linear, refti: true}}\n")
recipe_case("typo in model.params", "unknown_key", f"{DATA}model: {{use: gbdt, params: {{num_leafs: 5}}}}\n")
recipe_case("unknown learner", "bad_value", f"{DATA}model: {{use: gbtd}}\n")
recipe_case("learner that is a list", "bad_value", f"{DATA}model: {{use: [gbdt]}}\n")
recipe_case("model that is a word", "bad_value", f"{DATA}model: linear\n")
recipe_case("typo in evaluate", "unknown_key", f"{DATA}evaluate: {{metric: [accuracy]}}\n")
recipe_case("unknown metric", "bad_value", f"{DATA}evaluate: {{metrics: [acuracy]}}\n")
recipe_case("typo in explain", "unknown_key", f"{DATA}explain: {{row: 5}}\n")
recipe_case("typo in package", "unknown_key", f"{DATA}package: {{gold: off}}\n")
recipe_case("typo in serve", "unknown_key", f"{DATA}serve: {{prot: 80}}\n")
recipe_case("port that is a word", "bad_value", f"{DATA}serve: {{port: http}}\n")
recipe_case("misplaced key", "unknown_key", f"{DATA}target: answer\n", where="r.yaml:2")
recipe_case("section that is a list", "bad_value", "data: [t.csv]\n")
recipe_case("duplicate key", "duplicate_key", f"{DATA}seed: 1\nseed: 2\n", where="r.yaml:3")
recipe_case("bad YAML", "bad_yaml", f"{DATA}model: {{use: linear\nseed: 1\n", where="r.yaml:3")
recipe_case("YAML tab", "bad_yaml", "data:\n\tsource: t.csv\n", where="r.yaml:2")
recipe_case("YAML value that cannot be read", "bad_yaml", f"{DATA}seed: !!bool perhaps\n", where="r.yaml:2")
recipe_case("YAML date that cannot be read", "bad_yaml", f"{DATA}seed: !!timestamp soon\n", where="r.yaml:2")
recipe_case("YAML that runs code", "bad_yaml", f"{DATA}seed: !!python/name:os.system\n", where="r.yaml:2")
recipe_case("YAML nested without end", "bad_yaml", f"{DATA}seed: {'[' * 30_000}\n", where="r.yaml")
recipe_case("YAML nested 400 deep", "bad_yaml", f"{DATA}seed: {'[' * 400}{']' * 400}\n")
recipe_case("YAML alias bomb", "bad_yaml", f"{bomb}{DATA}")
recipe_case("YAML alias of itself", "bad_yaml", f"{DATA}seed: &a [*a]\n", where="r.yaml:2")
recipe_case("recipe that is a list", "bad_yaml", "- data\n")
recipe_case("empty recipe", "key_missing", "", where="")
recipe_case("recipe not UTF-8", "not_text", "name: né\n".encode("latin-1"), where="r.yaml")
recipe_case("recipe of binary junk", "bad_yaml", b"\x00\x01\x02", where="r.yaml")
recipe_case("section not yet", "not_available", f"{DATA}tune: {{trials: 3}}\n", where="r.yaml:2")
recipe_case("key not yet", "not_available", f"{DATA}budget: {{disk: 1GB}}\n", where="r.yaml:2")
recipe_case("value not yet", "not_available", f"{DATA}task: detection\n", where="r.yaml:2")
recipe_case("unused key", "unused_key", f"{DATA}model: {{use: linear}}\npreset: best\n", where="r.yaml:3")
recipe_case("override without =", "bad_override", DATA, more=("seed",), where="seed")
recipe_case(
    "override below a value", "bad_override", DATA, more=("model.use=linear", "model.use.x=1"), where="model.use.x=1"
)
recipe_case("override of an unknown key", "unknown_key", DATA, more=("model.yuse=linear",), where="model.yuse")
recipe_case("override nested without end", "bad_override", DATA, more=("seed=" + "[" * 30_000,), where="")
recipe_case("override that is no date", "bad_value", DATA, more=("seed=2020-13-45",), where="seed")
recipe_case("unknown stage of --until", "unknown_stage", DATA, more=("--until", "trian"), where="--until")
recipe_case("unknown option", "usage", DATA, more=("--untill", "train"), where="")


@case("missing recipe", 2, "no_recipe")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["run", str(folder / "gone.yaml")]


@case("recipe that is a folder", 2, "no_recipe")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["check", str(folder)]


@case("unknown verb", 2, "usage")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["rnu"]


@case("verb not yet", 2, "not_available")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["compress", str(bundle)]


@case("models promote of nothing", 2, "usage")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["models", "promote"]


def to_come(name: str, *words: str) -> None:
    CASES.append(
        Broken(name, lambda folder, bundle: [word.format(bundle=bundle) for word in words], 2, "not_available", "")
    )


CASES.append(
    Broken("bench of nobody", lambda folder, bundle: ["bench", "--url", "http://127.0.0.1:9"], 5, "no_service", "")
)
CASES.append(
    Broken("serve of an alias of nobody", lambda folder, bundle: ["serve", "churn@champion"], 2, "model_unknown", "")
)
recipe_case("metric not yet", "not_available", f"{DATA}evaluate: {{metrics: [map50]}}\n", where="r.yaml:2")
recipe_case("override of the wrong type", "bad_value", f"seed: 1\n{DATA}", more=("seed=abc",), where="seed=abc")


@case("bench of nothing", 2, "usage")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["bench"]


@case("predict with another key", 2, "unused_key", "seed=1")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    return ["predict", str(bundle), str(folder / "t.csv"), "seed=1"]


@case("check of slices that are not there", 2, "column_missing", "evaluate.slices")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    return ["check", str(recipe(folder, columns="")), "evaluate.slices=[nope]"]


@case("check of a metric of another task", 2, "metric_task", "evaluate")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    return ["check", str(recipe(folder, columns="")), "evaluate.metrics=[rmse]"]


@case("models show of nobody", 2, "model_unknown")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["models", "show", "nobody", "--workspace", str(folder)]


@case("models register of no bundle", 2, "not_a_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["models", "register", str(folder), "--workspace", str(folder)]


@case("unknown model", 2, "no_model")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["models", "verify", "nobody", "--workspace", str(folder)]


@case("unknown part", 2, "unknown_part")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["parts", "tabular.gbtd"]


@case("init on an existing file", 2, "file_exists")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    (folder / "there.yaml").write_text("mine")
    return ["init", str(folder / "t.csv"), "-o", str(folder / "there.yaml")]


@case("ledger of no run", 2, "not_a_run")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["ledger", str(folder)]


# ---------------------------------------------------------------- machine


@case("workspace is a file", 5, "not_a_folder")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    (folder / "space").write_text("")
    return ["run", str(recipe(folder, columns="")), "--workspace", str(folder / "space")]


@case("runs is a file", 5, "not_a_folder")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    (folder / "runs").write_text("")
    return ["run", str(recipe(folder, columns=""))]


@case("journal of junk", 5, "workspace")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(ages)
    (folder / ".keepfit").mkdir()
    (folder / ".keepfit" / "journal.sqlite").write_bytes(b"junk" * 900)
    return ["run", str(recipe(folder, columns=""))]


@case("port taken", 5, "port_taken")
def _(folder: Path, bundle: Path) -> list[str]:
    SERVED.append(socket.create_server(("127.0.0.1", 0)))
    return ["serve", str(bundle), "--port", str(SERVED[-1].getsockname()[1])]


@case("port that is none", 2, "port_wrong")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["serve", str(bundle), "--port", "70000"]


@case("host that is none", 2, "host_unknown")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["serve", str(bundle), "--host", "no host", "--port", "0", "--token-env", "KEEPFIT_SET"]


@case("open to others without a token", 2, "token_needed")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["serve", str(bundle), "--host", "0.0.0.0", "--port", "0"]


@case("token variable not set", 2, "token_missing")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["serve", str(bundle), "--port", "0", "--token-env", "KEEPFIT_NOT_SET"]


# ---------------------------------------------------------------- bundles


def copied(folder: Path, bundle: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / "bundle"))


def summed(bundle: Path, name: str, data: bytes) -> Path:
    """A file of the bundle changed, with SHA256SUMS to match."""
    (bundle / name).write_bytes(data)
    lines = (bundle / "SHA256SUMS").read_text().splitlines()
    new = [f"{hashlib.sha256(data).hexdigest()}  {name}" if line.endswith(f"  {name}") else line for line in lines]
    assert new != lines
    (bundle / "SHA256SUMS").write_text("\n".join(new) + "\n")
    return bundle


@case("tampered bundle: a byte of model.onnx", 5, "tampered_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    path = copied(folder, bundle) / "model.onnx"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    return ["verify", str(path.parent)]


@case("tampered bundle: a line of SHA256SUMS removed", 5, "tampered_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    path = copied(folder, bundle) / "SHA256SUMS"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "profile" not in line) + "\n")
    return ["verify", str(path.parent)]


@case("tampered bundle: one file more", 5, "tampered_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    path = copied(folder, bundle)
    (path / "more.py").write_text("print()")
    return ["models", "verify", str(path)]


@case("bundle with a file gone", 5, "damaged_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    path = copied(folder, bundle)
    (path / "model.onnx").unlink()
    return ["verify", str(path)]


@case("bundle without SHA256SUMS", 5, "damaged_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    path = copied(folder, bundle)
    (path / "SHA256SUMS").unlink()
    return ["bench", str(path)]


@case("SHA256SUMS that leaves the folder", 5, "damaged_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    path = copied(folder, bundle) / "SHA256SUMS"
    path.write_text(path.read_text() + f"{'0' * 64}  ../../../etc/passwd\n")
    return ["verify", str(path.parent)]


@case("bundle of a newer format", 5, "newer_format")
def _(folder: Path, bundle: Path) -> list[str]:
    manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_bytes())
    return [
        "verify",
        str(summed(copied(folder, bundle), "bundle.json", json.dumps({**manifest, "format": 99}).encode())),
    ]


@case("bundle.json of junk, sums to match", 5, "damaged_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["verify", str(summed(copied(folder, bundle), "bundle.json", b"[1, 2"))]


@case("bundle.json without its keys, sums to match", 5, "damaged_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["verify", str(summed(copied(folder, bundle), "bundle.json", b'{"format": 1}'))]


@case("model.onnx of junk, sums to match", 5, "damaged_model")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["verify", str(summed(copied(folder, bundle), "model.onnx", b"junk"))]


@case("preparation.json of junk, sums to match", 5, "damaged_preparation")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["verify", str(summed(copied(folder, bundle), "preparation.json", b'{"rules": 5}'))]


@case("golden answers of another model, sums to match", 5, "golden_mismatch")
def _(folder: Path, bundle: Path) -> list[str]:
    rows = [json.loads(line) for line in (bundle / "golden.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        row["scores"] = row["scores"][::-1]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return ["verify", str(summed(copied(folder, bundle), "golden.jsonl", text.encode()))]


@case("not a bundle", 2, "not_a_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["predict", str(folder), "t.csv"]


@case("a bundle that is a file", 2, "not_a_bundle")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "b").write_text("")
    return ["serve", str(folder / "b")]


@case("predict to an unknown ending", 3, "unknown_format")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain())
    return ["predict", str(bundle), str(folder / "t.csv"), "-o", str(folder / "answers.xls")]


@case("predict into a file as folder", 5, "not_a_folder")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain())
    return ["predict", str(bundle), str(folder / "t.csv"), "-o", str(folder / "t.csv" / "answers.csv")]


@case("predict onto a folder", 5, "is_a_folder")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain())
    (folder / "answers.csv").mkdir()
    return ["predict", str(bundle), str(folder / "t.csv"), "-o", str(folder / "answers.csv")]


@case("predict without a column", 3, "column_missing")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain().replace("city", "town", 1))
    return ["predict", str(bundle), str(folder / "t.csv"), "-o", str(folder / "answers.csv")]


@case("predict a ragged file", 3, "unreadable_lines")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain() + "1,2,3,4,5,6,7,8,9,10\n")
    return ["predict", str(bundle), str(folder / "t.csv"), "-o", str(folder / "answers.csv")]


@case("predict a missing file", 3, "no_file")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["predict", str(bundle), str(folder / "gone.csv"), "-o", str(folder / "answers.csv")]


@case("evaluate with unknown labels", 3, "unknown_label")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain().replace(",yes\n", ",maybe\n"))
    return ["evaluate", str(bundle), str(folder / "t.csv")]


@case("evaluate without the target", 3, "no_target")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain().replace("answer", "reply", 1))
    return ["evaluate", str(bundle), str(folder / "t.csv")]


@case("evaluate with no label known", 3, "no_rows")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "t.csv").write_text(plain().replace(",yes\n", ",\n").replace(",no\n", ",\n"))
    return ["evaluate", str(bundle), str(folder / "t.csv")]


@case("bench with no question", 2, "usage")
def _(folder: Path, bundle: Path) -> list[str]:
    return ["bench", str(bundle), "--rows", "0"]


@case("run folder with a damaged plan", 5, "damaged_run")
def _(folder: Path, bundle: Path) -> list[str]:
    path = Path(shutil.copytree(bundle.parent, folder / "0001"))
    (path / "plan.json").write_text("{}")
    return ["verify", str(path)]


@case("run folder with a damaged ledger", 3, "unreadable")
def _(folder: Path, bundle: Path) -> list[str]:
    (folder / "ledger.parquet").write_bytes(b"junk" * 10)
    return ["ledger", str(folder)]
