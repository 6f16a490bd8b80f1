"""One small adapter for each driver, all behind the protocols of ``bench.peers.peer``."""
