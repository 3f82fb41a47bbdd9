"""What lies on disk: episode buffers, checkpoints, and what tells both apart."""
