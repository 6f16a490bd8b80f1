class Reader:
    """A cursor over one message body that refuses to read past its end."""
