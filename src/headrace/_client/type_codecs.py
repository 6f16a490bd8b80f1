"""Descriptions of a program's own codecs, for all connections of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from headrace._client.introspection import extension_types
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._core.codecs.typemap import TypeMap


class TakesCodecs(Protocol):
    """The methods of `Connection` that set codecs."""

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[[Any], Any] | None,
        decoder: Callable[[Any], Any] | None,
        format: Literal["text", "binary", "tuple"] = "text",
    ) -> None: ...

    async def set_builtin_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        codec_name: str,
        format: Literal["text", "binary"] | None = None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeCodec:
    """A codec for a type, to be set on every connection of a pool: `create_pool(..., codecs=[TypeCodec(...)])`.

    It has either two functions, as `Connection.set_type_codec()` takes them, or the name of a built-in codec, as
    `set_builtin_type_codec()` takes it. `format` None stands for 'text' with functions, and for the format of the
    built-in codec with a name. Raises InterfaceError for anything else.
    """

    typename: str
    schema: str = "public"
    encoder: Callable[[Any], Any] | None = None
    decoder: Callable[[Any], Any] | None = None
    codec_name: str | None = None
    format: Literal["text", "binary", "tuple"] | None = None

    def __post_init__(self) -> None:
        functions = [name for name in ("encoder", "decoder") if getattr(self, name) is not None]
        if self.codec_name is not None and functions:
            raise InterfaceError(
                f"a codec for {shown(self.typename)} is expected to have encoder and decoder, or codec_name: "
                f"got codec_name and {' and '.join(functions)}"
            )
        if self.codec_name is None and len(functions) < 2:
            raise InterfaceError(
                f"a codec for {shown(self.typename)} is expected to have both encoder and decoder, or codec_name: "
                f"got {' and '.join(functions) or 'none of them'}"
            )

    async def set_on(self, connection: TakesCodecs) -> None:
        """Set the codec on a connection; raises as set_type_codec() and set_builtin_type_codec() do."""
        if self.codec_name is not None:
            await connection.set_builtin_type_codec(
                self.typename,
                schema=self.schema,
                codec_name=self.codec_name,
                format=self.format,  # type: ignore[arg-type]
            )
            return
        assert self.encoder is not None
        assert self.decoder is not None
        await connection.set_type_codec(
            self.typename,
            schema=self.schema,
            encoder=self.encoder,
            decoder=self.decoder,
            format=self.format if self.format is not None else "text",
        )


class Extension:
    """The base of the extensions in `headrace.extensions`: codecs for the types that `CREATE EXTENSION` has made."""

    extension: ClassVar[str]
    """The name of the extension, as CREATE EXTENSION takes it."""
    typenames: ClassVar[tuple[str, ...]]
    """The types that get a codec. An older version of the extension may lack some."""

    @property
    def _is_whole(self) -> bool:
        """True if it says which types it is for."""
        return hasattr(self, "extension") and hasattr(self, "typenames")

    async def register(self, connection: Any) -> None:
        """Have values of the extension's types converted on a connection, also in arrays, composites, ranges and COPY.

        The types are found in whatever schema the extension was installed. It costs one round trip, and another one
        if nothing is known of the types yet; each may take the connection's `command_timeout`. Raises
        UnsupportedServerFeatureError if the extension is not installed in the database, InterfaceError for anything
        but a connection, and TypeError for an Extension() itself, which is only the base of the others.
        """
        if not self._is_whole:
            raise TypeError(f"{type(self).__name__}() has no types: write Hstore(), Pgvector() or Postgis()")
        driver = getattr(connection, "_driver", None)
        if driver is None:
            raise InterfaceError(
                f"register() is expected to get a connection, got {type(connection).__name__}",
                hint=f"For a pool: create_pool(codecs=[{type(self).__name__}()]).",
            )
        connection._check_open()
        found = await extension_types(driver, self.extension, self.typenames, connection._command_timeout)
        for name, oid in found.items():
            self._set(driver.session.types, name, oid)
        driver.session.statements.forget_all()

    set_on = register

    def _set(self, types: TypeMap, name: str, oid: int) -> None:
        """Set the codec of one type."""
        raise NotImplementedError


def checked_codecs(codecs: Iterable[TypeCodec | Extension]) -> tuple[TypeCodec | Extension, ...]:
    """Return the codecs as a tuple; raises TypeError for anything but a TypeCodec or an extension."""
    given = tuple(codecs) if isinstance(codecs, Iterable) and not isinstance(codecs, (str, bytes)) else (codecs,)
    for codec in given:
        if not isinstance(codec, (TypeCodec, Extension)) or (isinstance(codec, Extension) and not codec._is_whole):
            remedy = ""
            if isinstance(codec, type) and issubclass(codec, (TypeCodec, Extension)) and codec is not Extension:
                remedy = f": write {codec.__name__}({'...' if codec is TypeCodec else ''})"
            raise TypeError(
                "codecs is expected to be a list of headrace.TypeCodec(...) and of headrace.extensions, such as "
                f"Pgvector(), got {shown(codec)}{remedy}"
            )
    return given
