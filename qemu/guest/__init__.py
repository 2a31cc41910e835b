"""Virtual machines for tests, with real drivers and IOMMUs: a developer's tool."""
