"""Events are cut out of bytes, wherever these were cut before."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.models.sse import Event, Events, TooLong

STREAM = (
    "data: Grüße\ndata: 世界\n\n: a comment\n\nevent: ping\ndata\n\n"
    "id: 7\nretry: 5\ndata:  two spaces\n\nevent: lonely\n\n"
)
EVENTS = [Event("", "Grüße\n世界"), Event("ping", ""), Event("", " two spaces")]


def read(chunks: list[bytes]) -> list[Event]:
    events = Events(most_bytes=10_000)
    return [event for chunk in chunks for event in events.feed(chunk)] + events.finish()


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_stream_is_read_alike_whatever_its_line_ends_and_its_cuts(line_end, size):
    raw = STREAM.replace("\n", line_end).encode()
    assert read([raw[at : at + size] for at in range(0, len(raw), size)]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM.encode()))), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_stream_is_read_alike_with_a_byte_order_mark_and_any_cut(cuts, line_end, mark):
    raw = (b"\xef\xbb\xbf" if mark else b"") + STREAM.replace("\n", line_end).encode()
    places = [0, *sorted(cuts), len(raw)]
    assert read([raw[a:b] for a, b in pairwise(places)]) == EVENTS


def test_event_is_there_as_soon_as_its_blank_line_is():
    events = Events(most_bytes=100)
    assert events.feed(b"data: a\n") == []
    assert events.feed(b"\n") == [Event("", "a")]
    assert events.feed(b"data: b\n\ndata: c") == [Event("", "b")]


def test_last_event_without_its_blank_line_counts():
    assert read([b"data: a\n\ndata: [DONE]"]) == [Event("", "a"), Event("", "[DONE]")]


def test_invalid_bytes_break_nothing():
    assert read([b"data: \xff\xfe\n\n"]) == [Event("", "\ufffd\ufffd")]


def test_endless_event_is_refused_but_an_endless_stream_is_not():
    events = Events(most_bytes=100)
    for _ in range(100):
        assert len(events.feed(b"data: " + b"x" * 50 + b"\n\n")) == 1
    for line in (b"data: xxx\n", b"xxxxxxxxxx"):
        events = Events(most_bytes=100)
        for _ in range(10):
            assert events.feed(line) == []
        with pytest.raises(TooLong):
            events.feed(line)
