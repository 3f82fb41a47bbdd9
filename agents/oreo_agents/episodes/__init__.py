"""Text to tokens to episodes: prompts, sampling, rollouts, records, tasks, collection."""
