"""DSNs of both forms: ConnectParams come of them, or ClientConfigurationError, and no password shows."""

from __future__ import annotations

from collections.abc import Iterable

from headrace import exceptions
from headrace._connect.params.options import OPTIONS
from headrace._connect.params.resolve import resolve
from tests.fuzz.target import Target
from tests.fuzz.targets.lexer import text_of

DSNS = (
    "postgresql://user:secret@host:5432/database?sslmode=require&application_name=x", "postgres://", "postgres:///db",
    "postgresql://u%20v:p%40w@[::1]:5433,b:5434/d%2F?target_session_attrs=read-write&options=-c%20a%3Db",
    "host=a,b port=1,2 dbname='my db' user=me password='it\\'s' sslmode=verify-full", "hostaddr=127.0.0.1 host=x",
    "postgresql://%2Ftmp/db", "host=/tmp", "host=@abstract port=5432",
    "connect_timeout=10 keepalives_idle=5 keepalives=0",
    "require_auth=!password,!md5 channel_binding=require", "sslrootcert=system min_protocol_version=3.2", "service=x",
    "load_balance_hosts=random ssl_min_protocol_version=TLSv1.3 sslnegotiation=direct sslmode=require",
    "user=a  user = b",
)  # fmt: skip


class Dsn(Target):
    """See above."""

    name = "dsn"
    allowed = (exceptions.ClientConfigurationError,)
    words = (
        *(f"{name}=".encode() for name in OPTIONS),
        *(b"postgresql://", b"@", b":", b"/", b"?", b"&", b"=", b",", b"[", b"]", b"%", b"%00", b"%41", b"'", b"\\",
        b" "),
        *(b"disable", b"prefer", b"require", b"verify-ca", b"true", b"random", b"3.0", b"TLSv1.2", b"-1", b"1e5",
        b"99999"),
    )  # fmt: skip

    def seeds(self) -> Iterable[bytes]:
        return [dsn.encode() for dsn in DSNS]

    def run(self, data: bytes) -> object:
        text = text_of(data)
        params = resolve(text, environ={"PGUSER": "u", "PGDATABASE": "d"})
        assert params.addresses
        assert "\0" not in "".join(params.startup_parameters().values())
        repr(params)
        return len(params.addresses), params.tls.mode, len(params.server_settings), params.load_balance_hosts
