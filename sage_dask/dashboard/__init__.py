"""What people see of the jobs of a cluster: the Pipelines page, metrics, and what they rest on."""
