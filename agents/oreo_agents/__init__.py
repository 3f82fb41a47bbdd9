"""Where environments and algorithms meet: transformers agents, rollouts, search, evaluation, the command line."""
