"""`tarmac health`: is every node fit to train, before an hour of a thousand others is spent on one that is not."""

from pipeline.stages.health.check import check_health

__all__ = ["check_health"]
