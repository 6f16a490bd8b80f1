"""Where connection parameters come from: one file for each source, and the table of all options.

Nothing in here touches the network. `headrace.params` puts the parts together.
"""
