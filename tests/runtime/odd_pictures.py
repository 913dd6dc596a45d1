"""Sixty odd and broken pictures, the same bytes every time: `make(folder)` writes them and says what each must come to."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

BROKEN, CUT, BOMB, FORMAT = "picture_broken", "picture_truncated", "picture_bomb", "picture_format"


def pixels(height=24, width=32, channels=3):
    """A smooth picture with a bright corner, so that turning and flipping show."""
    down, across = np.mgrid[0:height, 0:width]
    planes = [
        (across * 255 // max(width - 1, 1)),
        (down * 255 // max(height - 1, 1)),
        (across + down) * 3 % 256,
        across * 0 + 96,
    ]
    out = np.stack(planes[:channels], axis=-1).astype(np.uint8)
    out[: height // 4, : width // 4] = 250
    return out


def saved(image, kind, **more):
    """The file bytes of a Pillow image or of an array."""
    out = io.BytesIO()
    if "append_images" in more:  # saving leaves its settings in an image, so every file gets copies
        more["append_images"] = [one.copy() for one in more["append_images"]]
    (image.copy() if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **more)
    return out.getvalue()


def turned(orientation):
    """EXIF that says only how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(width, height, depth, colour, rows, more=b"", crc=None):
    """A PNG by hand; `rows` are the filtered bytes before compression."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body))
            + name
            + body
            + struct.pack(">I", zlib.crc32(name + body) if crc is None else crc)
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + more
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def bmp(width, height):
    """Only the header of a BMP."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)


def tiff(width, height, tile=None):
    """A little TIFF of one strip or tile of grey; its pixels are not there."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    if tile:
        tags += [(322, 4, tile), (323, 4, tile), (324, 4, 200), (325, 4, 64)]
    else:
        tags += [(273, 4, 200), (278, 4, height), (279, 4, 64)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", 0) + bytes(300)


def webp(width, height):
    """Only the header of a lossless WebP."""
    body = b"VP8L" + struct.pack("<IBI", 5, 0x2F, (width - 1) | (height - 1) << 14) + b"\0"
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def changed(data, at, new):
    """`data` with some bytes replaced."""
    return data[:at] + new + data[at + len(new) :]


def _odd():
    colour, grey, alpha = pixels(), pixels()[..., 0], pixels(channels=4)
    image, frames = Image.fromarray(colour), [Image.fromarray(np.roll(colour, 5 * n, 1)) for n in range(1, 4)]
    clear = image.convert("P")
    key = struct.pack(">I", 6) + b"tRNS" + struct.pack(">HHH", 250, 250, 250)
    key += struct.pack(">I", zlib.crc32(key[4:]))
    deep = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in colour)
    jpeg = saved(colour, "JPEG")
    files = {
        "plain.jpg": jpeg,
        "grey.jpg": saved(grey, "JPEG"),
        "progressive.jpg": saved(colour, "JPEG", progressive=True),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "broken_exif.jpg": saved(colour, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(9)),
        "garbage_behind.jpg": jpeg + b"\0garbage" * 50,
        "several.mpo": saved(image, "MPO", save_all=True, append_images=frames),
        "turned.tif": saved(colour, "TIFF", exif=turned(6)),
        "turned.png": saved(colour, "PNG", exif=turned(6)),
        "palette.png": saved(clear, "PNG"),
        "palette_clear.png": saved(clear, "PNG", transparency=3),
        "grey_alpha.png": saved(Image.fromarray(alpha).convert("LA"), "PNG"),
        "alpha.png": saved(alpha, "PNG"),
        "one_bit.png": saved(Image.fromarray(grey).convert("1"), "PNG"),
        "grey_16.png": saved((grey.astype(np.uint16) * 257), "PNG"),
        "colour_16.png": png(32, 24, 16, 2, deep),
        "key_colour.png": png(32, 24, 8, 2, b"".join(b"\0" + row.tobytes() for row in colour), more=key),
        "one_pixel.png": saved(colour[:1, :1], "PNG"),
        "very_long.png": saved(pixels(1, 5000), "PNG"),
        "really_png.jpg": saved(colour, "PNG"),
        "animated.png": saved(image, "PNG", save_all=True, append_images=frames),
        "animated.gif": saved(image, "GIF", save_all=True, append_images=frames),
        "lossy.webp": saved(colour, "WEBP"),
        "alpha.webp": saved(alpha, "WEBP", lossless=True),
        "animated.webp": saved(image, "WEBP", save_all=True, append_images=frames, lossless=True),
        "colour.bmp": saved(colour, "BMP"),
        "pages.tif": saved(image, "TIFF", save_all=True, append_images=frames),
        "float.tif": saved(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "grey_16.pgm": b"P5 32 24 65535\n" + (grey.astype(">u2") * 257).tobytes(),
    }
    return {name: (data, "ok") for name, data in files.items()}


def _broken():
    colour = pixels()
    jpeg, flat, gif, tif = (saved(colour, kind) for kind in ("JPEG", "PNG", "GIF", "TIFF"))
    size_at = jpeg.index(b"\xff\xc0") + 5
    body = b"".join(b"\0" + row.tobytes() for row in colour)
    scans = jpeg[:-2] + b"\xff\xda" * 150 + b"\xff\xd9"
    return {
        "empty.jpg": (b"", BROKEN),
        "zeros.png": (bytes(2000), FORMAT),
        "text.jpg": (b"this was never a picture\n" * 9, FORMAT),
        "not_found.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", FORMAT),
        "drawing.svg": (
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9"/></svg>',
            FORMAT,
        ),
        "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n", FORMAT),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(60), FORMAT),
        "cut_head.jpg": (jpeg[:30], CUT),
        "cut_half.jpg": (jpeg[: len(jpeg) // 2], CUT),
        "cut_end.jpg": (jpeg[:-30], CUT),
        "cut_half.png": (flat[: len(flat) // 2], CUT),
        "cut.gif": (gif[: len(gif) // 2], CUT),
        "cut.webp": (saved(colour, "WEBP")[:-40], CUT),
        "cut.bmp": (saved(colour, "BMP")[:-200], CUT),
        "cut_index.tif": (tif[:20], CUT),
        "cut.ppm": (saved(colour, "PPM")[:-7], CUT),
        "no_frame.jpg": (jpeg[:2] + b"\xff\xda\0\x08" + bytes(40) + b"\xff\xd9", BROKEN),
        "bad_sum.png": (png(32, 24, 8, 2, body, crc=7), BROKEN),
        "bad_stream.png": (changed(flat, flat.index(b"IDAT") + 6, b"\xff" * 40), BROKEN),
        "no_width.png": (png(0, 24, 8, 2, body), BROKEN),
        "letters.ppm": (b"P6 many few 255\n" + bytes(99), BROKEN),
        "huge.png": (png(60_000, 60_000, 8, 2, bytes(99)), BOMB),
        "warned.png": (png(10_000, 10_000, 1, 0, bytes(99)), BOMB),
        "true_bomb.png": (png(7000, 7000, 1, 0, bytes(7000 * 876)), BOMB),
        "huge.jpg": (changed(jpeg, size_at, struct.pack(">HH", 65_000, 65_000)), BOMB),
        "scans.jpg": (scans, BOMB),
        "huge.gif": (changed(gif, 6, struct.pack("<HH", 65_535, 65_535)), BOMB),
        "huge.tif": (tiff(100_000, 100_000), BOMB),
        "huge_tiles.tif": (tiff(32, 32, tile=50_000), BOMB),
        "huge.webp": (webp(16_000, 16_000), BOMB),
        "huge.bmp": (bmp(30_000, 30_000), BOMB),
    }


def pictures() -> dict[str, tuple[bytes, str]]:
    """Name: the file's bytes, and `ok` or the code of the error."""
    return {**_odd(), **_broken()}


def make(folder: Path) -> list[tuple[str, str]]:
    """Writes them into `folder`; name and what it must come to, in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = pictures()
    for name, (data, _) in found.items():
        (folder / name).write_bytes(data)
    return sorted((name, expected) for name, (_, expected) in found.items())
