"""The transports' use of an address, and the versions of kombu that they accept."""

from __future__ import annotations

import ssl

import kombu
import pytest
from kombu import Connection
from kombu.exceptions import VersionMismatch
from redis import Connection as PlainConnection
from redis import SSLConnection, UnixDomainSocketConnection

from tasks.queue import app as _registered  # noqa: F401 - importing registers the transport
from tasks.queue.address import broker_url
from tasks.queue.channel import Channel
from tasks.queue.transport import RedisTransport, TLSTransport


def connected_by(connection, kind=Channel):
    """The parameters with which a channel of this connection would connect."""
    channel = object.__new__(kind)
    channel.connection = connection.transport
    return channel._connparams()


def test_transport_connects_with_user_and_password_and_shows_kombu_s_uri():
    connection = Connection(broker_url("redis://user:pass%40word@host:7000/3"))
    assert type(connection.transport) is RedisTransport
    how = connected_by(connection)
    assert (how["host"], how["port"], how["db"]) == ("host", 7000, 3)
    assert (how["username"], how["password"]) == ("user", "pass@word")
    assert issubclass(how["connection_class"], PlainConnection)
    assert connection.as_uri() == "redis://user:**@host:7000/3"
    assert connection.as_uri(include_password=True) == "redis://user:pass%40word@host:7000/3"
    assert type(connection.clone().transport) is RedisTransport


def test_tls_transport_checks_the_certificate_unless_configured_otherwise():
    connection = Connection(broker_url("rediss://host:7000/3"))
    assert type(connection.transport) is TLSTransport
    how = connected_by(connection)
    assert issubclass(how["connection_class"], SSLConnection)
    assert how["ssl_cert_reqs"] == ssl.CERT_REQUIRED
    assert connection.as_uri() == "rediss://:**@host:7000/3"
    own = Connection(broker_url("rediss://host:7000/3?ssl_cert_reqs=CERT_OPTIONAL&ssl_ca_certs=/ca.pem"))
    how = connected_by(own)
    assert (how["ssl_cert_reqs"], how["ssl_ca_certs"]) == (ssl.CERT_OPTIONAL, "/ca.pem")


def test_transport_of_a_unix_socket_shows_the_uri_that_flower_reads():
    connection = Connection(broker_url("unix://user:word@/run/x.sock?db=3"))
    how = connected_by(connection)
    assert (how["path"], how["username"], how["password"]) == ("/run/x.sock", "user", "word")
    assert issubclass(how["connection_class"], UnixDomainSocketConnection)
    assert connection.as_uri(include_password=True) == "redis+socket://user:word@/run/x.sock?virtual_host=3"
    assert "word@" not in connection.as_uri()


def test_transport_refuses_another_version_of_kombu_with_a_remedy(monkeypatch):
    monkeypatch.setattr(kombu, "VERSION", kombu.VERSION._replace(minor=8))
    with pytest.raises(
        VersionMismatch, match=r"needs kombu>=5\.7,<5\.8; install that, or set POINTSMAN_TRANSPORT=kombu"
    ):
        Connection(broker_url("redis://host:1/0")).transport  # noqa: B018 - made at the first access
