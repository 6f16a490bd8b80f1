"""The sources of connection parameters: one module for each source, and the table of all options.

Nothing in here touches the network. `headrace._connect.params.resolve` puts the parts together.
"""
