"""What people see of a cluster's jobs: the Pipelines page, metrics, and the news they are made of."""
