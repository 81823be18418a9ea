"""Everything that is measured: `python -m benchmarks NAME`, from the root of the checkout."""
