"""INSERT of many records: `Connection.insert_records()`."""
