"""What one process does to talk with model servers: calls, slots, retries, keys, usage."""
