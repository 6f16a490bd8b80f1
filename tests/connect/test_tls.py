"""TLS: the attempts that each sslmode makes, the context that the options make, and what it accepts.

The handshakes are real ones between two ends in memory, with certificates of an authority made for the tests.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headrace._connect.params.secret import Secret
from headrace._connect.tls import (
    Attempt,
    TLSSettings,
    attempts,
    certificate_requested,
    check_alpn,
    make_context,
    server_hostname,
)
from headrace.exceptions import ClientConfigurationError, ProtocolError
from tests.certificates import Authority, Issued, openssl

PLAIN = Attempt(tls=False)
TLS = Attempt(tls=True)


# ---- which attempts are made


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("disable", (PLAIN,)),
        ("allow", (PLAIN, TLS)),
        ("prefer", (Attempt(tls=True, plain_on_refusal=True), PLAIN)),
        ("require", (TLS,)),
        ("verify-ca", (TLS,)),
        ("verify-full", (TLS,)),
    ],
)
def test_the_attempts_of_each_mode(mode: Any, expected: tuple[Attempt, ...]) -> None:
    assert attempts(TLSSettings(mode=mode), unix=False) == expected
    assert attempts(TLSSettings(mode=mode), unix=True) == (PLAIN,)


def test_direct_tls_asks_for_nothing_first() -> None:
    settings = TLSSettings(mode="require", negotiation="direct")
    assert attempts(settings, unix=False) == (Attempt(tls=True, direct=True),)


@pytest.mark.fault(number=17)
@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "verify-full"])
def test_required_channel_binding_leaves_out_what_could_not_bind(mode: Any) -> None:
    assert attempts(TLSSettings(mode=mode), unix=False, channel_binding="require") == (TLS,)


@pytest.mark.fault(number=17)
def test_required_channel_binding_without_tls_makes_no_sense() -> None:
    with pytest.raises(ClientConfigurationError, match="channel_binding=require needs TLS"):
        attempts(TLSSettings(mode="disable"), unix=False, channel_binding="require")


def test_a_users_context_means_tls_and_nothing_else() -> None:
    settings = TLSSettings(mode="require", context=ssl.create_default_context())
    assert attempts(settings, unix=False) == (TLS,)
    assert make_context(settings) is settings.context


# ---- which name is sent and verified


def test_the_name_is_the_one_the_user_gave() -> None:
    assert server_hostname(TLSSettings(), "name") == "name"
    assert server_hostname(TLSSettings(mode="verify-full"), "name") == "name"
    assert server_hostname(TLSSettings(sni=False), "name") is None
    assert server_hostname(TLSSettings(), None) is None


def test_a_name_to_verify_must_be_given() -> None:
    with pytest.raises(ClientConfigurationError, match="only hostaddr is given"):
        server_hostname(TLSSettings(mode="verify-full"), None)
    checked = TLSSettings(mode="require", context=ssl.create_default_context(), sni=False)
    with pytest.raises(ClientConfigurationError, match="only hostaddr is given"):
        server_hostname(checked, None)
    assert server_hostname(checked, "name") == "name"


# ---- certificates


@dataclass
class Pki:
    """What the tests need of an authority, made once."""

    authority: Authority
    server: Issued
    expired: Issued
    revoked: Issued
    client: Issued
    crl: Path
    stranger: Authority


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority with a server's, an expired, a revoked and a client's certificate, and one nobody
    trusts."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    revoked = authority.issue("revoked", names=["localhost"])
    authority.revoke(revoked)
    return Pki(
        authority=authority,
        server=authority.issue("server", names=["localhost", "db.example"], addresses=["127.0.0.1"]),
        expired=authority.issue("expired", names=["localhost"], expired=True),
        revoked=revoked,
        client=authority.issue("client"),
        crl=authority.revoked(),
        stranger=Authority(tmp_path_factory.mktemp("stranger")),
    )


@dataclass
class Shaken:
    """The two ends after a handshake."""

    client: ssl.SSLObject
    server: ssl.SSLObject


def shake_hands(
    settings: TLSSettings,
    certificate: Issued,
    *,
    host: str | None = "localhost",
    asks: Authority | None = None,
    alpn: bool = True,
    sees: Callable[[str | None], None] | None = None,
) -> Shaken:
    """Connect a client with these settings to a server with this certificate. Raises the client's
    ssl.SSLError.

    `asks`: the server asks for a certificate of this authority. `sees`: is told the name that the client
    sends.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if alpn:
        context.set_alpn_protocols(["postgresql"])
    if asks is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(asks.root)
    if sees is not None:
        context.sni_callback = lambda end, name, context: sees(name)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = make_context(settings).wrap_bio(to_client, to_server, server_hostname=server_hostname(settings, host))
    pending = [client, server]
    for end in pending * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return Shaken(client, server)


def settings_for(pki: Pki, **changes: Any) -> TLSSettings:
    """Return settings that verify the server by the authority."""
    return replace(TLSSettings(mode="verify-full", rootcert=str(pki.authority.root)), **changes)


def test_the_right_server_is_accepted(pki: Pki) -> None:
    for host in ("localhost", "db.example", "127.0.0.1"):
        ends = shake_hands(settings_for(pki), pki.server, host=host)
        assert ends.client.version() == "TLSv1.3"
        assert ends.client.selected_alpn_protocol() == "postgresql"


@pytest.mark.fault(number=13)
def test_a_wrong_name_is_refused_by_verify_full_alone(pki: Pki) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(settings_for(pki), pki.server, host="other.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(settings_for(pki), pki.server, host="127.0.0.2")
    shake_hands(settings_for(pki, mode="verify-ca"), pki.server, host="other.example")


@pytest.mark.fault(number=13)
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_an_expired_certificate_is_refused_where_authorities_are_known(pki: Pki, mode: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(settings_for(pki, mode=mode), pki.expired)


@pytest.mark.fault(number=13)
def test_an_authority_that_is_not_trusted_is_refused(pki: Pki) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(settings_for(pki, rootcert=str(pki.stranger.root)), pki.server)


@pytest.mark.fault(number=13)
@pytest.mark.parametrize("where", ["file", "directory", "default"])
def test_a_revoked_certificate_is_refused(pki: Pki, tmp_path: Path, where: str) -> None:
    settings = settings_for(pki)
    shake_hands(settings, pki.revoked)
    if where == "file":
        settings = replace(settings, crl=str(pki.crl))
    elif where == "directory":
        (tmp_path / "authority.crl").write_bytes(pki.crl.read_bytes())
        openssl("rehash", tmp_path)
        settings = replace(settings, crldir=str(tmp_path))
    else:
        (tmp_path / "root.crl").write_bytes(pki.crl.read_bytes())
        settings = replace(settings, directory=str(tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake_hands(settings, pki.revoked)
    shake_hands(settings, pki.server)


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_without_authorities_the_weaker_modes_verify_nothing(pki: Pki, tmp_path: Path, mode: Any) -> None:
    shake_hands(TLSSettings(mode=mode, directory=str(tmp_path)), pki.expired, host="other.example")


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_root_crt_in_the_home_directory_is_used_in_every_mode(pki: Pki, tmp_path: Path, mode: Any) -> None:
    settings = TLSSettings(mode=mode, directory=str(tmp_path))
    (tmp_path / "root.crt").write_bytes(pki.stranger.root.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(settings, pki.server)
    (tmp_path / "root.crt").write_bytes(pki.authority.root.read_bytes())
    shake_hands(settings, pki.server, host="other.example")


@pytest.mark.fault(number=13)
@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_verifying_without_authorities_is_refused(tmp_path: Path, mode: Any) -> None:
    with pytest.raises(ClientConfigurationError, match=r"root.crt\" does not exist") as caught:
        make_context(TLSSettings(mode=mode, directory=str(tmp_path)))
    assert "sslrootcert=system" in str(caught.value)


@pytest.mark.fault(number=13)
def test_the_systems_authorities_verify_the_name(pki: Pki) -> None:
    settings = TLSSettings(mode="verify-full", rootcert="system")
    context = make_context(settings)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(settings, pki.server)


@pytest.mark.fault(number=13)
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_the_systems_authorities_with_a_weaker_mode_are_refused(mode: Any) -> None:
    with pytest.raises(ClientConfigurationError, match="needs sslmode=verify-full"):
        TLSSettings(mode=mode, rootcert="system")


# ---- the client's certificate


def client_settings(pki: Pki, **changes: Any) -> TLSSettings:
    """Return settings with the client's certificate."""
    return settings_for(pki, **{"cert": str(pki.client.certificate), "key": str(pki.client.key), **changes})


def common_name(ends: Shaken) -> str | None:
    """Return the common name in the certificate that the client sent."""
    certificate = ends.server.getpeercert()
    if not certificate:
        return None
    subject: Any = certificate["subject"]
    return str(subject[0][0][1])


def test_the_clients_certificate_is_sent_where_the_server_asks(pki: Pki) -> None:
    assert common_name(shake_hands(client_settings(pki), pki.server, asks=pki.authority)) == "client"
    assert common_name(shake_hands(client_settings(pki), pki.server)) is None


def test_the_clients_certificate_may_be_in_the_home_directory(pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "postgresql.crt").write_bytes(pki.client.certificate.read_bytes())
    key = tmp_path / "postgresql.key"
    settings = settings_for(pki, directory=str(tmp_path))
    with pytest.raises(ClientConfigurationError, match="but no key for it"):
        make_context(settings)
    key.write_bytes(pki.client.key.read_bytes())
    key.chmod(0o600)
    assert common_name(shake_hands(settings, pki.server, asks=pki.authority)) == "client"
    disabled = replace(settings, certmode="disable")
    assert common_name(shake_hands(disabled, pki.server, asks=pki.authority)) is None


def test_a_certificate_may_be_required_to_be_asked_for(pki: Pki) -> None:
    settings = client_settings(pki, certmode="require")
    assert certificate_requested(shake_hands(settings, pki.server, asks=pki.authority).client)
    assert not certificate_requested(shake_hands(settings, pki.server).client)
    older = replace(settings, max_version="TLSv1.2")
    assert certificate_requested(shake_hands(older, pki.server, asks=pki.authority).client)
    with pytest.raises(ClientConfigurationError, match="there is no client certificate"):
        make_context(settings_for(pki, certmode="require"))


def test_an_encrypted_key_needs_its_password(pki: Pki, tmp_path: Path) -> None:
    key = tmp_path / "encrypted.key"
    openssl("pkey", "-in", pki.client.key, "-aes256", "-passout", "pass:hunter2", "-out", key)
    key.chmod(0o600)
    settings = client_settings(pki, key=str(key))
    shake_hands(replace(settings, password=Secret("hunter2")), pki.server)
    with pytest.raises(ClientConfigurationError, match="give its password as sslpassword"):
        make_context(settings)
    with pytest.raises(ClientConfigurationError, match="cannot be used") as caught:
        make_context(replace(settings, password=Secret("hunter3")))
    assert "hunter" not in str(caught.value)


@pytest.mark.fault(number=19)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o601, 0o660, 0o650])
def test_a_key_that_others_can_use_is_refused(pki: Pki, tmp_path: Path, mode: int) -> None:
    key = tmp_path / "open.key"
    key.write_bytes(pki.client.key.read_bytes())
    key.chmod(mode)
    with pytest.raises(ClientConfigurationError, match=f"mode {mode:04o}") as caught:
        make_context(client_settings(pki, key=str(key)))
    assert "chmod 600" in str(caught.value)


@pytest.mark.fault(number=19)
def test_a_group_may_read_a_key_of_roots_alone(pki: Pki, tmp_path: Path) -> None:
    key = tmp_path / "group.key"
    key.write_bytes(pki.client.key.read_bytes())
    key.chmod(0o640)
    if os.geteuid() == 0:
        make_context(client_settings(pki, key=str(key)))
        os.chown(key, 65534, -1)
    with pytest.raises(ClientConfigurationError, match="mode 0640"):
        make_context(client_settings(pki, key=str(key)))


def test_a_key_must_be_a_plain_file(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(ClientConfigurationError, match="not a plain file"):
        make_context(client_settings(pki, key=str(tmp_path)))


@pytest.mark.parametrize("name", ["rootcert", "cert", "key", "crl", "crldir"])
@pytest.mark.parametrize("mode", ["prefer", "verify-full"])
def test_a_file_that_is_named_must_be_there_and_make_sense(pki: Pki, tmp_path: Path, name: str, mode: str) -> None:
    def named(path: Path) -> TLSSettings:
        changes: dict[str, Any] = {name: str(path)}
        return client_settings(pki, mode=mode, **changes)

    with pytest.raises(ClientConfigurationError, match=f"ssl{name}.*(No such file|no directory)"):
        make_context(named(tmp_path / "none"))
    wrong = tmp_path / "wrong"
    wrong.write_text("not a certificate")
    wrong.chmod(0o600)
    with pytest.raises(ClientConfigurationError, match=f"ssl{name}"):
        make_context(named(wrong))


def test_a_key_that_belongs_to_another_certificate(pki: Pki) -> None:
    with pytest.raises(ClientConfigurationError, match="KEY_VALUES_MISMATCH"):
        make_context(client_settings(pki, key=str(pki.server.key)))


# ---- versions, names, ALPN


def test_versions_have_limits(pki: Pki) -> None:
    assert make_context(TLSSettings(mode="require")).minimum_version is ssl.TLSVersion.TLSv1_2
    older = shake_hands(settings_for(pki, max_version="TLSv1.2"), pki.server)
    assert older.client.version() == "TLSv1.2"
    newer = make_context(settings_for(pki, min_version="TLSv1.3"))
    assert newer.minimum_version is ssl.TLSVersion.TLSv1_3
    unbound = make_context(TLSSettings(mode="require", min_version=None))
    assert unbound.minimum_version < ssl.TLSVersion.TLSv1_2


def test_the_name_is_sent_unless_turned_off(pki: Pki) -> None:
    seen: list[str | None] = []
    shake_hands(settings_for(pki), pki.server, sees=seen.append)
    shake_hands(settings_for(pki, mode="verify-ca", sni=False), pki.server, sees=seen.append)
    # An IP address is no name (RFC 6066, 3).
    shake_hands(settings_for(pki), pki.server, host="127.0.0.1", sees=seen.append)
    assert seen == ["localhost", None, None]


def test_a_protocol_must_be_selected_where_tls_is_direct() -> None:
    direct = TLSSettings(mode="require", negotiation="direct", require_alpn=True)
    check_alpn(direct, "postgresql")
    with pytest.raises(ProtocolError, match="did not select the protocol by ALPN"):
        check_alpn(direct, None)
    with pytest.raises(ProtocolError, match="not PostgreSQL's"):
        check_alpn(TLSSettings(mode="require"), "h2")
    check_alpn(TLSSettings(mode="require"), None)
    check_alpn(TLSSettings(mode="require", negotiation="direct"), None)


def test_a_server_that_knows_no_alpn_selects_nothing(pki: Pki) -> None:
    assert shake_hands(settings_for(pki), pki.server, alpn=False).client.selected_alpn_protocol() is None


def test_keys_are_logged_where_asked(pki: Pki, tmp_path: Path) -> None:
    log = tmp_path / "keys"
    shake_hands(settings_for(pki, keylogfile=str(log)), pki.server)
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ClientConfigurationError, match="sslkeylogfile .* cannot be used"):
        make_context(settings_for(pki, keylogfile=str(tmp_path / "none" / "keys")))
