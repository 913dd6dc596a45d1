"""COCO files: pictures, boxes and categories in one JSON; the pictures lie beside it or in a folder near it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keepfit.core.errors import DataError, from_os_error
from keepfit.modalities.image.boxes import BadAnnotation, Boxes, area_of, class_text, labelled
from keepfit.modalities.image.folders import leads_out
from keepfit.modalities.image.found import Found, Refused, bytes_of, printable, why_no_picture

_MOST = 1 << 30


def from_coco(place: Path, *, loose: bool = False) -> Iterator[Found | Refused]:
    """The pictures that a COCO file lists, sorted by name. Raises DataError at the call for a file of another kind."""
    value = _read(place)
    listed = sorted(value["images"], key=lambda one: str(one.get("file_name")) if isinstance(one, dict) else "")
    boxes = _boxes(value)
    home = place.parent.parent if _looks_above(place) else place.parent

    def items() -> Iterator[Found | Refused]:
        used: set[str] = set()
        for number, one in enumerate(listed):
            said = one.get("file_name") if isinstance(one, dict) else None
            if not isinstance(said, str) or not said.strip():
                yield Refused(f"{place.name}#image{number}", "no file_name")
                continue
            name = printable(said.replace("\\", "/"))
            if name in used:
                yield Refused(f"{name}~{number}", "the name stands in the file before")
                continue
            used.add(name)
            data = _bytes(name, place, home)
            if isinstance(data, Refused):
                yield data
            else:
                yield labelled(name, "", boxes.get(_id(one.get("id")), []), data, loose)

    return items()


def _read(place: Path) -> dict[str, Any]:
    if place.is_dir():
        raise _bad(place, "a folder: name the JSON file in it")
    try:
        if place.stat().st_size > _MOST:
            raise _bad(place, f"{place.stat().st_size >> 20} MB: larger than {_MOST >> 20} MB")
        value = json.loads(place.read_bytes())
    except OSError as error:
        raise from_os_error(error, "reading the data") from None
    except (ValueError, RecursionError) as error:
        raise _bad(place, str(error)[:200]) from None
    absent = [key for key in ("images", "annotations", "categories") if not _is_list(value, key)]
    if absent:
        raise _bad(place, f"no list {', '.join(absent)}")
    return dict(value)


def _is_list(value: Any, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), list)


def _bad(place: Path, seen: str) -> DataError:
    return DataError(
        "not_coco",
        "the file is no COCO file",
        where=f"coco:{place}",
        seen=seen,
        hint='JSON with "images", "annotations" and "categories", such as instances_train2017.json',
    )


def _id(value: object) -> str:
    return json.dumps(value)


def _boxes(value: dict[str, Any]) -> dict[str, Boxes]:
    """Id of a picture -> its boxes, or what is wrong with one of them."""
    names = {
        _id(one.get("id")): class_text(one["name"])
        for one in value["categories"]
        if isinstance(one, dict) and one.get("name")
    }
    found: defaultdict[str, Boxes] = defaultdict(list)
    for one in value["annotations"]:
        if not isinstance(one, dict):
            continue
        whole, box = found[_id(one.get("image_id"))], one.get("bbox")
        if isinstance(whole, str):
            continue
        try:
            name = names.get(_id(one.get("category_id")))
            if name is None:
                raise BadAnnotation(f"category {one.get('category_id')!r} has no name")
            if not isinstance(box, list) or len(box) != 4 or not all(isinstance(n, int | float) for n in box):
                raise BadAnnotation(f"the box of {name!r} is not four numbers")
            whole.append((name, area_of(float(box[2]), float(box[3]))))
        except (BadAnnotation, OverflowError) as error:
            found[_id(one.get("image_id"))] = str(error)[:200]
    return dict(found)


def _looks_above(place: Path) -> bool:
    """A COCO file in a folder of its own, `annotations/`, speaks of pictures beside that folder."""
    return place.parent.name.lower() in ("annotations", "labels")


def _bytes(name: str, place: Path, home: Path) -> bytes | Refused:
    """The picture, looked for beside the file, in `images`, and in a folder that the file is named after."""
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        return Refused(name, "a path that climbs out of the folder of the file")
    subset = re.sub(r"^(instances|annotations)_", "", place.stem)
    roots = (place.parent, home, home / "images", home / subset, home / "images" / subset)
    try:
        path = next((root / name for root in roots if (root / name).is_file()), home / name)
        if leads_out(path, home):
            return Refused(name, "a link out of the folder")
    except (OSError, RuntimeError, ValueError) as error:
        return Refused(name, f"cannot be read: {str(error)[:120]}")
    data = bytes_of(name, path)
    if isinstance(data, Refused):
        return data
    reason = why_no_picture(name, data)
    return Refused(name, reason) if reason else data
