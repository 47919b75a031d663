"""Servers that speak each provider's API, for tests: proven faithful by the providers' own packages."""
