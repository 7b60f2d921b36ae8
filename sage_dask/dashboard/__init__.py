"""What people see of the jobs of a cluster: the Pipelines page, metrics, and the news behind them."""
