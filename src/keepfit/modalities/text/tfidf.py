"""TF-IDF of n-grams and a linear model on it: vocabulary and idf from the training split, an ONNX head for sparse rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.core import digest
from keepfit.core.errors import DataError, missing_extra
from keepfit.modalities.room import Sample, Trained, Way, class_weights
from keepfit.modalities.text.options import AutoOptions, TfidfOptions
from keepfit.runtime.text_predictor import COLUMN
from keepfit.runtime.texts import INDICES, WEIGHTS, Analyzer, Block, TextPreparation, cjk_share, grams

_ABSENT = -50.0  # the raw score of a class that the fitted rows do not have: exp(-50) is about 0
_MOSTLY = 0.3  # above this share of Chinese, Japanese and Korean letters, words have no blanks between them
_HELD = 4_000_000  # n-grams counted at once; above it those seen once are forgotten
_TERMS = 10


def fit(
    options: TfidfOptions | AutoOptions, train: Sample, valid: Sample, probe: Any, classes: int, way: Way
) -> Trained:
    """Vocabulary and idf see `train` only; with `refit` the linear model is fitted on both in the end."""
    _need_the_extra()
    said = options.settled()
    texts = list(train.table.columns[COLUMN])
    share = cjk_share(texts)
    preparation = TextPreparation(tuple(_block(texts, *kind, said.max_features) for kind in kinds_of(said, share)))
    if not preparation.size:
        raise DataError(
            "no_features",
            "the training texts have no words",
            where="data.text",
            seen=repr(texts[0])[:60],
            hint="name the column of texts in data.text, or say model.analyzer: char",
        )
    rows, held, asked = (
        sparse(list(table.columns[COLUMN]), preparation) for table in (train.table, valid.table, probe)
    )
    weigh = class_weights(train.truth, classes, way)
    head = Head(rows, train.truth, weigh, classes, said.c, way)
    chosen = head.scores(held)
    if said.refit:
        from scipy.sparse import vstack

        head = Head(
            vstack([rows, held], "csr"), np.concatenate([train.truth, valid.truth]), weigh, classes, said.c, way
        )
    onnx = head.onnx(preparation.size)
    return Trained(
        digest.canonical(preparation.to_json()),
        onnx,
        {"linear.json": json.dumps({"weight": head.weight.tolist(), "bias": head.bias.tolist()}).encode()},
        head.scores(asked),
        _facts(options.use, said, preparation, share, weigh, head, len(onnx), way),
        [str(i) for i in valid.table.ids],
        np.stack([chosen, chosen]),
    )


def kinds_of(said: TfidfOptions, share: float) -> list[tuple[Analyzer, int, int]]:
    """What is counted: analyzer, least and most length of an n-gram. `share` is that of Chinese, Japanese and Korean."""
    dense = share >= _MOSTLY
    analyzer = ("char" if dense else "both") if said.analyzer == "auto" else said.analyzer
    usual = {"word": (1, 2), "char": (1, 3) if dense else (2, 4)}
    if analyzer == "word":
        return [("word", *(usual["word"] if said.ngrams == "auto" else said.ngrams))]
    char: tuple[Analyzer, int, int] = ("char", *(usual["char"] if said.ngrams == "auto" else said.ngrams))
    return [("word", *usual["word"]), char] if analyzer == "both" else [char]


def _block(texts: Sequence[str | None], analyzer: Analyzer, least: int, most: int, features: int) -> Block:
    """The most frequent n-grams; one that a single text has teaches nothing of others, and would leave the house."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(grams(text or "", analyzer, least, most)))
        if len(counts) > _HELD:
            counts = Counter({gram: times for gram, times in counts.items() if times > 1})
    common = sorted((gram for gram, times in counts.items() if times > 1), key=lambda gram: (-counts[gram], gram))
    vocabulary = tuple(sorted(common[:features]))
    seen = np.array([counts[gram] for gram in vocabulary], np.float64)
    idf = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float32)
    return Block(analyzer, least, most, vocabulary, idf)


def sparse(texts: Sequence[str | None], preparation: TextPreparation) -> Any:
    """The texts as a scipy CSR matrix [n, terms] float64, by the code that serves."""
    from scipy.sparse import csr_matrix

    found = [preparation.weights(text) for text in texts]
    ends = np.concatenate([[0], np.cumsum([len(where) for where, _ in found])])
    where = np.concatenate([where for where, _ in found]) if found else np.zeros(0, np.int64)
    weights = np.concatenate([weight for _, weight in found]) if found else np.zeros(0, np.float32)
    return csr_matrix((weights.astype(np.float64), where, ends), shape=(len(texts), preparation.size))


class Head:
    """Logistic regression, or ridge for numbers: `weight` float32 [terms, k] and `bias` float32 [k]."""

    def __init__(
        self, rows: Any, truth: NDArray[Any], weigh: NDArray[np.float64] | None, classes: int, c: float, way: Way
    ) -> None:
        from sklearn.linear_model import LogisticRegression, Ridge
        from threadpoolctl import threadpool_limits

        self.classes = classes
        mean, scale = (0.0, 1.0) if classes else (float(truth.mean()), float(truth.std() or 1.0))
        with threadpool_limits(way.threads):  # on a busy machine threads of BLAS wait for each other
            if classes:
                each = None if weigh is None else weigh[truth.astype(int)]
                self._model: Any = LogisticRegression(C=c, max_iter=400, random_state=way.seed)
                self._model.fit(rows, truth, sample_weight=each)
            else:
                self._model = Ridge(alpha=1.0 / c, solver="sparse_cg", random_state=way.seed, tol=1e-6)
                self._model.fit(rows, (truth - mean) / scale)
        weight, bias = np.atleast_2d(self._model.coef_).T, np.atleast_1d(self._model.intercept_)
        self._mean, self._scale = mean, scale
        if not classes:
            weight, bias = weight * scale, bias * scale + mean
        elif len(self._model.classes_) == 2:
            weight, bias = np.hstack([np.zeros_like(weight), weight]), np.array([0.0, bias[0]])
        if classes:
            weight, bias = self._widened(weight, 0.0), self._widened(bias, _ABSENT)
        self.weight, self.bias = weight.astype(np.float32), bias.astype(np.float32)

    def _widened(self, values: NDArray[Any], absent: float) -> NDArray[Any]:
        """Values [.., known classes] as [.., classes], with `absent` for the others."""
        out = np.full((*values.shape[:-1], self.classes), absent)
        out[..., self._model.classes_.astype(int)] = values
        return out

    def scores(self, rows: Any) -> NDArray[np.float64]:
        """Probabilities [n, classes] or values [n, 1] by scikit-learn itself."""
        if not self.classes:
            return np.asarray(self._model.predict(rows) * self._scale + self._mean)[:, None]
        return self._widened(self._model.predict_proba(rows), 0.0)

    def onnx(self, terms: int) -> bytes:
        """Inputs `indices` int64 [n, m] and `weights` float32 [n, m]; output `scores` [n, k]. Deterministic bytes."""
        from onnx import TensorProto, checker, helper, numpy_helper

        nodes = [
            helper.make_node("Gather", ["table", INDICES], ["rows"], axis=0),
            helper.make_node("Unsqueeze", [WEIGHTS, "middle"], ["factors"]),
            helper.make_node("MatMul", ["factors", "rows"], ["sums"]),
            helper.make_node("Squeeze", ["sums", "middle"], ["flat"]),
            helper.make_node("Add", ["flat", "bias"], ["raw"]),
            helper.make_node("Softmax", ["raw"], ["scores"], axis=1)
            if self.classes
            else helper.make_node("Identity", ["raw"], ["scores"]),
        ]
        constants = {"table": self.weight, "bias": self.bias, "middle": np.array([1], np.int64)}
        graph = helper.make_graph(
            nodes,
            "keepfit",
            [
                helper.make_tensor_value_info(INDICES, TensorProto.INT64, ["n", "m"]),
                helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, ["n", "m"]),
            ],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", self.weight.shape[1]])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        imports = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=imports, producer_name="keepfit", ir_version=9)
        helper.set_model_props(model, {"terms": str(terms)})
        checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def _need_the_extra() -> None:
    """Said before the work, what export and report need too."""
    import importlib

    for module in ("sklearn", "onnx", "matplotlib"):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise missing_extra("text", error.name or module) from None


def _facts(
    use: str,
    said: TfidfOptions,
    preparation: TextPreparation,
    share: float,
    weigh: NDArray[np.float64] | None,
    head: Head,
    size: int,
    way: Way,
) -> dict[str, Any]:
    counted = " and ".join(
        f"{block.analyzer} {block.least}-{block.most}-grams ({len(block.vocabulary):,})" for block in preparation.blocks
    )
    why = " (chosen by that share)" if said.analyzer == "auto" else ""
    trial = {"name": use, "params": {"counts": counted, "c": said.c}, "rounds": 0, "size_bytes": size, "scores_at": 0}
    return {
        "weights": {use: 1.0},
        "rounds": {use: 0},
        "copies": {use: 1},
        "scored_by": "the validation rows",
        "tried": [use],
        "chosen": use,
        "members": [{"name": use, "weight": 1.0}],
        "trials": [trial],
        "ended": [],
        "curve": None,
        "features": preparation.size,
        "onnx_bytes": size,
        "class_weights": None if weigh is None else [round(float(w), 6) for w in weigh],
        "notes": [
            f"{share:.0%} of the letters in the training texts are Chinese, Japanese or Korean; "
            f"counted were {counted}{why}."
        ],
        "terms": _heaviest(preparation, head, way.names),
    }


def _heaviest(preparation: TextPreparation, head: Head, names: Sequence[str]) -> list[dict[str, Any]]:
    """The n-grams with the largest weights of each class, above the mean of the classes; for numbers those up and down."""
    vocabulary = [gram for block in preparation.blocks for gram in block.vocabulary]
    weight = head.weight.astype(np.float64)
    if head.classes:
        columns, said = (weight - weight.mean(1, keepdims=True)).T, list(names)
    else:
        columns, said = np.stack([weight[:, 0], -weight[:, 0]]), ["larger", "smaller"]
    found = []
    for name, column in zip(said, columns, strict=True):
        best = np.argsort(-column, kind="stable")[:_TERMS]
        found.append({"name": name, "terms": [[vocabulary[n], float(f"{column[n]:.4g}")] for n in best]})
    return found
