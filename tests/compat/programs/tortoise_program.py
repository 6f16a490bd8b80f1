"""A program on Tortoise ORM's asyncpg backend with headrace in the place of asyncpg.

python tortoise_program.py host port user database
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import sys

import headrace

headrace.install_as_asyncpg()

from tortoise import Tortoise, fields  # noqa: E402
from tortoise.exceptions import IntegrityError, OperationalError  # noqa: E402
from tortoise.models import Model  # noqa: E402
from tortoise.transactions import in_transaction  # noqa: E402


class Brand(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(50, unique=True)
    products: fields.ReverseRelation[Product]


class Product(Model):
    id = fields.UUIDField(primary_key=True)
    brand: fields.ForeignKeyRelation[Brand] = fields.ForeignKeyField("models.Brand", related_name="products")
    price = fields.DecimalField(10, 2)
    details: fields.JSONField[dict[str, object]] = fields.JSONField(default=dict)
    made_at = fields.DatetimeField()
    picture = fields.BinaryField(null=True)


def check_cause(error: Exception, expected: type[Exception]) -> None:
    """Find the driver's error behind the library's."""
    assert isinstance(error.__cause__, expected), error.__cause__


async def use() -> None:
    """Create, select with relations, change, delete, in bulk and at once; transactions, savepoints, errors."""
    made_at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    first = await Brand.create(name="first")
    await Product.create(
        brand=first, price=decimal.Decimal("12.50"), details={"k": [1, None]}, made_at=made_at, picture=b"\0\xff"
    )
    await Product.bulk_create([Product(brand=first, price=decimal.Decimal(n), made_at=made_at) for n in range(100)])
    dear = await Product.filter(price__gt=12, price__lt=13).order_by("price").prefetch_related("brand")
    assert [each.price for each in dear] == [decimal.Decimal("12.50")]
    assert (dear[0].details, dear[0].made_at, dear[0].picture) == ({"k": [1, None]}, made_at, b"\0\xff")
    assert dear[0].brand.name == "first"
    assert set(await asyncio.gather(*(Product.all().count() for _ in range(20)))) == {101}
    assert await Product.filter(price__lt=50).delete() == 51
    await Brand.filter(id=first.id).update(name="changed")

    try:
        async with in_transaction():
            await Brand.create(name="undone")
            raise LookupError
    except LookupError:
        pass
    async with in_transaction():
        await Brand.create(name="kept")
        try:
            async with in_transaction():
                await Brand.create(name="changed")
        except IntegrityError as error:
            check_cause(error, headrace.UniqueViolationError)
        else:
            raise AssertionError("the second brand of that name was taken")
    names = [brand.name for brand in await Brand.all().order_by("name")]
    assert names == ["changed", "kept"], names

    connection = Tortoise.get_connection("default")
    try:
        await connection.execute_query("SELECT * FROM missing")
    except OperationalError as error:
        check_cause(error, headrace.UndefinedTableError)
    else:
        raise AssertionError("a missing table was found")


async def main(host: str, port: str, user: str, database: str) -> None:
    credentials = {"host": host, "port": int(port), "user": user, "password": None, "database": database, "maxsize": 5}
    config = {
        "connections": {"default": {"engine": "tortoise.backends.asyncpg", "credentials": credentials}},
        "apps": {"models": {"models": ["__main__"], "default_connection": "default"}},
        "use_tz": True,
    }
    await Tortoise.init(config)
    try:
        await Tortoise.generate_schemas()
        await use()
    finally:
        await Tortoise.close_connections()
    assert sys.modules["asyncpg"] is headrace
    print("done")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
