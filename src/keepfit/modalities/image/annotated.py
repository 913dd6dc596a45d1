"""Folders of annotated pictures as pictures with one class each: `voc:DIR`, `yolo:DIR` (or a zip of one), `coco:FILE`.

A picture has the class whose boxes have the largest area in sum. One without boxes, or with a tie, is refused with that
reason: an unlabelled picture is no example.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from keepfit.core.errors import DataError, nearest
from keepfit.modalities import archives
from keepfit.modalities.image.archives import from_zip
from keepfit.modalities.image.boxes import NO_LABEL, BadAnnotation, Box, Boxes, class_text, labelled, of_voc, of_yolo
from keepfit.modalities.image.folders import from_folder, members
from keepfit.modalities.image.found import NOT_A_PICTURE, Found, Refused, bytes_of
from keepfit.modalities.layout import PARTS, Part
from keepfit.runtime.sources import ANNOTATED

_SIBLINGS = {"images", "jpegimages", "annotations", "labels", "xmls", "img", "imgs"}
_MOST_TEXT = 4 << 20
_LISTS = ("classes.txt", "obj.names")
_BESIDE = (".xml", ".txt", ".yaml", ".yml", ".names", ".json", ".cache", ".md")


def kind_of(source: str) -> str:
    """`coco:`, `voc:` or `yolo:` where a source begins with it, else empty."""
    return next((kind for kind in ANNOTATED if source.lower().startswith(kind)), "")


def from_annotated(kind: str, place: Path, *, loose: bool = False) -> Iterator[Found | Refused]:
    """The pictures of an annotated set, sorted by name, read one by one; with `loose` also those without a class.

    Raises DataError at the call where nothing is there or nothing is annotated.
    """
    if not place.exists():
        names = [path.name for path in place.parent.iterdir()] if place.parent.is_dir() else []
        raise DataError("no_file", "there is no such file", where=f"{kind}{place}", hint=nearest(place.name, names))
    if kind == "coco:":
        from keepfit.modalities.image.coco import from_coco

        return from_coco(place, loose=loose)
    ending = ".xml" if kind == "voc:" else ".txt"
    texts = _texts(place, (ending,) if kind == "voc:" else (".txt", ".yaml", ".yml", ".names"))
    said, orphans = _annotations(kind, texts)
    if not said:
        raise DataError(
            "no_annotations",
            f"there are no annotations ({ending} files)",
            where=f"{kind}{place}",
            seen=f"{len(texts)} files with such endings" if texts else "no file with this ending",
            hint="images/1.jpg goes with annotations/1.xml (VOC) or labels/1.txt (YOLO); folders of classes need no prefix",
        )
    return _joined(place, ending, said, orphans, loose)


def _joined(
    place: Path, ending: str, said: dict[str, Boxes], orphans: dict[str, str], loose: bool
) -> Iterator[Found | Refused]:
    """Pictures with their annotations; then annotations whose picture is absent."""
    found = from_folder(place, loose=True) if place.is_dir() else from_zip(place, loose=True)
    parted = all(_part(key) for key in said)
    seen = set()
    for one in found:
        if isinstance(one, Refused):
            if one.reason != NOT_A_PICTURE or not one.name.lower().endswith(_BESIDE):
                seen.add(_key(one.name))
                yield one
            continue
        key = _key(one.name)
        seen.add(key)
        if key in said:
            yield labelled(one.name, _part(key) if parted else "", said[key], one.data, loose)
        elif loose:
            yield Found(one.name, None, "", one.data)
        else:
            yield Refused(one.name, f"no boxes: no {ending} file goes with it", NO_LABEL)
    for key, name in sorted(orphans.items()):
        if key not in seen and not loose:
            yield Refused(name, "an annotation without its picture")


def _annotations(kind: str, texts: dict[str, bytes | str]) -> tuple[dict[str, Boxes], dict[str, str]]:
    """Key of a picture -> its boxes; and -> the file that says so, for those that claim a picture."""
    parse: Callable[[bytes], list[Box]] = of_voc
    if kind == "yolo:":
        known = _names(texts)

        def parse(data: bytes) -> list[Box]:
            return of_yolo(data, known)

        texts = {
            name: data
            for name, data in texts.items()
            if name.lower().endswith(".txt") and PurePosixPath(name).name.lower() not in _LISTS
        }
    said: dict[str, Boxes] = {}
    claims: dict[str, str] = {}
    for name, data in sorted(texts.items()):
        folders = [part.lower() for part in PurePosixPath(name).parts[:-1]]
        if kind == "voc:" or "labels" in folders:
            claims[_key(name)] = name
        try:
            said[_key(name)] = data if isinstance(data, str) else parse(data)
        except BadAnnotation as error:
            said[_key(name)] = str(error)[:200]
    return said, claims


def _key(name: str) -> str:
    """What a picture and its annotation share: the path without ending and without folders such as `images`."""
    path = PurePosixPath(name)
    return "/".join([part for part in path.parts[:-1] if part.lower() not in _SIBLINGS] + [path.stem])


def _part(key: str) -> Part:
    return next((PARTS[part.lower()] for part in key.split("/")[:-1] if part.lower() in PARTS), "")


def _texts(place: Path, endings: tuple[str, ...]) -> dict[str, bytes | str]:
    """The small files with these endings: name -> content, or why it cannot be had."""
    if place.is_dir():
        out: dict[str, bytes | str] = {}
        for name, (path, reason) in members(place).items():
            if name.lower().endswith(endings):
                data = bytes_of(name, path) if reason in ("", NOT_A_PICTURE) else reason
                if isinstance(data, Refused):
                    data = b"" if data.reason == "an empty file" else data.reason
                out[name] = data if len(data) <= _MOST_TEXT else f"larger than {_MOST_TEXT >> 20} MiB"
        return out

    def is_named(name: str) -> bool:
        return name.lower().endswith(endings)

    kind = archives.Kind("annotations", _MOST_TEXT, 1, is_named, lambda name, head: "" if is_named(name) else "other")
    found = archives.from_zip(place, kind, loose=True)
    return {one.name: one.reason or data for one, data in found if is_named(one.name)}


def _names(texts: dict[str, bytes | str]) -> Callable[[int], str]:
    """Number of a class -> its name: of `names` in a YAML file, else the lines of classes.txt, else the number."""
    import yaml

    known: dict[int, str] = {}
    for name, data in sorted(texts.items(), key=lambda one: (one[0].count("/"), one[0])):
        if isinstance(data, str) or known:
            continue
        if name.lower().endswith((".yaml", ".yml")):
            try:
                said: Any = yaml.safe_load(data.decode("utf-8-sig", "replace"))
            except (yaml.YAMLError, RecursionError, ValueError):
                continue
            names = said.get("names") if isinstance(said, dict) else None
            pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
            known = {int(place): class_text(text) for place, text in pairs if str(place).isdigit()}
    lists = [name for name in texts if os.path.basename(name).lower() in _LISTS]
    if not known and lists:
        data = texts[min(lists, key=lambda name: (name.count("/"), name))]
        lines = data.decode("utf-8-sig", "replace").splitlines() if isinstance(data, bytes) else []
        known = {place: class_text(line) for place, line in enumerate(lines) if line.strip()}

    def name_of(place: int) -> str:
        if known and place not in known:
            raise BadAnnotation(f"class {place} has no name: the names are {', '.join(list(known.values())[:8])}")
        return known.get(place, str(place))

    return name_of
