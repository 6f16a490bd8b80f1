"""headrace's benchmark: every driver on the same work, in one run, on one server.

``python -m bench`` prints the table, ``python -m bench.profile`` runs one workload in a loop for a profiler,
``python -m bench.instructions`` counts the instructions of one. ``python -m bench.service`` measures the storefront's
service, ``python -m bench.export`` its export, and ``python -m bench.batch_memory`` the memory of its large batches.
"""
