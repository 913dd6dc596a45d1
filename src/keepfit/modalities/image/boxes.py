"""Boxes of annotated pictures (VOC, YOLO, COCO) and the one class that they give a picture."""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from xml.parsers import expat

from keepfit.modalities.image.found import Found, Refused
from keepfit.modalities.layout import Part

NO_LABEL = "no single class"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_MOST_BOXES = 100_000
Box = tuple[str, float]  # class, area
Boxes = list[Box] | str  # of one picture, or why they cannot be had


class BadAnnotation(ValueError):
    """An annotation that cannot be read; the text says why."""


def label_of(boxes: Sequence[Box]) -> tuple[str | None, str]:
    """The class whose boxes have the largest area in sum, or None and the reason: no boxes, no area, a tie.

    Areas that differ by less than a millionth count as equal: YOLO rounds its numbers.
    """
    if not boxes:
        return None, "no boxes"
    areas: defaultdict[str, float] = defaultdict(float)
    for name, area in boxes:
        areas[name] += area
    ranked = sorted(areas.items(), key=lambda one: (-one[1], one[0]))
    if ranked[0][1] <= 0:
        return None, "its boxes have no area"
    if len(ranked) > 1 and math.isclose(ranked[0][1], ranked[1][1], rel_tol=1e-6):
        return None, f"a tie: the boxes of {ranked[0][0]!r} and {ranked[1][0]!r} have the same area"
    return ranked[0][0], ""


def labelled(name: str, part: Part, boxes: Boxes, data: bytes, loose: bool) -> Found | Refused:
    """A picture with the class of its boxes, or why it has none."""
    label, reason = (None, f"its annotation cannot be read: {boxes}") if isinstance(boxes, str) else label_of(boxes)
    if label is None and not loose:
        return Refused(name, reason, NO_LABEL)
    return Found(name, label, part, data)


def class_text(name: object) -> str:
    """A class as text, composed as Unicode has it (macOS writes accents as two characters)."""
    return unicodedata.normalize("NFC", str(name)).strip()


def area_of(width: float, height: float) -> float:
    """The area of a box. Raises BadAnnotation for a side that is negative or no number."""
    if not (math.isfinite(width) and math.isfinite(height)) or width < 0 or height < 0:
        raise BadAnnotation(f"a box of {width:g} x {height:g}")
    return width * height


def of_voc(data: bytes) -> list[Box]:
    """The boxes of a Pascal VOC file; parts of objects are left out. Raises BadAnnotation.

    A document type is refused: entities are declared there, and a few lines of them can fill the memory.
    """
    reader = _Voc()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.take
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadAnnotation(str(error)) from None
    if reader.root != "annotation":
        raise BadAnnotation(f"its outermost element is {reader.root!r}, not 'annotation'")
    return reader.boxes


class _Voc:
    """What expat calls while it walks through a file."""

    def __init__(self) -> None:
        self.root = ""
        self.boxes: list[Box] = []
        self._path: list[str] = []
        self._object: dict[str, str] = {}

    def refuse(self, *more: object) -> None:
        raise BadAnnotation("it declares a document type, which no annotation needs: an entity bomb")

    def begin(self, name: str, more: object) -> None:
        self.root = self.root or name
        self._path.append(name)
        if len(self._path) > 32 or len(self.boxes) > _MOST_BOXES:
            raise BadAnnotation("too deep, or too many boxes")
        if self._path == ["annotation", "object"]:
            self._object = {}

    def take(self, text: str) -> None:
        inside = self._path[2:]
        if self._path[:2] == ["annotation", "object"] and inside and (inside == ["name"] or inside[0] == "bndbox"):
            key = inside[-1]
            self._object[key] = self._object.get(key, "") + text

    def end(self, name: str) -> None:
        if self._path == ["annotation", "object"]:
            self.boxes.append(self._box())
        self._path.pop()

    def _box(self) -> Box:
        name = class_text(self._object.get("name", ""))
        if not name:
            raise BadAnnotation("an object without a name")
        try:
            left, top, right, bottom = (float(self._object[side]) for side in _SIDES)
        except (KeyError, ValueError):
            raise BadAnnotation(f"the object {name!r} has no box of four numbers") from None
        return name, area_of(right - left, bottom - top)


def of_yolo(data: bytes, name_of: Callable[[int], str]) -> list[Box]:
    """The boxes of a YOLO file, `class x y width height` a line in shares of the picture; a polygon counts as the box
    around it. Raises BadAnnotation, with the line.
    """
    boxes: list[Box] = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            place, numbers = int(cells[0]), [float(cell) for cell in cells[1:]]
        except ValueError:
            raise BadAnnotation(f"line {number} is not a class and numbers: {line[:60]!r}") from None
        if len(numbers) < 4 or len(numbers) == 5 or len(numbers) % 2 or place < 0 or len(boxes) >= _MOST_BOXES:
            raise BadAnnotation(f"line {number} is neither a box nor a polygon: {line[:60]!r}")
        if len(numbers) == 4:
            width, height = numbers[2:]
        else:
            across, down = numbers[::2], numbers[1::2]
            width, height = max(across) - min(across), max(down) - min(down)
        boxes.append((name_of(place), area_of(width, height)))
    return boxes
