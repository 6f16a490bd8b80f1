"""The data that every workload reads: one schema, made by the server itself and the same in every run."""

from __future__ import annotations

import psycopg

SCHEMA = "headrace_bench"
BRANDS = 100
PRODUCTS = 1_000
SKUS = 100_000

WORDS = (
    "about above across answer apple better between bread bright carry centre change clear close cloud "
    "colour common corner cotton country cover cross dance deep door early earth east even every family "
    "field final fine fire first floor flower forest garden glass gold grass green happy heart heavy"
)

STOREFRONT = """
    CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL);
    CREATE TABLE product (
        product_id serial PRIMARY KEY, product_name text NOT NULL, brand_id int NOT NULL REFERENCES brand);
    CREATE TABLE product_color (product_color_id serial PRIMARY KEY, product_color_name text NOT NULL);
    CREATE TABLE product_size (product_size_id serial PRIMARY KEY, product_size_name text NOT NULL);
    CREATE TABLE sku (
        sku_id serial PRIMARY KEY,
        product_id int NOT NULL REFERENCES product,
        product_size_id int NOT NULL REFERENCES product_size,
        product_color_id int NOT NULL REFERENCES product_color);
    SELECT setseed(0.5);
    INSERT INTO product_color (product_color_name) VALUES ('Blue'), ('Black');
    INSERT INTO product_size (product_size_name) VALUES ('Small'), ('Medium'), ('Large');
    INSERT INTO brand (brand_name) SELECT 'brand ' || g FROM generate_series(1, {brands}) AS g;
    INSERT INTO product (product_name, brand_id)
        SELECT name.words, 1 + floor(random() * {brands})::int
        FROM generate_series(1, {products}) AS g,
             LATERAL (SELECT string_agg(word, ' ') AS words
                      FROM (SELECT word FROM unnest(string_to_array('{words}', ' ')) AS word
                            ORDER BY md5(word || g) LIMIT 10) AS ten) AS name;
    INSERT INTO sku (product_id, product_size_id, product_color_id)
        SELECT 1 + floor(random() * {products})::int,
               1 + floor(random() * 3)::int,
               1 + floor(random() * 2)::int
        FROM generate_series(1, {skus});
    CREATE INDEX ON sku (product_id);
"""

ROWS = """
    CREATE TABLE blob AS
        SELECT decode(repeat(md5(g::text), 64), 'hex') AS content
        FROM generate_series(1, 100) AS g;
    CREATE TABLE int_array AS
        SELECT array_agg(g * 100 + i ORDER BY i) AS numbers
        FROM generate_series(1, 100) AS g, generate_series(1, 100) AS i GROUP BY g;
    CREATE TYPE mood AS ENUM ('low', 'medium', 'high');
    CREATE DOMAIN amount AS int CHECK (VALUE >= 0);
    CREATE TABLE mixed AS
        SELECT g AS id, 'product ' || g AS name, (g * 1.25)::numeric(12, 2) AS price,
               timestamptz '2025-01-01' + g * interval '1 hour 1 microsecond' AS made_at,
               md5(g::text)::uuid AS code,
               jsonb_build_object('size', g, 'tags', jsonb_build_array('a', 'b')) AS details,
               g % 2 = 0 AS available, g / 7.0::float8 AS weight, date '2025-01-01' + g AS due,
               ARRAY['first', 'second ' || g, 'third'] AS labels
        FROM generate_series(1, 1000) AS g;
    CREATE UNLOGGED TABLE item (
        id int, code bigint, name text, weight float8, available boolean, due date, made_at timestamptz);
    CREATE UNLOGGED TABLE item_full (LIKE item);
    INSERT INTO item_full
        SELECT g, g * 10000000000, 'item number ' || g, g / 7.0::float8, g % 2 = 0,
               date '2025-01-01' + g % 1000,
               timestamptz '2025-01-01' + g * interval '1 second'
        FROM generate_series(1, {skus}) AS g;
    CREATE UNLOGGED TABLE sku_copy (sku_id int, product_id int, product_size_id int, product_color_id int);
"""


def create_data(dsn: str, families: dict[str, str]) -> None:
    """Create the schema anew and fill it; ``families`` maps a table's name to the query that makes its rows.

    Raises psycopg.Error where the server refuses; then nothing is left behind, because it is one transaction.
    """
    numbers = {"brands": BRANDS, "products": PRODUCTS, "skus": SKUS, "words": WORDS}
    with psycopg.connect(dsn) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
        connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        connection.execute(f"SET LOCAL search_path TO {SCHEMA}".encode())
        for script in (STOREFRONT, ROWS):
            connection.execute(script.format(**numbers).encode())
        for table, query in families.items():
            connection.execute(f"CREATE TABLE {table} AS {query}".encode())
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Hint bits and statistics now, not in somebody's first round.
        connection.execute(b"VACUUM ANALYZE")
        connection.execute(b"CHECKPOINT")


def drop_data(dsn: str) -> None:
    """Remove the schema."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
