import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.tokens import A_MESSAGE, WHOLE, estimate, estimate_messages

#: Texts with their tokens as cl100k, o200k and Anthropic's published tokenizer count them: lowest and highest.
KNOWN = {
    "english": (
        "The Licensor grants You a worldwide, royalty-free licence to reproduce, publicly display and distribute it.",
        (20, 21),
    ),
    "numbers": ("4711,90210,123456789,31415926535,8,42,1000000,27182818284\n" * 4, (104, 112)),
    "json": ('{"id": 17, "name": "fast", "limits": {"rpm": 600, "tpm": null}, "tags": ["a", "b"]}', (34, 37)),
    "python": ("def add(first: int, second: int) -> int:\n    return first + second\n\n\n", (19, 20)),
    "chinese": ("我们的系统把每一个任务分配给最合适的模型，如果模型暂时没有空闲，任务就会在队列中等待。", (31, 40)),
    "german": ("Das System verteilt jede Aufgabe an das Modell, das am besten dafür geeignet ist.", (16, 26)),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_estimate_is_near_the_counts_of_tokenizers(kind):
    text, (least, most) = KNOWN[kind]

    assert 0.7 * least <= estimate(text) <= 1.4 * most


def test_estimate_of_an_empty_text_is_0_and_of_any_other_at_least_1():
    assert estimate("") == 0
    assert estimate(" ") == 1
    assert estimate_messages(["", "a"]) == 2 * A_MESSAGE + 1


@given(st.text())
def test_estimate_is_bounded_by_the_length_of_the_text(text):
    assert 0 <= estimate(text) <= 3 * len(text) + 1


def test_estimate_of_a_long_text_is_sampled_quickly_and_comes_out_alike():
    rng = random.Random(1)
    words = ["limit", "the", "of", "throughput", "42", "a", "(sic)", "Straße"]
    text = " ".join(rng.choice(words) for _ in range(1_500_000))
    part = text[: WHOLE - 1]

    began = time.process_time()
    tokens = estimate(text)

    assert time.process_time() - began < 1.0
    assert tokens == pytest.approx(estimate(part) * len(text) / len(part), rel=0.02)
