"""A folder that can answer questions: opens it, checks every hash, replays the golden rows. Runs no code from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.core import digest
from keepfit.core.errors import EnvironmentFault, UsageError
from keepfit.runtime.opening import Predictor, predictor_from

FORMAT = 1
_MOST_BYTES, _MOST_SUMS_BYTES = 2 << 30, 1 << 20  # protobuf, and so model.onnx, ends at 2 GiB
_AGAIN = "take the bundle from its source again, or package the run again; keepfit verify BUNDLE checks it"
REQUIRED = ("bundle.json", "model.onnx", "preparation.json", "profile.json", "recipe.yaml", "card.md")


@dataclass(frozen=True)
class InputColumn:
    """One raw input: its kind and its Open Inference Protocol datatype."""

    name: str
    kind: str
    datatype: str


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; `files` holds the bytes that were hashed, so that what was checked is what is used."""

    path: Path
    manifest: dict[str, Any]
    sha256: str
    files: dict[str, bytes]

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read and verify. Raises UsageError when it is no bundle, EnvironmentFault when damaged or of a newer format."""
        path = Path(path)
        if (path / "bundle" / "bundle.json").is_file():
            path = path / "bundle"
        if not (path / "bundle.json").is_file():
            raise UsageError(
                "not_a_bundle",
                "there is no bundle here",
                where=str(path),
                hint="give a folder that holds bundle.json, such as runs/NAME/latest/bundle",
            )
        files, sums = _verified(path)
        try:
            manifest = json.loads(files["bundle.json"])
            version = int(manifest["format"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise EnvironmentFault(
                "damaged_bundle", "bundle.json cannot be read", where=str(path), seen=repr(error), hint=_AGAIN
            ) from None
        if version != FORMAT:
            raise EnvironmentFault(
                "newer_format",
                "the bundle has another format version",
                where=str(path),
                seen=f"{version}, this keepfit reads {FORMAT}",
                hint="install a newer keepfit",
            )
        return cls(path, manifest, sums, files)

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The run's number, or the first digits of the content hash."""
        return str(self.manifest.get("version") or self.sha256[:12])

    @property
    def task(self) -> str:
        """classification or regression."""
        return str(self.manifest["task"])

    @property
    def modality(self) -> str:
        """tabular, image or text."""
        return str(self.manifest["modality"])

    @property
    def target(self) -> str:
        """The target column."""
        return str(self.manifest["target"])

    @property
    def classes(self) -> list[Any]:
        """Classes in score order, in their JSON type; empty for regression."""
        return list(self.manifest["classes"])

    @property
    def inputs(self) -> list[InputColumn]:
        """The raw columns that the model reads, in order."""
        return [InputColumn(i["name"], i["kind"], i["datatype"]) for i in self.manifest["inputs"]]

    @property
    def read(self) -> dict[str, Any]:
        """`data.read` as it was said for training; empty where nothing was said. Raises EnvironmentFault."""
        said = self.manifest.get("read", {})
        if not isinstance(said, dict):
            raise EnvironmentFault(
                "damaged_bundle",
                "bundle.json cannot be read",
                where=str(self.path),
                seen=f"read: {said!r}"[:200],
                hint=_AGAIN,
            )
        return said

    def predictor(self, threads: int = 1) -> Predictor:
        """The predictor, after its golden rows gave the recorded answers. Raises EnvironmentFault."""
        try:
            predictor = predictor_from(
                self.files["preparation.json"],
                self.files["model.onnx"],
                self.task,
                self.classes,
                frozenset([*self.manifest["ignored"], self.target]),
                threads=threads,
                place=str(self.path),
                tokenizer=self.files.get("tokenizer.json"),
            )
            predictor.check_fit()
            self._replay(predictor)
        except EnvironmentFault:
            raise
        except Exception as error:  # hostile files lead numpy, onnxruntime and tokenizers to errors of every kind
            raise EnvironmentFault(
                "damaged_bundle",
                "the files of the bundle do not fit together",
                where=str(self.path),
                seen=repr(error)[:300],
                hint=_AGAIN,
            ) from None
        return predictor

    def _replay(self, predictor: Predictor) -> None:
        lines = self.files.get("golden.jsonl", b"").decode().splitlines()
        if not lines:
            return
        golden = [json.loads(line) for line in lines]
        scores, _, _ = predictor.scores(predictor.table_of([row["input"] for row in golden]))
        wanted = np.array([row["scores"] for row in golden], np.float64)
        if not np.allclose(scores, wanted, rtol=1e-4, atol=1e-4 * float(self.manifest.get("scale", 1.0))):
            worst = int(np.abs(scores - wanted).max(1).argmax())
            raise EnvironmentFault(
                "golden_mismatch",
                "the bundle does not give its recorded answers on this machine",
                where=f"{self.path}, golden row {worst}",
                seen=f"{scores[worst].tolist()} where {wanted[worst].tolist()} was recorded",
                hint="keepfit verify BUNDLE; compare the onnxruntime versions in bundle.json",
            )


def _verified(path: Path) -> tuple[dict[str, bytes], str]:
    sums_path = path / "SHA256SUMS"
    if sums_path.is_symlink() or not sums_path.is_file():
        raise EnvironmentFault(
            "damaged_bundle",
            "the bundle has no SHA256SUMS of its own",
            where=str(path),
            seen="a symbolic link" if sums_path.is_symlink() else "no such file",
            hint="package the run again, or take the bundle from its source",
        )
    if sums_path.stat().st_size > _MOST_SUMS_BYTES:
        raise _too_large(sums_path)
    raw = sums_path.read_bytes()
    files: dict[str, bytes] = {}
    for line in raw.decode(errors="replace").splitlines():
        wanted, _, name = line.partition("  ")
        file = path / name
        if not name or "/" in name or "\\" in name or name.startswith(".") or file.is_symlink() or not file.is_file():
            raise EnvironmentFault(
                "damaged_bundle", "SHA256SUMS names a file that is not there", where=str(path), seen=name, hint=_AGAIN
            )
        if file.stat().st_size > _MOST_BYTES:
            raise _too_large(file)
        files[name] = file.read_bytes()
        if digest.of_bytes(files[name]) != wanted:
            raise EnvironmentFault(
                "tampered_bundle",
                "a file of the bundle is not the one that was packaged",
                where=str(file),
                seen="its SHA-256 differs from SHA256SUMS",
                hint="package the run again, or take the bundle from its source",
            )
    absent = [name for name in REQUIRED if name not in files]
    extra = sorted(p.name for p in path.iterdir() if p.name not in files and p.name != "SHA256SUMS")
    if absent or extra:
        raise EnvironmentFault(
            "tampered_bundle",
            "the bundle's files are not those of SHA256SUMS",
            where=str(path),
            seen=f"absent {absent}, not listed {extra}",
            hint="keep no other files in the folder; or package the run again, or take the bundle from its source",
        )
    return files, digest.of_bytes(raw)


def _too_large(file: Path) -> EnvironmentFault:
    return EnvironmentFault(
        "damaged_bundle",
        "a file of the bundle is larger than any that is packaged",
        where=str(file),
        seen=f"{file.stat().st_size} bytes",
        hint=_AGAIN,
    )
