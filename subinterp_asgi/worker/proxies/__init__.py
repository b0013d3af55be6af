"""What proxies say about connections and requests, parsed without any I/O."""
