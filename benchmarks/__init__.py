"""Speed and memory beside Hugging Face's own way, on the same weights in the same run: `python -m benchmarks`."""
