"""Fuzzing: random bytes for whatever reads what a server, a file or a user has written; see __main__."""
