"""Which models are good enough for the cost: cross-validated on recorded outcomes."""
