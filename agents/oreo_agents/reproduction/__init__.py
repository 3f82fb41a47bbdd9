"""The tables and figures of the paper, run again: which runs they take, what the paper says, what came out."""
