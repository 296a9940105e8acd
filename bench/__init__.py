"""Benchmarks of Ringback's promised performance, against the running program."""
