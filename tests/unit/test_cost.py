import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.calling.cost import cost_of
from tasks.config.models import Price
from tasks.contract.result import Usage


def test_prices_are_for_a_million_tokens():
    assert cost_of(Price(input=3, output=15), Usage(input_tokens=1000, output_tokens=200)) == pytest.approx(0.006)


def test_cached_tokens_are_part_of_the_input_and_have_their_own_price():
    usage = Usage(input_tokens=1000, cached_tokens=800)

    assert cost_of(Price(input=3, cached=0.3), usage) == pytest.approx((200 * 3 + 800 * 0.3) / 1e6)
    assert cost_of(Price(input=3), usage) == pytest.approx(0.003)
    assert cost_of(Price(input=3, cached=0), usage) == pytest.approx(0.0006)


@given(*(st.integers(0, 10**9) for _ in range(3)), *(st.floats(0, 1000) for _ in range(3)))
def test_no_call_earns_money_and_a_cache_that_is_cheaper_never_costs_more(read, cached, written, dear, cheap, out):
    usage = Usage(input_tokens=read, cached_tokens=cached, output_tokens=written)
    low, high = sorted((dear, cheap))

    cost = cost_of(Price(input=high, cached=low, output=out), usage)

    assert 0 <= cost <= cost_of(Price(input=high, output=out), usage) * (1 + 1e-9) + 1e-12
