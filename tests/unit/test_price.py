import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.models import Price
from tasks.contract.result import Usage


def test_prices_are_for_a_million_tokens():
    assert Price(input=3, output=15).cost(Usage(input_tokens=1000, output_tokens=200)) == pytest.approx(0.006)


def test_cached_tokens_are_part_of_the_input_and_have_their_own_price():
    usage = Usage(input_tokens=1000, cached_tokens=800)

    assert Price(input=3, cached=0.3).cost(usage) == pytest.approx((200 * 3 + 800 * 0.3) / 1e6)
    assert Price(input=3).cost(usage) == pytest.approx(0.003)
    assert Price(input=3, cached=0).cost(usage) == pytest.approx(0.0006)


@given(*(st.integers(0, 10**9) for _ in range(3)), *(st.floats(0, 1000) for _ in range(3)))
def test_cost_is_never_negative_nor_raised_by_a_cheaper_cache(read, cached, written, dear, cheap, out):
    usage = Usage(input_tokens=read, cached_tokens=cached, output_tokens=written)
    low, high = sorted((dear, cheap))

    cost = Price(input=high, cached=low, output=out).cost(usage)

    assert 0 <= cost <= Price(input=high, output=out).cost(usage) * (1 + 1e-9) + 1e-12
