"""One network, four services, the same run: `keepfit serve` beside a hand-written FastAPI + torch handler, bare FastAPI +
pydantic + onnxruntime, and LitServe with its batching. 784 numbers as JSON at 1, 16 and 64 connections, all on the first core.

The table of docs/why/serving.md. It passes where keepfit answers the most at 64 connections; peers not installed are left out.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from benchmarks.load_client import client, press
from benchmarks.measuring import is_quick, told
from benchmarks.serve_load import bodies
from benchmarks.serve_row import BARE, service
from benchmarks.wide_bundle import wide_bundle

GOAL = "784 numbers as JSON: answers per second at 1, 16 and 64 connections beside three other services of the same network"
CONNECTIONS = (1, 16, 64)
WEIGHTS = """
import onnx, torch
from onnx import numpy_helper
torch.set_num_threads(1)
made = {w.name: torch.tensor(numpy_helper.to_array(w)) for w in onnx.load(sys.argv[1]).graph.initializer}
layers = []
for place in range(3):
    weight = made[f"w{place}"]
    layer = torch.nn.Linear(*weight.shape)
    layer.weight.data, layer.bias.data = weight.T.contiguous(), made[f"b{place}"]
    layers += [layer, torch.nn.ReLU()]
network = torch.nn.Sequential(*layers[:-1], torch.nn.Softmax(1)).eval()
"""
TORCH = f"""
import sys
import fastapi, uvicorn
{WEIGHTS}
app = fastapi.FastAPI()
@app.post("/predict")
async def predict(request: fastapi.Request):
    data = await request.json()
    with torch.no_grad():
        scores = network(torch.tensor([data["input"]], dtype=torch.float32))[0]
    return {{"prediction": int(scores.argmax()), "probabilities": scores.tolist()}}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="info", access_log=False)
"""
LITSERVE = """
import logging, sys
import litserve, numpy, onnxruntime
class Api(litserve.LitAPI):
    def setup(self, device):
        said = onnxruntime.SessionOptions()
        said.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], said, providers=["CPUExecutionProvider"])
    def decode_request(self, request):
        return numpy.array(request["input"], numpy.float32)
    def batch(self, inputs):
        return numpy.stack(inputs)
    def predict(self, x):
        return self.session.run(None, {"x": x})[0]
    def unbatch(self, output):
        return list(output)
    def encode_response(self, scores):
        return {"prediction": int(scores.argmax()), "probabilities": scores.tolist()}
if __name__ == "__main__":
    print("http://127.0.0.1:" + sys.argv[2], file=sys.stderr, flush=True)
    litserve.LitServer(Api(max_batch_size=32, batch_timeout=0.001), accelerator="cpu", timeout=60).run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
"""


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for(port: int, body: bytes) -> None:
    """Until it answers."""
    import time
    import urllib.request

    asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
    for _ in range(300):
        try:
            with urllib.request.urlopen(asked, timeout=10) as reply:
                json.load(reply)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nobody answers on port {port}")


def main() -> int:
    """Rounds of all services in turn."""
    rounds, seconds = (2, 1.0) if is_quick() else (5, 2.0)
    ours, bare = bodies()
    with tempfile.TemporaryDirectory(prefix="keepfit-bench-") as scratch, ExitStack() as running:
        bundle = wide_bundle(Path(scratch, "bundle"))
        model = str(bundle / "model.onnx")
        commands = {
            "keepfit": ("-m", "keepfit", "serve", str(bundle), "--port", "0", "--workspace", scratch),
            "fastapi_onnxruntime": ("-c", BARE, model, "0"),
        }
        if find_spec("torch"):
            commands["fastapi_torch"] = ("-c", TORCH, model, "0")
        if find_spec("litserve"):
            script = Path(scratch, "lit.py")
            script.write_text(LITSERVE)
            commands["litserve"] = (str(script), model, str(free_port()))
        ports = {name: running.enter_context(service(*command)) for name, command in commands.items()}
        asked = {name: ours if name == "keepfit" else bare for name in ports}
        for name, port in ports.items():
            wait_for(port, asked[name])
            press(port, asked[name], 8, 1.0)
        seen: dict[str, dict[int, list[dict[str, float]]]] = {name: {n: [] for n in CONNECTIONS} for name in ports}
        for _ in range(rounds):
            for count in CONNECTIONS:
                for name, port in ports.items():
                    seen[name][count].append(press(port, asked[name], count, seconds))
    table = {
        name: {
            count: {
                key: round(statistics.median(one[key] for one in found), 2)
                for key in ("answers_per_s", "p50_ms", "p99_ms")
            }
            for count, found in by_count.items()
        }
        for name, by_count in seen.items()
    }
    most = {name: by_count[64]["answers_per_s"] for name, by_count in table.items()}
    lost = sum(one["refused"] + one["failed"] for by in seen.values() for found in by.values() for one in found)
    value = round(most["keepfit"] / max(count for name, count in most.items() if name != "keepfit"), 3)
    return told(GOAL, value, 1.0, value >= 1.0, rounds=rounds, client=client(), lost=lost, table=table)


if __name__ == "__main__":
    sys.exit(main())
