"""Which codec a connection uses for an OID.

What the types of a database are made of is learnt once and kept in its TypeCatalogue, which the connections of a pool
share. A connection's TypeMap makes codecs of that as they are needed, and puts the codecs its user has set in their
place, so that arrays, composites, ranges and domains of a type follow the type. Types with fixed OIDs are known without
asking.

An OID is what one server makes of it. A pool's connections find out which server they have reached before they share
(catalogues.py). Behind a pooler that may hand each statement to a backend of another server nothing holds for longer
than one statement: its types are looked up again for each use, unless the operator says that there is one server.

A type altered or looked up anew takes effect in every TypeMap of the catalogue at once: their `version` changes, and
plans made with an earlier one are made again.
"""

import weakref

from headrace._core.codecs.array cimport ArrayCodec, array_codec
from headrace._core.codecs.base cimport Codec, builtin
from headrace._core.codecs.composite cimport CompositeCodec
from headrace._core.codecs.custom cimport custom_codec, plain_text
from headrace._core.codecs.domain cimport AliasCodec, alias_codec
from headrace._core.codecs.enum cimport enum_codec
from headrace._core.codecs.hstore cimport hstore_codec
from headrace._core.codecs.out_of_range cimport lenient
from headrace._core.codecs.ltree cimport ltree_codec
from headrace._core.codecs.range cimport MultirangeCodec, RangeCodec, multirange_codec, range_codec
from headrace._core.codecs.record cimport CodecSource, RecordCodec, record_codec
from headrace._core.codecs.format_variants cimport composite
from headrace._core.codecs.text cimport text_fallback

from headrace._core.codecs import introspection
from headrace._core.codecs.custom import check_form
from headrace._core.codecs.type_names import builtin_oid

from headrace.exceptions import InterfaceError, OutdatedSchemaCacheError, UnsupportedClientFeatureError

IDENTITY_QUERY = introspection.IDENTITY
IDENTITY_COLUMNS = introspection.IDENTITY_COLUMNS
INTROSPECTION_QUERY = introspection.QUERY
INTROSPECTION_COLUMNS = introspection.COLUMNS
TYPE_BY_NAME = introspection.TYPE_BY_NAME

# No type holds itself, so this is met by none; it ends what a server that claims otherwise would start.
cdef int MAX_DEPTH = 64

# Types of extensions whose binary form is their text (citextsend() calls textsend()).
cdef frozenset TEXT_SENDERS = frozenset(('textsend', 'varcharsend', 'bpcharsend', 'citextsend'))
cdef frozenset LTREE_SENDERS = frozenset(('ltree_send', 'lquery_send', 'ltxtq_send'))


cdef class TypeCatalogue:
    """What is known of the types of one database beyond those with fixed OIDs."""

    def __cinit__(self):
        self.infos = {}
        self.outdated = set()
        self.maps = weakref.WeakSet()
        self.asked = {}

    def missing(self, oids) -> list:
        """The OIDs among these that must be looked up, each once."""
        cdef list wanted = []
        for oid in oids:
            if oid in wanted or builtin(oid) is not None:
                continue
            if oid not in self.infos or oid in self.outdated:
                wanted.append(oid)
        return wanted

    def learn(self, rows) -> None:
        """Take the rows of INTROSPECTION_QUERY."""
        cdef bint altered = False
        for info in introspection.type_infos(rows):
            former = self.infos.get(info.oid)
            altered = altered or (former is not None and former != info)
            self.infos[info.oid] = info
            self.outdated.discard(info.oid)
        if altered:
            self.changed()

    def forget(self, oids=None) -> None:
        """Have types looked up again when they are next met in a statement that is prepared: these and all they are
        made of, or all there are.

        Until then they are taken to be what they were.
        """
        self.outdated.update(self.infos if oids is None else self.made_of(oids))

    def find(self, oid: int):
        """The TypeInfo of a type, or None."""
        return self.infos.get(oid)

    @property
    def in_use(self) -> bool:
        """Whether a connection learns by it."""
        return len(self.maps) > 0

    cdef set made_of(self, oids):
        """Those of the types that were looked up, and all they are made of that was."""
        cdef:
            set found = set()
            list left = list(oids)
        while left:
            oid = left.pop()
            info = self.infos.get(oid)
            if info is not None and oid not in found:
                found.add(oid)
                left += (info.element, info.base, info.subtype, info.range, *info.attribute_types)
        return found

    # A type is looked up by one of the connections that meet it at once. The others wait; and should the one fail or be
    # given up, each asks for itself.

    cdef list claim(self, list oids):
        """Those that nobody is asking for: the caller does now, and calls release() when it is over."""
        cdef list claimed = [oid for oid in oids if oid not in self.asked]
        for oid in claimed:
            self.asked[oid] = []
        return claimed

    cdef int release(self, list oids) except -1:
        """What was claimed has been asked for, or is given up: call those that wait."""
        for oid in oids:
            for call in self.asked.pop(oid, ()):
                call()
        return 0

    cdef int changed(self) except -1:
        cdef TypeMap types
        for types in self.maps:
            types._changed()
        return 0


cdef class TypeMap(CodecSource):
    """The codecs of one connection, by OID.

    `lenient`: dates and times that Python cannot hold are read as text instead of raising an error. `pooled`: a pooler
    may hand each statement to another backend. `unidentified`: whether that is so is to be found out.
    `single_server`: all backends are of one server.
    """

    def __cinit__(self, TypeCatalogue catalogue=None, *, bint lenient=False, bint pooled=False,
                  bint unidentified=False, bint single_server=False):
        self.version = 1
        self.catalogue = catalogue if catalogue is not None else TypeCatalogue()
        self.unseen = set()
        self._codecs = {}
        self._customs = {}
        self._names = {}
        self._lenient = lenient
        self.pooled = pooled
        self.single_server = single_server
        self.unidentified = unidentified and not pooled and not single_server
        self.catalogue.maps.add(self)

    # --- types

    def share(self, TypeCatalogue catalogue not None) -> None:
        """Learn together with all connections to the same database that share this catalogue."""
        self.catalogues = None
        self.unidentified = False
        self.catalogue.maps.discard(self)
        self.catalogue = catalogue
        catalogue.maps.add(self)
        self._changed()

    def find_in(self, catalogues not None) -> None:
        """Share the catalogue of the server among these, once it is known which one it is."""
        if self.unidentified:
            self.catalogues = catalogues

    def identify(self, rows: list) -> None:
        """Take the row of IDENTITY_QUERY."""
        self.identified(rows)

    def stay_alone(self) -> None:
        """Ask the server no more which one it is: it cannot say."""
        self.catalogues = None
        self.unidentified = False

    cdef int identified(self, list rows) except -1:
        """Take the row of IDENTITY_QUERY: join those that have reached the same server, or see that a pooler answers.

        A server that does not tell all of it shares with nobody.
        """
        cdef:
            object catalogues = self.catalogues
            TypeCatalogue found
        if not self.unidentified:
            return 0
        self.stay_alone()
        for system, started, database, pid in rows:
            if pid != self.backend_pid:
                self.pooled = True
            elif catalogues is not None and None not in (system, started, database):
                found = catalogues.of(introspection.ServerIdentity(system, started, database))
                found.infos = {**self.catalogue.infos, **found.infos}
                self.share(found)
        return 0

    cdef int leave(self) except -1:
        """A pooler hands statements to any backend: learn alone from here on, beginning with what is known."""
        cdef TypeCatalogue own = TypeCatalogue()
        self.pooled = True
        self.stay_alone()
        if not self.single_server:
            own.infos.update(self.catalogue.infos)
            self.share(own)
        return 0

    cdef bint asks_again(self) noexcept:
        """Whether types are looked up for each use, because the next backend may be of another server."""
        return self.pooled and not self.single_server

    cdef list foreign(self, oids):
        """The OIDs among these that do not mean the same on every server, each once."""
        cdef list found = []
        for oid in oids:
            if oid not in found and builtin(oid) is None:
                found.append(oid)
        return found

    cdef list to_look_up(self, oids):
        """The OIDs that must be looked up before a statement that was just described can be used, each once."""
        return self.foreign([*oids, *self.unseen]) if self.asks_again() else self.missing(oids)

    cdef Codec find(self, uint32_t oid):
        """The codec for the type, or None where its type has not been learnt yet."""
        cdef Codec codec = <Codec>self._codecs.get(oid)
        if codec is None:
            codec = self._resolve(oid)
            if codec is not None:
                self._codecs[oid] = codec
        return codec

    cdef int unknown(self, uint32_t oid) except -1:
        self.unseen.add(oid)
        return 0

    def codec(self, oid: int):
        """The codec for the type, or None where its type has not been learnt yet."""
        return self.find(oid)

    def missing(self, oids) -> list:
        """The OIDs that must be looked up before values of these types can be exchanged, each once."""
        if self.unseen:
            oids = [*oids, *self.unseen]
        return self.catalogue.missing(oids)

    def learn(self, asked: list, rows: list) -> None:
        """Take the rows of INTROSPECTION_QUERY for the OIDs `asked`; what it found nothing of is passed as text."""
        self.catalogue.learn(rows)
        self.unseen.difference_update(asked)

    cdef bint cures(self, object error) except -1:
        """Whether a value, of which decoding raised the error, may be read once types are looked up: then these are missing."""
        cdef uint32_t oid
        if isinstance(error, OutdatedSchemaCacheError):
            oid = getattr(error, 'type_oid', 0)
            if oid:
                self.catalogue.outdated.add(oid)
                self.unseen.add(oid)
        elif not isinstance(error, UnsupportedClientFeatureError):
            return False
        return len(self.unseen) > 0

    # --- codecs set by the user

    def set_codec(self, oid: int, form: str, encoder, decoder) -> None:
        """Have values of a type converted by two functions; `form` is text, binary or tuple (see custom.pyx).

        Raises InterfaceError where nothing is known of the type or it does not take such a codec.
        """
        cdef Codec base = self._known(oid)
        check_form(base, form)
        self._customs[oid] = (form, encoder, decoder)
        self._names[base.schema, base.name] = oid
        self._changed()

    def set_builtin(self, oid: int, codec_name: str, format=None) -> None:
        """Have values of a type exchanged as those of a built-in type, or as an hstore ('pg_contrib.hstore').

        `format`: 'text', 'binary', or None for what the built-in type's codec works in.
        Raises InterfaceError where there is no such codec, or not in that format.
        """
        cdef:
            Codec base = self._known(oid)
            Codec model
        if format not in (None, 'text', 'binary'):
            raise InterfaceError(f"invalid `format` argument, expected None, 'text' or 'binary', got {format!r}")
        if base.kind not in ('scalar', 'enum', 'domain', 'pseudo'):
            raise InterfaceError(f'cannot alias non-scalar type {base.schema}.{base.name}')
        if codec_name in ('pg_contrib.hstore', 'hstore'):
            model = hstore_codec(oid, base.name, base.schema)
        else:
            found = builtin_oid(codec_name)
            model = None if found is None else builtin(found)
        if model is not None and format == 'text' and model.python == 'str':
            model = plain_text(model, 0)
        if model is None or model.kind != 'scalar' or (format is not None and model.format != (format == 'binary')):
            format = format or 'text'
            raise InterfaceError(
                f'cannot alias {base.name} to {codec_name}: there is no {format} codec for {codec_name}')
        self._customs[oid] = (model,)
        self._names[base.schema, base.name] = oid
        self._changed()

    def reset_codec(self, oid: int) -> None:
        """Go back to the codec the type has of itself; nothing happens where none was set."""
        if self._customs.pop(oid, None) is not None:
            self._changed()

    def clear(self) -> None:
        """Go back to the codecs that all types have of themselves."""
        if self._customs:
            self._customs.clear()
            self._changed()

    def copy(self) -> TypeMap:
        """A map for another connection of the same database, with the same codecs set."""
        cdef TypeMap made = TypeMap(self.catalogue, lenient=self._lenient, pooled=self.pooled,
                                    single_server=self.single_server)
        made._customs.update(self._customs)
        made._names.update(self._names)
        return made

    @property
    def customised(self) -> list:
        """The OIDs of the types whose codecs were set."""
        return list(self._customs)

    cdef int _changed(self) except -1:
        self._codecs.clear()
        self.version += 1
        return 0

    cdef Codec _known(self, uint32_t oid):
        """The codec that the type has of itself."""
        cdef Codec codec = self._plain(oid)
        if codec is None:
            raise InterfaceError(f'nothing is known of a type with OID {oid}: it must be looked up first')
        return codec

    # --- making codecs

    cdef Codec _resolve(self, uint32_t oid):
        cdef:
            Codec codec
            tuple custom
        if self._depth >= MAX_DEPTH:
            return text_fallback(oid, f'type with OID {oid}', '')
        self._depth += 1
        try:
            codec = self._plain(oid)
            if codec is None:
                return None
            if self.asks_again() and oid in self.catalogue.infos:
                # The OID that the type had on one backend may be another type's on the next.
                oid = self._names.get((codec.schema, codec.name), 0)
            custom = <tuple>self._customs.get(oid)
            if custom is None:
                return codec
            if len(custom) == 1:
                return alias_codec(codec.oid, codec.name, codec.schema, 'scalar', custom[0])
            return custom_codec(codec, custom[0], custom[1], custom[2])
        finally:
            self._depth -= 1

    cdef Codec _plain(self, uint32_t oid):
        """The codec that the type has of itself; codecs that were set take part in what it is made of."""
        cdef Codec codec = builtin(oid)
        if codec is not None:
            return self._rebuilt(codec)
        info = self.catalogue.infos.get(oid)
        return None if info is None else self._built(info)

    cdef Codec _part(self, uint32_t oid):
        """The codec of what another type is made of."""
        cdef Codec codec = self.find(oid)
        return codec if codec is not None else text_fallback(oid, f'type with OID {oid}', '')

    cdef Codec _rebuilt(self, Codec codec):
        """A built-in codec, made anew where what it is made of has another codec here."""
        cdef:
            Codec part
            ArrayCodec array
        if isinstance(codec, ArrayCodec):
            part = self._part((<ArrayCodec>codec).element.oid)
            if part is not (<ArrayCodec>codec).element:
                array = array_codec(codec.oid, codec.name, codec.schema, part, (<ArrayCodec>codec).delimiter)
                array.lower = (<ArrayCodec>codec).lower
                return array
        elif isinstance(codec, RangeCodec):
            part = self._part((<RangeCodec>codec).subtype.oid)
            if part is not (<RangeCodec>codec).subtype:
                return range_codec(codec.oid, codec.name, codec.schema, part)
        elif isinstance(codec, MultirangeCodec):
            part = self._part((<MultirangeCodec>codec).range.oid)
            if part is not (<MultirangeCodec>codec).range:
                return multirange_codec(codec.oid, codec.name, codec.schema, <RangeCodec>part)
        elif isinstance(codec, RecordCodec):
            return record_codec(self)
        elif self._lenient:
            return lenient(codec)
        return codec

    cdef Codec _built(self, object info):
        """A codec for a type that was looked up."""
        cdef:
            uint32_t oid = info.oid
            str name = info.name
            str schema = info.schema
            str kind = info.kind
            Codec part
        if info.element:
            part = self._part(info.element)
            return array_codec(oid, part.name + '[]', schema, part, <char>ord(info.delimiter))
        if kind == 'e':
            return enum_codec(oid, name, schema)
        if kind == 'd' and info.base:
            return alias_codec(oid, name, schema, 'domain', self._part(info.base))
        if kind == 'c':
            attributes = tuple([self._part(attribute) for attribute in info.attribute_types])
            return composite(oid, name, schema, info.attribute_names, attributes)
        if kind == 'r' and info.subtype:
            return range_codec(oid, name, schema, self._part(info.subtype))
        if kind == 'm' and info.range:
            part = self._part(info.range)
            if isinstance(part, RangeCodec):
                return multirange_codec(oid, name, schema, <RangeCodec>part)
        part = text_fallback(oid, name, schema)
        if kind == 'b' and info.binary:
            if info.send in TEXT_SENDERS:
                return plain_text(part, 1)
            if info.send in LTREE_SENDERS:
                return ltree_codec(part)
        return part
