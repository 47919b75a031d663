"""A classifier fitted from the examples of a configuration: a few texts a route, in numpy alone.

Linear `experts` on words (`features`) and, with an encoder, on vectors (`encoder`) score the routes. Routing needs a
classifier that knows when to abstain: `calibration` weighs the experts and finds the threshold on texts that no fit had
seen, among them whole routes left out, and where examples are few, texts of no route that the package knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import structlog

from tasks.contract.errors import ConfigError, EncoderFailed
from tasks.routing.classify.calibration import ENOUGH_OUTSIDE, Calibration
from tasks.routing.classify.decision import Abstention, Verdict, excerpt
from tasks.routing.classify.encoder import Encoder
from tasks.routing.classify.experts import Experts, TrainingRows
from tasks.routing.classify.features import Vocabulary
from tasks.routing.fitted_files import Arrays, FittedFiles

#: Characters of one example that are read: examples are short requests, and a pasted document would drown them.
EXAMPLE_CHARACTERS = 2_000
#: Examples that are fitted, spread evenly over the routes: bounds the time of a fit to some minutes.
MAX_EXAMPLES = 30_000
#: Examples, with their paraphrases, up to which strangers are fitted beside them; more tell by themselves what is far.
FEW = 400
#: Texts that hardly any configuration has a route for: small talk, general knowledge, chores, in four languages. Each
#: counts little beside an example, so a route for some of them gets them still.
STRANGERS = Path(__file__).with_name("strangers.txt")

_WORD = re.compile(r"\w")
_log = structlog.get_logger(__name__)


class ExampleClassifier:
    """Routes texts by their likeness to examples; made by `fit`, safe to share between threads.

    `threshold` is the confidence below which it abstains, `held_out_accuracy` the share of examples that were
    classified right by fits that had not seen them (abstention apart). `slow` with an encoder: a judgement then takes
    milliseconds or the network.
    """

    name = "examples"

    def __init__(self, fitted: _Fitted, encoder: Encoder | None = None, threshold: float | None = None) -> None:
        self._fitted = fitted
        self._encoder = encoder
        self.routes = fitted.routes
        self.slow = encoder is not None
        self.threshold = fitted.calibration.threshold if threshold is None else threshold
        self.held_out_accuracy = fitted.calibration.accuracy

    @classmethod
    def fit(
        cls,
        examples: Mapping[str, Sequence[str]],
        *,
        encoder: Encoder | None = None,
        cache: Path | None = None,
        outside: Sequence[str] = (),
        paraphrases: Mapping[str, Sequence[str]] | None = None,
    ) -> ExampleClassifier | None:
        """Fit to `examples` (route → its texts); None when fewer than two routes have a text.

        `cache` is a folder of `FittedFiles`: the next fit to the same examples reads it. `outside` are texts that
        belong to no route; 20 of them replace those that the package knows. `paraphrases` of an example count beside it
        and are held out with it. Deterministic.

        Raises:
            ConfigError: if the encoder gives no vectors.
        """
        material = select_examples(examples)
        if len(material) < 2:
            return None
        said = {text: list((paraphrases or {}).get(text, ())) for own in material.values() for text in own}
        try:
            fitted = FittedFiles(cache).load_or_fit(
                ["examples", list(material.items()), list(outside), said, encoder.fingerprint if encoder else ""],
                lambda arrays: _Fitted.of_arrays(tuple(material), arrays),
                lambda: _fit(material, said, outside, encoder),
            )
            if encoder:
                encoder.prepare()
        except EncoderFailed as error:
            raise ConfigError(
                f"classifier.encoder: {error}; start its server, correct the URL, or set encoder: none"
            ) from None
        return cls(fitted, encoder)

    def when_sure(self) -> ExampleClassifier:
        """The same, but it abstains wherever a text that no fit had seen was taken to a wrong route."""
        return ExampleClassifier(self._fitted, self._encoder, self._fitted.calibration.sure)

    def judge(self, text: str) -> Verdict | Abstention:
        """Return the route most like `text`, or the reason for none, also where the encoder failed.

        Reads at most 8,000 characters (`excerpt`). Confidence is the largest of softmax(weighted sum of the experts'
        scores).
        """
        try:
            (guess,) = self.guesses([text])
        except EncoderFailed as error:
            return Abstention(self.name, f"its encoder failed: {error}")
        if not guess.confidence:
            return Abstention(self.name, guess.reason)
        if guess.confidence < self.threshold:
            by = "meaning" if self._encoder else "words"
            least = f"{self.threshold:.2f}"
            return Abstention(self.name, f"{guess.route!r} at {guess.confidence:.2f} by its {by}, below {least}")
        return guess

    def guesses(self, texts: Sequence[str]) -> list[Verdict]:
        """Return the likeliest route of each text, whatever the threshold; confidence 0 where nothing is known.

        With an encoder, many texts at a time are quicker. Raises EncoderFailed.
        """
        read = [excerpt(text) for text in texts]
        rows = [self._fitted.vocabulary.row(text) for text in read]
        found = [Verdict(self.routes[0], self.name, 0.0, "no word in common with the examples")] * len(read)
        # Without a word there is nothing to encode either: an endpoint need not be asked.
        known = [
            at for at, row in enumerate(rows) if len(row[0]) or (self._encoder and any(map(str.isalnum, read[at])))
        ]
        if not known:
            return found
        vectors = self._encoder.encode([read[at] for at in known]) if self._encoder else None
        scores = self._fitted.experts.scores([rows[at] for at in known], vectors)
        # The last class may be that of strangers.
        for at, p in zip(known, self._fitted.calibration.confidences(scores)[:, : len(self.routes)], strict=True):
            route, confidence = self.routes[int(p.argmax())], float(p.max())
            found[at] = Verdict(route, self.name, confidence, f"most like the examples of {route!r}")
        return found


class LateClassifier:
    """A classifier of examples that is fitted when it is first asked: its encoder takes seconds and 200 MB to load.

    `instead` judges where that fails.
    """

    name = ExampleClassifier.name
    slow = True

    def __init__(self, instead: ExampleClassifier, fit: Callable[[], ExampleClassifier | None]) -> None:
        self._instead = instead
        self._fit = fit
        self._lock = Lock()

    def judge(self, text: str) -> Verdict | Abstention:
        """As `ExampleClassifier.judge`. The first call takes seconds, and others wait for it."""
        with self._lock:
            fitted = self._fitted
        return fitted.judge(text)

    @cached_property
    def _fitted(self) -> ExampleClassifier:
        try:
            return self._fit() or self._instead
        except Exception as error:  # noqa: BLE001 - onnxruntime raises what it likes
            # Nobody asked for this encoder by name: an installation that is damaged must not cost a job its route.
            _log.exception("the encoder can't be used, words decide alone", error=type(error).__name__)
            return self._instead


@dataclass(frozen=True, slots=True)
class _Fitted:
    """All that was learned from the examples."""

    routes: tuple[str, ...]
    vocabulary: Vocabulary
    experts: Experts
    calibration: Calibration

    def arrays(self) -> Arrays:
        calibration = self.calibration
        return {
            "hashes": self.vocabulary.hashes,
            "idf": self.vocabulary.idf,
            "figures": np.array(
                [self.vocabulary.unseen, calibration.threshold, calibration.accuracy, calibration.sure]
            ),
            "expert_weights": np.array(calibration.weights),
            "words": self.experts.words,
            **({} if self.experts.vectors is None else {"vectors": self.experts.vectors}),
        }

    @classmethod
    def of_arrays(cls, routes: tuple[str, ...], saved: Arrays) -> _Fitted:
        unseen, *figures = map(float, saved["figures"])
        vocabulary = Vocabulary(saved["hashes"], saved["idf"], unseen)
        calibration = Calibration(tuple(map(float, saved["expert_weights"])), *figures)
        return cls(routes, vocabulary, Experts(saved["words"], saved.get("vectors")), calibration)


def select_examples(examples: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the beginnings of the texts with a word in them, by route, without routes that have none.

    A text that stands twice under one route counts twice. Of more than 30,000 an even selection is kept.
    """
    usable = {route: [text for text in texts if _WORD.search(text)] for route, texts in examples.items()}
    usable = {route: texts for route, texts in usable.items() if texts}
    if sum(map(len, usable.values())) > MAX_EXAMPLES:
        share = max(1, MAX_EXAMPLES // len(usable))
        usable = {route: texts[:: -(-len(texts) // share)] for route, texts in usable.items()}
    return {route: [text[:EXAMPLE_CHARACTERS] for text in texts] for route, texts in usable.items()}


def _fit(
    examples: Mapping[str, Sequence[str]],
    paraphrases: Mapping[str, Sequence[str]],
    outside: Sequence[str],
    encoder: Encoder | None,
) -> _Fitted:
    rows = [
        (text, label, rank)
        for label, own in enumerate(examples.values())
        for rank, example in enumerate(own)
        for text in (example, *paraphrases[example])
    ]
    few = len(rows) <= FEW
    texts = {text for text, _, _ in rows}
    strangers = [excerpt(text) for text in outside if text.strip()]
    if few and len(strangers) < ENOUGH_OUTSIDE:
        strangers += [text for text in STRANGERS.read_text("utf-8").splitlines() if text not in texts]
    rows += [(text, len(examples), rank) for rank, text in enumerate(strangers)]
    every = [text for text, _, _ in rows]
    vocabulary = Vocabulary.fit(every if few else every[: len(every) - len(strangers)])
    training = TrainingRows(
        rows=[vocabulary.row(text) for text in every],
        vectors=encoder.encode(every) if encoder else None,
        labels=np.array([label for _, label, _ in rows]),
        ranks=np.array([rank for _, _, rank in rows]),
        features=vocabulary.size,
        routes=len(examples),
        fits_strangers=few,
    )
    calibration = Calibration.of(training)
    experts = Experts.fit(training if few else training.part(training.own))
    return _Fitted(tuple(examples), vocabulary, experts, calibration)
