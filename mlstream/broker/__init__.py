"""The only importer of kafka: connections, fetch, publish, admin, and the embedded broker."""
