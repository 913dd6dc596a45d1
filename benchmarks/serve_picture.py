"""One JPEG over HTTP on one core, MobileNetV2 at 224: `keepfit serve` beside a bare service of the same network and Pillow.

`--mutant size` brings the network to 448 pixels, which is four times the work: it must miss the goal.
"""

from __future__ import annotations

import http.client
import io
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

import keepfit as kf
from benchmarks.measuring import interval, is_quick, mutant, skipped, told
from benchmarks.serve_row import service
from keepfit.core.errors import KeepfitError

GOAL = "one JPEG with MobileNetV2 at 224: p50 at most 25 ms on one core"
ANCHOR_MS = 25.0
BARE = """
import io, sys
import fastapi, numpy, onnxruntime, uvicorn
from PIL import Image
said = onnxruntime.SessionOptions()
said.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], said, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
app = fastapi.FastAPI()
@app.post("/predict")
async def predict(request: fastapi.Request):
    body = await request.body()
    start = body.index(b"\\r\\n\\r\\n") + 4
    picture = Image.open(io.BytesIO(body[start:])).convert("RGB").resize((224, 224))
    x = (numpy.asarray(picture, numpy.float32) / 255 - 0.45) / 0.225
    scores = session.run(None, {name: x.transpose(2, 0, 1)[None]})[0]
    return {"prediction": int(scores[0].argmax()), "probabilities": scores[0].tolist()}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="info", access_log=False)
"""
BOUNDARY = "keepfit-benchmark"


def form(picture: bytes) -> bytes:
    """A multipart form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


def jpegs(count: int) -> list[bytes]:
    """Soft noise of 320 x 240 pixels."""
    from PIL import Image

    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((320, 240), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def p50_ms(connection: http.client.HTTPConnection, bodies: list[bytes], count: int) -> float:
    """Median time of one picture on a kept connection."""
    import time

    times = []
    for place in range(count):
        begun = time.perf_counter()
        connection.request(
            "POST",
            "/predict",
            bodies[place % len(bodies)],
            {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        )
        reply = connection.getresponse()
        text = reply.read()
        times.append((time.perf_counter() - begun) * 1000)
        if reply.status != 200:
            raise SystemExit(f"{reply.status}: {text!r}")
    return statistics.median(times)


def main() -> int:
    """Pairs of rounds, ours and the bare service's in turn."""
    rounds, count = (7, 20) if is_quick() else (11, 60)
    size = 448 if mutant() == "size" else 224
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch:
        pictures = jpegs(24)
        for place, picture in enumerate(pictures):
            path = Path(scratch, "pictures", "ab"[place % 2], f"{place}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        recipe = Path(scratch, "r.yaml")
        recipe.write_text(
            f"version: 1\nname: bench\ndata: {{source: pictures}}\nmodel: {{use: pretrained, size: {size}, freeze: true}}\n"
            "train: {epochs: 1, batch_size: 8, precision: fp32}\n"
        )
        try:
            run = kf.run(recipe, workspace=scratch)
        except KeepfitError as error:
            return skipped(GOAL, ANCHOR_MS, str(error))
        bodies = [form(picture) for picture in pictures]
        with (
            service("-m", "keepfit", "serve", str(run.bundle), "--port", "0") as ours,
            service("-c", BARE.replace("224", str(size)), str(run.bundle / "model.onnx"), "0") as theirs,
        ):
            lines = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in (ours, theirs)]
            for line in lines:
                p50_ms(line, bodies, 10)
            pairs = [(p50_ms(lines[0], bodies, count), p50_ms(lines[1], bodies, count)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    low, high = interval([a for a, _ in pairs])
    return told(
        GOAL,
        round(statistics.median(a for a, _ in pairs), 2),
        ANCHOR_MS,
        high <= ANCHOR_MS,
        interval=[low, high],
        unit="ms",
        bare_ms=round(statistics.median(b for _, b in pairs), 2),
        ratio=round(statistics.median(ratios), 3),
        ratio_interval=interval(ratios),
        pairs=rounds,
        mutant=mutant(),
    )


if __name__ == "__main__":
    sys.exit(main())
