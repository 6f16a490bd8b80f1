"""What is measured: each file holds the workloads of one subject."""
