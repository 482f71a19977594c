"""Batches, the loop, the schedule, the metrics and the artefact."""
