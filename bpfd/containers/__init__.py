"""From the cgroup of an event to its container."""
