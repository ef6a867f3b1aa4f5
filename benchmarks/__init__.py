"""Compare the methods with other libraries: ``python -m benchmarks METHOD``."""
