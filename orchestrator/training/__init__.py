"""Train one student or teacher: losses, loop, resumable state, data loading."""
