"""Speed and memory side by side with transformers and peft, in one run on one machine: `python -m benchmarks`."""
