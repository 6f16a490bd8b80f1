"""All targets by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.fuzz.target import Target
from tests.fuzz.targets.arrow_columns import ArrowColumns
from tests.fuzz.targets.arrow_producers import ArrowProducers
from tests.fuzz.targets.certificate import Certificate
from tests.fuzz.targets.codecs import Codecs
from tests.fuzz.targets.dsn import Dsn
from tests.fuzz.targets.files import Passfile, Servicefile
from tests.fuzz.targets.lexer import Lexer
from tests.fuzz.targets.named_parameters import NamedParameters
from tests.fuzz.targets.scram import Scram
from tests.fuzz.targets.session import SessionStates
from tests.fuzz.targets.startup import StartOfSession

TARGETS: Mapping[str, type[Target]] = MappingProxyType({
    target.name: target
    for target in (
        SessionStates, Codecs, ArrowColumns, ArrowProducers, StartOfSession, Scram, Certificate, Dsn, Passfile,
        Servicefile, Lexer, NamedParameters,
    )
})  # fmt: skip
