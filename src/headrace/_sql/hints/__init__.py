"""Hints for the mistakes that programs make most often with queries and their arguments.

A hint is given only if the cause is certain: a wrong one is worse than none. It follows from the text of the query,
which the lexer splits, so that a string or a comment that looks like SQL does not mislead. Hints are made after an
error and cost nothing before. The server's own hint comes first.

Each subject has a module: `lists`, `placeholders`, `statements` and `names` for what a server refuses, `arguments` for
what cannot be sent.
"""
