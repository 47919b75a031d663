"""The workflows that come with Pointsman: a folder each, which configurations name as `NAME: ready`."""
