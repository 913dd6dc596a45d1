"""The detector of errors: false alarms as promised, short delays, state that can be kept."""

from __future__ import annotations

import json

import numpy as np

from keepfit.monitor.streams import Watch, step, watch_of


def test_no_drift_hardly_rings_and_drift_rings_soon():
    rng = np.random.default_rng(0)
    quiet = sum(len(step(watch_of(200, 2000), rng.random(10_000) < 0.1, 100_000)[1]) for _ in range(20))
    delays = []
    for _ in range(20):
        stream = np.concatenate([rng.random(2000) < 0.1, rng.random(3000) < 0.2])
        delays += [place - 2000 for place in step(watch_of(200, 2000), stream, 100_000)[1] if place >= 2000][:1]
    assert quiet <= 7 and len(delays) == 20 and 60 < np.median(delays) < 240


def test_a_stream_in_parts_is_the_stream():
    stream = (np.random.default_rng(1).random(4000) < 0.2).tolist()
    begun = watch_of(100, 1000)
    whole, rang = step(begun, stream, 20_000)
    half, first = step(begun, stream[:1700], 20_000)
    half = Watch.from_json(json.loads(json.dumps(half.as_json())))
    rest, second = step(half, stream[1700:], 20_000)
    assert rest == whole and first + [place + 1700 for place in second] == rang and rang
