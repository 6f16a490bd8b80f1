"""Which codec a connection uses for an OID.

The types of a database are looked up once and kept in its TypeCatalogue, which the connections of a pool share. A
connection's TypeMap makes codecs for them when they are needed. Codecs set by the user replace these, also in arrays,
composites, ranges and domains of the type. Types with fixed OIDs need no lookup.

An OID is valid on one server only. The connections of a pool identify their server before they share a catalogue
(catalogues.py). A pooler may run each statement on a backend of another server; behind one, types are looked up again
for each use, unless the user says that there is one server.

A changed type takes effect in every TypeMap of the catalogue at once: their `version` changes, and plans of an earlier
version are made again.
"""

import weakref

from headrace._core.codecs.array cimport ArrayCodec, array_codec
from headrace._core.codecs.base cimport Codec, builtin
from headrace._core.codecs.composite cimport CompositeCodec
from headrace._core.codecs.custom cimport custom_codec, json_codec, plain_text
from headrace._core.codecs.domain cimport AliasCodec, alias_codec
from headrace._core.codecs.enum cimport enum_codec
from headrace._core.codecs.hstore cimport hstore_codec
from headrace._core.codecs.out_of_range cimport lenient
from headrace._core.codecs.ltree cimport ltree_codec
from headrace._core.codecs.range cimport MultirangeCodec, RangeCodec, multirange_codec, range_codec
from headrace._core.codecs.record cimport CodecSource, RecordCodec, record_codec
from headrace._core.codecs.format_variants cimport binary_variant, composite, text_variant
from headrace._core.codecs.text cimport text_fallback

from headrace._core.codecs import introspection
from headrace._core.codecs.custom import check_form
from headrace._core.codecs.type_names import builtin_oid

from headrace.exceptions import InterfaceError, OutdatedSchemaCacheError, UnsupportedClientFeatureError
from headrace.exceptions._values import shown

IDENTITY_QUERY = introspection.IDENTITY
IDENTITY_COLUMNS = introspection.IDENTITY_COLUMNS
INTROSPECTION_QUERY = introspection.QUERY
INTROSPECTION_COLUMNS = introspection.COLUMNS
TYPE_BY_NAME = introspection.TYPE_BY_NAME

# No type contains itself. This limit protects against a server that says otherwise.
cdef int MAX_DEPTH = 64

# Types of extensions whose binary form is their text (citextsend() calls textsend()).
cdef frozenset TEXT_SENDERS = frozenset(('textsend', 'varcharsend', 'bpcharsend', 'citextsend'))
# json and jsonb, which may be objects.
cdef frozenset JSON = frozenset((114, 3802))
cdef frozenset LTREE_SENDERS = frozenset(('ltree_send', 'lquery_send', 'ltxtq_send'))


cdef class TypeCatalogue:
    """The types of one database that were looked up: all but those with fixed OIDs."""

    def __cinit__(self):
        self.infos = {}
        self.outdated = set()
        self.maps = weakref.WeakSet()
        self.asked = {}

    def missing(self, oids) -> list:
        """Return the OIDs among these that must be looked up, each once."""
        cdef list wanted = []
        for oid in oids:
            if oid in wanted or builtin(oid) is not None:
                continue
            if oid not in self.infos or oid in self.outdated:
                wanted.append(oid)
        return wanted

    def learn(self, rows) -> None:
        """Process the rows of INTROSPECTION_QUERY."""
        cdef bint altered = False
        for info in introspection.type_infos(rows):
            former = self.infos.get(info.oid)
            altered = altered or (former is not None and former != info)
            self.infos[info.oid] = info
            self.outdated.discard(info.oid)
        if altered:
            self.changed()

    def forget(self, oids=None) -> None:
        """Have these types and their parts, or all types, looked up again when a statement that is prepared uses them.

        Until then the old definitions stay in use.
        """
        self.outdated.update(self.infos if oids is None else self.made_of(oids))

    def find(self, oid: int):
        """Return the TypeInfo of a type, or None."""
        return self.infos.get(oid)

    @property
    def in_use(self) -> bool:
        """True if a connection uses it."""
        return len(self.maps) > 0

    cdef set made_of(self, oids):
        """Return those of the types that were looked up, and all their parts that were."""
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

    # If several connections meet a type at the same time, one of them looks it up and the others wait. If that fails or
    # is cancelled, each of them looks it up itself.

    cdef list claim(self, list oids):
        """Return the OIDs that no connection is looking up. The caller does so, and then calls release() in any case."""
        cdef list claimed = [oid for oid in oids if oid not in self.asked]
        for oid in claimed:
            self.asked[oid] = []
        return claimed

    cdef int release(self, list oids) except -1:
        """End the lookup of claimed OIDs, successful or not, and call those that wait."""
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
    may run each statement on another backend. `unidentified`: the first lookup finds out whether that is so.
    `single_server`: all backends belong to one server. `json`: the JsonFunctions by which json and jsonb are objects.
    """

    def __cinit__(self, TypeCatalogue catalogue=None, *, bint lenient=False, bint pooled=False,
                  bint unidentified=False, bint single_server=False, json=None):
        self.version = 1
        self.catalogue = catalogue if catalogue is not None else TypeCatalogue()
        self.unseen = set()
        self._codecs = {}
        self._customs = {}
        self._names = {}
        self._lenient = lenient
        self._json = json
        self.pooled = pooled
        self.single_server = single_server
        self.unidentified = unidentified and not pooled and not single_server
        self.catalogue.maps.add(self)

    # --- types

    def share(self, TypeCatalogue catalogue not None) -> None:
        """Use this catalogue, together with other connections to the same database."""
        self.catalogues = None
        self.unidentified = False
        self.catalogue.maps.discard(self)
        self.catalogue = catalogue
        catalogue.maps.add(self)
        self._changed()

    def find_in(self, catalogues not None) -> None:
        """Share the catalogue of the server among these, once the server is identified."""
        if self.unidentified:
            self.catalogues = catalogues

    def identify(self, rows: list) -> None:
        """Process the row of IDENTITY_QUERY."""
        self.identified(rows)

    def stay_alone(self) -> None:
        """Keep a catalogue of its own: the server cannot identify itself."""
        self.catalogues = None
        self.unidentified = False

    cdef int identified(self, list rows) except -1:
        """Process the row of IDENTITY_QUERY: share the catalogue of the server, or note that a pooler answered.

        If a part of the identity is NULL, the connection keeps a catalogue of its own.
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
        """Continue behind a pooler that may use any backend: with a catalogue of its own, a copy of the present one."""
        cdef TypeCatalogue own = TypeCatalogue()
        self.pooled = True
        self.stay_alone()
        if not self.single_server:
            own.infos.update(self.catalogue.infos)
            self.share(own)
        return 0

    cdef bint asks_again(self) noexcept:
        """Return whether types are looked up for each use, because the next backend may belong to another server."""
        return self.pooled and not self.single_server

    cdef list foreign(self, oids):
        """Return the OIDs among these that are not fixed, each once."""
        cdef list found = []
        for oid in oids:
            if oid not in found and builtin(oid) is None:
                found.append(oid)
        return found

    cdef list to_look_up(self, oids):
        """Return the OIDs that must be looked up before a statement that was just described can be used, each once."""
        return self.foreign([*oids, *self.unseen]) if self.asks_again() else self.missing(oids)

    cdef Codec find(self, uint32_t oid):
        """Return the codec for the type, or None if the type has not been looked up."""
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
        """Return the codec for the type, or None if the type has not been looked up."""
        return self.find(oid)

    def missing(self, oids) -> list:
        """Return the OIDs that must be looked up before values of these types can be exchanged, each once."""
        if self.unseen:
            oids = [*oids, *self.unseen]
        return self.catalogue.missing(oids)

    def learn(self, asked: list, rows: list) -> None:
        """Process the rows of INTROSPECTION_QUERY for the OIDs `asked`. A type without a row is exchanged as text."""
        self.catalogue.learn(rows)
        self.unseen.difference_update(asked)

    cdef bint cures(self, object error) except -1:
        """Return whether a value that raised the error may be read after a lookup of the types in missing()."""
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

    def set_codec(self, oid: int, form: str, encoder, decoder, bint takes_lists=False) -> None:
        """Have values of a type converted by two functions; `form` is text, binary or tuple (see custom.pyx).

        With `takes_lists` a list is a value of the type, also as an element of an array, which then has one dimension.
        Raises InterfaceError if the type is unknown or does not accept such a codec.
        """
        cdef Codec base = self._known(oid)
        check_form(base, form)
        self._customs[oid] = (form, encoder, decoder, takes_lists)
        self._names[base.schema, base.name] = oid
        self._changed()

    def set_builtin(self, oid: int, codec_name: str, format=None) -> None:
        """Have values of a type exchanged as those of a built-in type, or as an hstore ('pg_contrib.hstore').

        `format`: 'text', 'binary', or None for the format of the built-in type's codec.
        Raises InterfaceError if there is no such codec, or not in that format.
        """
        cdef:
            Codec base = self._known(oid)
            Codec model
        if format not in (None, 'text', 'binary'):
            raise InterfaceError(f"invalid `format` argument, expected None, 'text' or 'binary', got {shown(format)}")
        if base.kind not in ('scalar', 'enum', 'domain', 'pseudo'):
            raise InterfaceError(f'cannot alias non-scalar type {base.schema}.{base.name}')
        if codec_name in ('pg_contrib.hstore', 'hstore'):
            model = hstore_codec(oid, base.name, base.schema)
        else:
            found = builtin_oid(codec_name)
            model = None if found is None else builtin(found)
        if model is not None and format == 'text':
            model = text_variant(model)
        elif model is not None and format == 'binary':
            model = binary_variant(model)
        if model is None or model.kind != 'scalar' or (format is not None and model.format != (format == 'binary')):
            format = format or 'text'
            raise InterfaceError(
                f'cannot alias {base.name} to {codec_name}: there is no {format} codec for {codec_name}')
        self._customs[oid] = (model,)
        self._names[base.schema, base.name] = oid
        self._changed()

    def reset_codec(self, oid: int) -> None:
        """Return to the default codec of the type; does nothing if no other was set."""
        if self._customs.pop(oid, None) is not None:
            self._changed()

    def clear(self) -> None:
        """Return to the default codecs of all types."""
        if self._customs:
            self._customs.clear()
            self._changed()

    def copy(self) -> TypeMap:
        """Return a map for another connection to the same database, with the same codecs set."""
        cdef TypeMap made = TypeMap(self.catalogue, lenient=self._lenient, pooled=self.pooled,
                                    single_server=self.single_server, json=self._json)
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
        """Return the default codec of the type; raises InterfaceError if the type was not looked up."""
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
                # An OID may belong to another type on the next backend.
                oid = self._names.get((codec.schema, codec.name), 0)
            custom = <tuple>self._customs.get(oid)
            if custom is None:
                return self._as_json(codec)
            if len(custom) == 1:
                return alias_codec(codec.oid, codec.name, codec.schema, 'scalar', self._as_json(custom[0]))
            return custom_codec(codec, custom[0], custom[1], custom[2], custom[3])
        finally:
            self._depth -= 1

    cdef Codec _as_json(self, Codec codec):
        """Return the codec, or one of objects if it is that of json or jsonb and objects are asked for."""
        if self._json is not None and codec.oid in JSON and codec is builtin(codec.oid):
            return json_codec(codec, self._json)
        return codec

    cdef Codec _plain(self, uint32_t oid):
        """Return the default codec of the type, or None; codecs that were set apply to its parts."""
        cdef Codec codec = builtin(oid)
        if codec is not None:
            return self._rebuilt(codec)
        info = self.catalogue.infos.get(oid)
        return None if info is None else self._built(info)

    cdef Codec _part(self, uint32_t oid):
        """Return the codec of a part of another type."""
        cdef Codec codec = self.find(oid)
        return codec if codec is not None else text_fallback(oid, f'type with OID {oid}', '')

    cdef Codec _rebuilt(self, Codec codec):
        """Return a built-in codec, made anew if one of its parts has another codec here."""
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
        """Make a codec for a type that was looked up."""
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
