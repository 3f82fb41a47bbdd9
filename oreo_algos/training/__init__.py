"""The one loop: schedule, optimisers, micro-batches, reference scores, metrics and warnings."""
