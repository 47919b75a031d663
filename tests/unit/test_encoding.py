"""Byte order marks declare the encoding of every file that is read, and are taken off."""

import pytest

from tasks.contract.encoding import decode_text, open_text_file, read_text_file
from tasks.loading.load import load

MARKED = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
CONFIG = "models:\r\n  fast: {provider: simulated}\r\nroutes: {r: {models: [fast]}}\rdefault_route: r\n"


@pytest.mark.parametrize("encoding", MARKED)
def test_encoding_of_each_mark_is_read_and_the_mark_taken_off(tmp_path, encoding):
    file = tmp_path / "file"
    file.write_bytes("\ufeffGrüße\r\n漢字\r".encode(encoding))

    assert decode_text(file.read_bytes()) == "Grüße\r\n漢字\r"
    assert read_text_file(file) == "Grüße\n漢字\n"
    with open_text_file(file) as lines:
        assert [line.lstrip("\ufeff") for line in lines] == ["Grüße\n", "漢字\n"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-be"])
def test_encoding_of_both_orders_is_known_by_its_mark(encoding):
    assert decode_text("\ufeffé".encode(encoding)) == "é"


@pytest.mark.parametrize("encoding", MARKED)
def test_configuration_is_read_with_any_mark_and_line_end(tmp_path, encoding):
    file = tmp_path / "pointsman.yaml"
    file.write_bytes(CONFIG.encode(encoding))

    assert load(file).default_route == "r"
