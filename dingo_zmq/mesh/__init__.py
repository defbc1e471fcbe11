"""The brokerless mesh: keys, sockets, discovery, and the callers and nodes that use them."""
